"""Learned words: where they go in a prompt, that they learn, and that only their own encoder takes them."""

import pytest
import torch

from counterlens.core.conditioning.learned_words import encoded, load_words, start
from counterlens.core.errors import PlanError, UsageError
from counterlens.core.models.pool import Key
from counterlens.core.plugin.registry import load_registry
from counterlens.core.testing.tiny import tiny

REGISTRY = load_registry(third_party=False)
QUICK = "textual-inversion steps=40 batch=16 lr=0.02 vectors=2"


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return lambda family, seed=0: tiny(family, root / f"{family}{seed}", seed=seed)


def opened(folder):
    return REGISTRY.family("stable-diffusion").load(Key(str(folder)))


def test_a_prompt_without_slots_is_the_stock_prompt(folder_of):
    pipeline = opened(folder_of("stable-diffusion"))
    theirs, _ = pipeline.condition(torch.zeros(1, 3, 16, 16), ["a cat"], ("text",))
    torch.testing.assert_close(encoded(pipeline, "a cat", {}), theirs["text"], atol=1e-5, rtol=0)


def test_a_slot_with_a_words_own_row_is_that_word_and_has_a_gradient(folder_of):
    pipeline = opened(folder_of("stable-diffusion"))
    row = start(pipeline, "x", 1).requires_grad_()
    made = encoded(pipeline, "a {word}", {"word": row})
    torch.testing.assert_close(made, encoded(pipeline, "a x", {}), atol=1e-5, rtol=0)
    made.square().sum().backward()
    assert row.grad.abs().sum() > 0
    assert not pipeline.modules["text_encoder"].get_input_embeddings()._forward_hooks
    with pytest.raises(UsageError, match="longer than the 77 words"):
        encoded(pipeline, "a {word}", {"word": torch.zeros(80, 8)})


def test_words_are_learned_and_kept(run, folder, tmp_path, folder_of):
    model = folder_of("stable-diffusion")
    record, _ = run(QUICK, folder, "w.safetensors", model)
    assert record["held_out_loss"]["after"] < record["held_out_loss"]["before"]
    pipeline = opened(model)
    words = load_words(tmp_path / "w.safetensors", pipeline)
    assert words.context.shape == words.classes["dark"].shape == (2, 8)
    assert words.prompt(pipeline, "dark").shape == (1, 77, 8)
    assert (words.prompt(pipeline, "dark") - words.prompt(pipeline, "light")).abs().max() > 1e-3
    with pytest.raises(UsageError, match="no word was learned for 'grey'"):
        words.prompt(pipeline, "grey")
    with pytest.raises(UsageError, match="another text encoder"):
        load_words(tmp_path / "w.safetensors", opened(folder_of("stable-diffusion", 1)))
    with pytest.raises(UsageError, match="has no learned words"):
        load_words(model / "unet" / "diffusion_pytorch_model.safetensors", pipeline)


@pytest.mark.parametrize("family", ["kandinsky22", "sdxl"])
def test_families_without_one_text_encoder(run, folder, folder_of, family):
    with pytest.raises(PlanError, match="families that do: stable-diffusion"):
        run(QUICK, folder, model=folder_of(family))
