"""Tiny tokenizers for tests."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any


def clip_tokenizer(folder: Path) -> Any:
    """A CLIP tokenizer that spells: one token a letter."""
    from transformers import CLIPTokenizer

    letters = [*string.ascii_lowercase, *string.digits, *",.-!?'"]
    vocab = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    ends = {name: "<|endoftext|>" for name in ("eos_token", "unk_token", "pad_token")}
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": "<|startoftext|>",
        **ends,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocab)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return CLIPTokenizer.from_pretrained(folder)


def t5_tokenizer(folder: Path) -> Any:
    """A T5 tokenizer that spells."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import T5TokenizerFast

    letters = ["▁", *string.ascii_lowercase, *string.digits, *",.-!?'"]
    vocab = [(token, 0.0) for token in ("<pad>", "</s>", "<unk>")] + [(letter, -2.0) for letter in letters]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=2, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    config = {"tokenizer_class": "T5TokenizerFast", "model_max_length": 512, "extra_ids": 0}
    ends = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, **ends}))
    return T5TokenizerFast.from_pretrained(folder)
