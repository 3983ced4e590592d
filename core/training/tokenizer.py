"""A small tokenizer in CLIP's own layout, whose tokens are the words that it was made for."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

START, END = "<|startoftext|>", "<|endoftext|>"


def byte_letters() -> list[str]:
    """The sign that CLIP's byte-level tokenizer writes for each of the 256 bytes; ASCII stands for itself."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    signs, extra = {}, 0
    for byte in range(256):
        signs[byte] = chr(byte) if byte in plain else chr(256 + extra)
        extra += byte not in plain
    return [signs[byte] for byte in range(256)]


def merged(pieces: list[str], merges: dict[tuple[str, str], int]) -> list[str]:
    """Byte-pair merges applied to a word's pieces, the earliest first."""
    while True:
        ranked = [(merges[pair], i) for i, pair in enumerate(itertools.pairwise(pieces)) if pair in merges]
        if not ranked:
            return pieces
        i = min(ranked)[1]
        pieces = [*pieces[:i], pieces[i] + pieces[i + 1], *pieces[i + 2 :]]


def vocabulary(words: Iterable[str], letters: Iterable[str] = ()) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Byte-pair vocabulary and merges that leave every word one token; others fall into ``letters`` (all bytes)."""
    signs = byte_letters()
    letters = list(letters) or signs
    tokens = [*letters, *(c + "</w>" for c in letters)]
    merges: dict[tuple[str, str], int] = {}
    for word in sorted(set(words)):
        spelled = [signs[byte] for byte in word.encode()]
        # apply what is there already, then join the rest from the left: later merges never undo earlier words
        while len(pieces := merged([*spelled[:-1], spelled[-1] + "</w>"], merges)) > 1:
            merges[pieces[0], pieces[1]] = len(merges)
            tokens.append(pieces[0] + pieces[1])
    tokens += [START, END]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}, list(merges)


def write_tokenizer(folder: Path, vocab: dict[str, int], merges: Iterable[tuple[str, str]], max_length: int) -> None:
    """The files of a CLIPTokenizer: vocab.json, merges.txt, tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    lines = "".join(f"{a} {b}\n" for a, b in merges)
    (folder / "merges.txt").write_text("#version: 0.2\n" + lines, encoding="utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": max_length,
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": END,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))


def load_tokenizer(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder)


def token_ids(tokenizer: Any, texts: list[str]) -> Any:
    """[N,L] ids, padded to the tokenizer's length and cut there."""
    length = tokenizer.model_max_length
    return tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
