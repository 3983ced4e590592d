"""Tokens of two prompts that stand for each other, and attention rewritten by them."""

import pytest
import torch

from counterlens.core.conditioning.token_alignment import Tokens, align, matched, rewritten, tokens_of
from counterlens.core.errors import UsageError
from counterlens.core.testing.tokenizers import clip_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return clip_tokenizer(tmp_path_factory.mktemp("tokenizer"))  # a letter is a token


def states(seed=0, length=77, width=8):
    return torch.randn(length, width, generator=torch.Generator().manual_seed(seed))


def maps_of(seed, heads):
    """Attention [1,heads,6,77]."""
    return torch.softmax(2 * torch.randn(1, heads, 6, 77, generator=torch.Generator().manual_seed(seed)), -1)


def test_words_are_where_the_tokenizer_says(tokenizer):
    found = tokens_of(tokenizer, "A  kiki, x", 77)
    assert found.words == ("a", "kiki", ",", "x")
    assert found.places == ((1,), (2, 3, 4, 5), (6,), (7,))
    assert (found.first, found.end) == (1, 8)


def test_a_prompt_that_the_encoder_does_not_read_whole_is_refused(tokenizer):
    """C9: positions of long prompts ran past the end of the encoding."""
    tokens_of(tokenizer, "x" * 75, 77)
    with pytest.raises(UsageError, match=r"has 78 tokens and the text encoder reads 77: shorten it"):
        tokens_of(tokenizer, "x" * 76, 77)


def aligned(tokenizer, source, target, here=None, there=None):
    a, b = (tokens_of(tokenizer, text, 77) for text in (source, target))
    return a, b, align(a, b, states(1) if here is None else here, states(2) if there is None else there)


def test_all_tokens_of_a_word_are_filled_and_the_rest_is_shifted(tokenizer):
    """C2: only the last token of a target word of several tokens was filled, the others were zero."""
    a, b, found = aligned(tokenizer, "a cat sat", "a kitten sat")
    assert torch.equal(found.carry.sum(1), torch.ones(77)) and not found.fresh.any()
    maps = maps_of(3, 5)
    new = rewritten(maps, torch.zeros_like(maps), found.carry[None], found.fresh[None])
    cat, kitten = list(a.places[1]), list(b.places[1])
    share = maps[..., cat].sum(-1, keepdim=True) / len(kitten)
    torch.testing.assert_close(new[..., kitten], share.expand(-1, -1, -1, len(kitten)))
    torch.testing.assert_close(new[..., list(b.places[2])], maps[..., list(a.places[2])])
    torch.testing.assert_close(new[..., b.end], maps[..., a.end])


def test_every_head_is_rewritten(tokenizer):
    """C1: only the second half of the heads was."""
    _, _, found = aligned(tokenizer, "a cat", "a dove")
    maps = maps_of(3, 8)
    new = rewritten(maps, maps, found.carry[None], found.fresh[None])
    assert ((new - maps).abs().amax((0, 2, 3)) > 0.01).all()
    for head in range(8):
        torch.testing.assert_close(new[:, head], maps[:, head] @ found.carry)


@pytest.mark.parametrize("target", ["a dove", "an old grey cat", "a cat", "cat", "something else", ""])
def test_rows_sum_to_one(tokenizer, target):
    """C4: rewritten rows did not."""
    _, _, found = aligned(tokenizer, "a red cat", target)
    maps, own = (maps_of(k, 2) for k in (3, 4))
    new = rewritten(maps, own, found.carry[None], found.fresh[None])
    torch.testing.assert_close(new.sum(-1), torch.ones(1, 2, 6))
    assert (new >= 0).all()


def test_a_word_goes_to_the_word_that_it_resembles(tokenizer):
    """C3: a softmax of the distance gave the unrelated word 0.73 and the same word 0.27."""
    similar = torch.tensor([[0.9, 0.2, 0.3], [0.2, 0.1, 0.8]])
    assert sorted(matched(similar)) == [(0, 0), (0, 1), (1, 2)]
    assert sorted(matched(similar.T)) == [(0, 0), (1, 0), (2, 1)]
    here, there = states(1), states(2)
    a, b = tokens_of(tokenizer, "hot dog", 77), tokens_of(tokenizer, "fat red cow", 77)
    for word, like in ((0, 1), (1, 1), (2, 0)):  # fat and red mean dog, cow means hot
        there[list(b.places[word])] = here[list(a.places[like])].mean(0)
    found = align(a, b, here, there)
    assert found.carry[list(a.places[0])][:, list(b.places[2])].sum() == pytest.approx(3)
    assert found.carry[list(a.places[1])][:, list(b.places[0] + b.places[1])].sum() == pytest.approx(3)


def test_the_assignment_is_the_best_of_all():
    similar = torch.tensor([[0.9, 0.8], [0.85, 0.1]])
    assert sorted(matched(similar)) == [(0, 1), (1, 0)], "greedy would take 0.9 and 0.1"


def test_articles_go_with_articles(tokenizer):
    a, b, found = aligned(tokenizer, "a cat", "an Egyptian cat")
    assert found.carry[list(a.places[0])][:, list(b.places[0])].sum() == pytest.approx(1)
    assert found.fresh[list(b.places[1])].all(), "a new word keeps its own attention"
    assert found.fresh.sum() == len(b.places[1])


def test_the_same_prompt_is_the_identity(tokenizer):
    _, _, found = aligned(tokenizer, "a red cat", "a red cat")
    assert torch.equal(found.carry, torch.eye(77)) and not found.fresh.any()
    assert isinstance(aligned(tokenizer, "", "")[0], Tokens)
