"""Prompts with learned words: a template's slots are rows of the text encoder's input, which can be trained."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from counterlens.core.errors import UsageError

if TYPE_CHECKING:
    from counterlens.core.models.pipeline import Pipeline

FORMAT = "counterlens-words-1"
SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, eq=False)
class LearnedWords:
    """``context`` [n,D] and, of each class, [n,D] rows; ``template`` has the slots {context} and {class}.

    ``base`` is the fingerprint of the text encoder that they are words of.
    """

    context: Tensor
    classes: Mapping[str, Tensor]
    template: str
    base: str

    def prompt(self, pipeline: Pipeline, label: str) -> Tensor:
        """The condition [1,T,D] of a class; UsageError for one that was not learned."""
        if label not in self.classes:
            raise UsageError(f"no word was learned for {label!r}: there are words for {', '.join(self.classes)}")
        return encoded(pipeline, self.template, {"context": self.context, "class": self.classes[label]})

    def save(self, path: Path) -> None:
        from counterlens.core.utils.weights import write_weights

        tensors = {"context": self.context, **{f"class{k}": rows for k, rows in enumerate(self.classes.values())}}
        write_weights(path, tensors, format=FORMAT, classes=list(self.classes), template=self.template, base=self.base)


def load_words(path: str | Path, pipeline: Pipeline) -> LearnedWords:
    """The words of a file; UsageError when it is something else, or of another text encoder."""
    from counterlens.core.utils.weights import fingerprint, read_weights

    make = "has no learned words: make them with counterlens train textual-inversion DATA"
    tensors, about = read_weights(path, FORMAT, make)
    if about["base"] != fingerprint(pipeline.modules["text_encoder"]):
        raise UsageError(
            f"{path}: words of another text encoder (or of the same one in another --dtype) than that of "
            f"{pipeline.uri}: learn them again with counterlens train textual-inversion DATA --model {pipeline.uri}"
        )
    tensors = {name: value.to(pipeline.device) for name, value in tensors.items()}
    classes = {name: tensors[f"class{k}"] for k, name in enumerate(json.loads(about["classes"]))}
    return LearnedWords(tensors["context"], classes, about["template"], about["base"])


def encoded(pipeline: Pipeline, template: str, slots: Mapping[str, Tensor]) -> Tensor:
    """A prompt [1,T,D] whose ``{slots}`` are these rows [n,D] of the encoder's input; differentiable in them."""
    encoder: Any = pipeline.use("text_encoder")
    ids, places = _ids(pipeline.others["tokenizer"], template, slots)

    def put(_module: Any, _inputs: Any, rows: Tensor) -> Tensor:
        rows = rows.clone()
        for at, name in places:
            rows[:, at : at + len(slots[name])] = slots[name].to(rows)
        return rows

    tokens = torch.tensor([ids], device=pipeline.device)
    mask = None
    if getattr(encoder.config, "use_attention_mask", False):
        mask = (torch.arange(len(ids)) < _length(ids, pipeline)).long()[None].to(pipeline.device)
    handle = encoder.get_input_embeddings().register_forward_hook(put)
    try:
        return encoder(tokens, attention_mask=mask)[0].float()
    finally:
        handle.remove()


def start(pipeline: Pipeline, text: str, n: int) -> Tensor:
    """``n`` rows [n,D] to begin with: the mean of a text's own words."""
    tokenizer = pipeline.others["tokenizer"]
    rows: Any = pipeline.modules["text_encoder"].get_input_embeddings().weight  # type: ignore[operator, union-attr]
    ids = tokenizer(text, add_special_tokens=False).input_ids or [tokenizer.eos_token_id]
    return rows[ids].detach().float().mean(0, keepdim=True).repeat(n, 1)


def _ids(tokenizer: Any, template: str, slots: Mapping[str, Tensor]) -> tuple[list[int], list[tuple[int, str]]]:
    """Token ids, padded to the encoder's length, and where each slot begins."""
    ids, places = [tokenizer.bos_token_id], []
    for k, part in enumerate(SLOT.split(template)):
        if k % 2:
            places.append((len(ids), part))
            ids += [tokenizer.eos_token_id] * len(slots[part])  # any word: its row is replaced
        elif part.strip():
            ids += tokenizer(part.strip(), add_special_tokens=False).input_ids
    ids.append(tokenizer.eos_token_id)
    if len(ids) > tokenizer.model_max_length:
        raise UsageError(f"{template!r} is longer than the {tokenizer.model_max_length} words that the encoder reads")
    return ids + [tokenizer.pad_token_id] * (tokenizer.model_max_length - len(ids)), places


def _length(ids: list[int], pipeline: Pipeline) -> int:
    pad = pipeline.others["tokenizer"].pad_token_id
    return next((k + 1 for k in range(len(ids) - 1, -1, -1) if ids[k] != pad), len(ids))
