"""A CLIP model that is looked through with a gradient: embeddings of pictures, of patches and of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from counterlens.core.errors import MissingError, UsageError
from counterlens.core.models.loading import quiet
from counterlens.core.utils.memo import Memo


@dataclass(frozen=True, eq=False)
class Clip:
    """``model`` frozen; ``size``, ``mean`` and ``std`` say what its eyes take."""

    model: Any
    tokenizer: Any
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def image(self, images: Tensor) -> Tensor:
        """[B,3,H,W] in [0,1] -> embeddings [B,D] of unit length."""
        return unit(_pooled(self.model.get_image_features(pixel_values=self._prepared(images))))

    def patches(self, images: Tensor) -> Tensor:
        """[B,3,H,W] in [0,1] -> the last layer's patches [B,C,h,w], before norm and projection."""
        seen = self.model.vision_model(pixel_values=self._prepared(images)).last_hidden_state[:, 1:]
        side = int(seen.shape[1] ** 0.5)
        return seen.transpose(1, 2).unflatten(2, (side, side))

    def projected(self, mean: Tensor) -> Tensor:
        """A mean patch [B,C] through the last norm and the projection, of unit length [B,D]."""
        return unit(self.model.visual_projection(self.model.vision_model.post_layernorm(mean)))

    @torch.no_grad()
    def texts(self, sentences: Sequence[str]) -> Tensor:
        """[K,D] of unit length; UsageError for a text that is longer than the model reads."""
        length = self.model.config.text_config.max_position_embeddings
        for sentence, ids in zip(sentences, self.tokenizer(list(sentences)).input_ids, strict=True):
            if len(ids) > length:
                raise UsageError(f"{sentence[:60]!r}… has {len(ids)} tokens, CLIP reads {length}: shorten it")
        tokens = self.tokenizer(list(sentences), padding=True, return_tensors="pt").to(self.model.device)
        found = self.model.get_text_features(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return unit(_pooled(found))

    def _prepared(self, images: Tensor) -> Tensor:
        sized = F.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True, align_corners=False)
        mean, std = (sized.new_tensor(v).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return (sized - mean) / std


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def check_clip(folder: str) -> None:
    """MissingError when there is no model in the folder."""
    if not (Path(folder).expanduser() / "config.json").is_file():
        raise MissingError(f"CLIP checkpoint {folder}: there is no config.json; give the folder of a CLIP model")


def opened(folder: str, memo: Memo, device: str) -> Clip:
    """The model of a folder, opened once a run; UsageError when it is something else."""
    return memo.once(("clip", folder, device), lambda: open_clip(Path(folder).expanduser(), device))


def open_clip(folder: Path, device: str) -> Clip:
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    check_clip(str(folder))
    try:
        with quiet():
            loaded: Any = CLIPModel.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True, output_loading_info=True
            )
            tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
            processor = AutoImageProcessor.from_pretrained(str(folder), trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{folder} is no CLIP model with tokenizer and processor ({reason})") from None
    model, info = loaded
    if info["missing_keys"]:
        raise UsageError(f"{folder} lacks {sorted(info['missing_keys'])[0]!r}: is it a CLIP model?")
    model = model.eval().requires_grad_(False).to(device)
    mean, std = tuple(processor.image_mean), tuple(processor.image_std)
    return Clip(model=model, tokenizer=tokenizer, size=model.config.vision_config.image_size, mean=mean, std=std)


def _pooled(answer: Any) -> Any:
    """transformers 4 answers with the projected tensor, transformers 5 with an output that holds it."""
    return getattr(answer, "pooler_output", answer)
