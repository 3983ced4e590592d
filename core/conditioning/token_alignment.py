"""Which token of a target prompt stands for which of the source prompt: what attention maps are rewritten by.

Words are found by the tokenizer's offsets; words that were replaced are matched by an optimal assignment on the
similarity of their encodings (linear_sum_assignment), not by trying every order.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from counterlens.core.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

WORD = re.compile(r"\w+(?:['’./]\w+)*|[^\w\s]", re.UNICODE)
ARTICLES = ("a", "an", "the")


@dataclass(frozen=True)
class Tokens:
    """A prompt in tokens: its words, the positions of each, and where the special tokens after them begin."""

    words: tuple[str, ...]
    places: tuple[tuple[int, ...], ...]
    first: int
    end: int


@dataclass(frozen=True, eq=False)
class Alignment:
    """``carry`` [T,T]: the share of a source token's attention that goes to a target token, rows sum to 1 (or to 0,
    of a word that was taken out); ``fresh`` [T]: 1 for tokens of words that have no counterpart in the source."""

    carry: Tensor
    fresh: Tensor


def tokens_of(tokenizer: Any, prompt: str, length: int) -> Tokens:
    """Where the words of a prompt are; UsageError when the encoder does not read all of them."""
    ids = tokenizer(prompt).input_ids
    if len(ids) > length:
        raise UsageError(
            f"the prompt {prompt!r} has {len(ids)} tokens and the text encoder reads {length}: shorten it (--prompt)"
        )
    where = spans(tokenizer, prompt)
    words = list(WORD.finditer(prompt))
    places = tuple(
        tuple(k for k, (start, end) in enumerate(where) if start < word.end() and end > word.start()) for word in words
    )
    used = [k for place in places for k in place]
    head = next((k for k, (start, end) in enumerate(where) if end > start), min(1, len(where)))
    return Tokens(tuple(w[0].lower() for w in words), places, min(used, default=head), max(used, default=head - 1) + 1)


def spans(tokenizer: Any, prompt: str) -> list[tuple[int, int]]:
    """Characters of every token, (0,0) for special ones; slow tokenizers have no offsets and are asked word by word."""
    if tokenizer.is_fast:
        return [(int(a), int(b)) for a, b in tokenizer(prompt, return_offsets_mapping=True).offset_mapping]
    special = set(tokenizer.all_special_ids)
    head = next((k for k, i in enumerate(tokenizer(prompt).input_ids) if i not in special), 1)
    spans = [(0, 0)] * head
    for word in WORD.finditer(prompt):
        spans += [word.span()] * len(tokenizer(word[0], add_special_tokens=False).input_ids)
    return spans


def align(source: Tokens, target: Tokens, source_states: Tensor, target_states: Tensor) -> Alignment:
    """The alignment of two prompts whose encodings are ``states`` [T,D]."""
    import torch

    length = len(source_states)
    carry, fresh = torch.zeros(length, length), torch.zeros(length)
    for k in range(source.first):
        carry[k, min(k, target.first - 1)] = 1  # what comes before the first word
    for k in range(source.end, length):
        carry[k, min(target.end + k - source.end, length - 1)] = 1  # the end, and what follows it
    matcher = difflib.SequenceMatcher(None, source.words, target.words, autojunk=False)
    for what, i1, i2, j1, j2 in matcher.get_opcodes():
        if what == "equal":
            pairs = [(i1 + k, j1 + k) for k in range(i2 - i1)]
        elif what == "replace":
            similar = _similar(source, target, range(i1, i2), range(j1, j2), source_states, target_states)
            pairs = [(i1 + i, j1 + j) for i, j in matched(similar, _quiet(source, i1, i2), _quiet(target, j1, j2))]
        else:
            pairs = []
        _carry(carry, source, target, pairs)
        for j in range(j1, j2):
            if j not in {pair[1] for pair in pairs}:
                fresh[list(target.places[j])] = 1
    return Alignment(carry, fresh)


def _quiet(tokens: Tokens, first: int, end: int) -> list[bool]:
    return [word in ARTICLES for word in tokens.words[first:end]]


def _similar(
    source: Tokens, target: Tokens, ours: Sequence[int], theirs: Sequence[int], here: Tensor, there: Tensor
) -> Tensor:
    """Cosines [m,n] of the mean encodings of words."""
    import torch
    import torch.nn.functional as F

    def mean(tokens: Tokens, words: Sequence[int], states: Tensor) -> Tensor:
        rows = [states[list(tokens.places[k])].float().mean(0) for k in words]
        return F.normalize(torch.stack(rows).cpu(), dim=1)

    return mean(source, ours, here) @ mean(target, theirs, there).T


def matched(similar: Tensor, quiet: Sequence[bool] = (), silent: Sequence[bool] = ()) -> list[tuple[int, int]]:
    """Pairs (source, target) of words: the best one-to-one assignment, then each word that is left over with the one
    that it is most similar to. Articles (``quiet``, ``silent``) go with articles, and give nothing to other words.
    """
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    values = similar.numpy().astype(float)
    m, n = values.shape
    apart = np.array([[(bool(quiet) and quiet[i]) != (bool(silent) and silent[j]) for j in range(n)] for i in range(m)])
    values = np.where(apart, -2.0, values)  # below every cosine
    pairs = [(int(i), int(j)) for i, j in zip(*linear_sum_assignment(values, maximize=True), strict=True)]
    pairs = [(i, j) for i, j in pairs if not apart[i, j]]
    left = [i for i in range(m) if i not in {pair[0] for pair in pairs}]
    new = [j for j in range(n) if j not in {pair[1] for pair in pairs}]
    pairs += [(i, int(values[i].argmax())) for i in left if values[i].max() > -2]
    pairs += [(int(values[:, j].argmax()), j) for j in new if values[:, j].max() > -2]
    return pairs


def _carry(carry: Tensor, source: Tokens, target: Tokens, pairs: Sequence[tuple[int, int]]) -> None:
    """A source word's attention goes to all tokens of its target words, in equal parts; token by token where both
    have as many."""
    for i in dict.fromkeys(pair[0] for pair in pairs):
        theirs = [target.places[j] for k, j in pairs if k == i]
        columns = [column for place in theirs for column in place]
        rows = source.places[i]
        for k, row in enumerate(rows):
            if len(columns) == len(rows):
                carry[row, columns[k]] = 1
            else:
                carry[row, columns] = 1 / len(columns)


def rewritten(maps: Tensor, own: Tensor, carry: Tensor, fresh: Tensor) -> Tensor:
    """Source maps [B,heads,q,k] as maps of the target prompt: every head, every token, rows sum to 1 again.

    ``own`` are the target's own maps, which words keep that the source does not have.
    ``carry`` [B,k,k], ``fresh`` [B,k].
    """
    fresh = fresh[:, None, None]
    new = maps @ carry[:, None] * (1 - fresh) + own * fresh
    return new / new.sum(-1, keepdim=True).clamp_min(1e-6)
