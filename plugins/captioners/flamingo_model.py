"""An OpenFlamingo model put together without remote code, and asked in batches.

The package's own factory runs code of the language model's repository, and its ``forward`` demands an attention mask,
which transformers 5 leaves out when nothing is padded; both are mended here, from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from counterlens.core.errors import UsageError
from counterlens.plugins.captioners.requirements import opened

if TYPE_CHECKING:
    import numpy as np

END, PICTURE, PAD = "<|endofchunk|>", "<image>", "<PAD>"


@dataclass(frozen=True, kw_only=True)
class FlamingoSettings:
    """Which model: the options of ``openflamingo`` of the same names."""

    checkpoint: str
    language: str
    vision: str
    vision_weights: str
    every: int
    dtype: str


@dataclass(eq=False)
class Flamingo:
    """``model``: open_flamingo's own; ``shown`` [1,n,1,v,D] are the encoded demonstrations, ``before`` their text."""

    model: Any
    tokenizer: Any
    prepare: Any
    device: str
    shown: Tensor | None = None
    before: str = ""

    @classmethod
    def open(cls, settings: FlamingoSettings, device: str) -> Flamingo:
        """The model, frozen; errors in one line."""
        from open_flamingo import Flamingo as Model
        from transformers import AutoModelForCausalLM, AutoTokenizer

        vision, prepare, width = _vision(settings.vision, settings.vision_weights)
        tokenizer = opened(AutoTokenizer, settings.language)
        tokenizer.add_special_tokens({"additional_special_tokens": [END, PICTURE]})
        if tokenizer.pad_token is None:
            tokenizer.add_special_tokens({"pad_token": PAD})
        tokenizer.padding_side = "left"
        language = opened(AutoModelForCausalLM, settings.language, dtype=torch.float32, use_safetensors=True)
        _extend(language)
        language.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        end, picture = (tokenizer.convert_tokens_to_ids(token) for token in (END, PICTURE))
        model: Any = Model(vision, language, end, picture, vis_dim=width, cross_attn_every_n_layers=settings.every)
        _fill(model, Path(settings.checkpoint).expanduser())
        model = model.eval().requires_grad_(False).to(device, getattr(torch, settings.dtype))
        return cls(model, tokenizer, prepare, device)

    def show(self, demos: Sequence[tuple[np.ndarray, str]]) -> None:
        """Encode the demonstrations, once."""
        if demos:
            self.shown = self._seen([picture for picture, _ in demos]).transpose(0, 1)  # [1,n,v,D]
        self.before = "".join(f"{PICTURE}{caption}{END}" for _, caption in demos)

    @torch.no_grad()
    def continued(self, pictures: Sequence[np.ndarray], starts: Sequence[str], beams: int, most: int) -> list[str]:
        """What follows each beginning: only the new words, without special tokens."""
        language, texts = self.model.lang_encoder, [f"{self.before}{PICTURE}{start}" for start in starts]
        inputs = self.tokenizer(texts, padding=True, return_tensors="pt").to(self.device)
        seen = self._seen(pictures)
        if self.shown is not None:
            seen = torch.cat([self.shown.expand(len(seen), -1, -1, -1), seen], 1)
        try:
            language._use_cached_vision_x = True
            for layer in language._get_decoder_layers():
                layer.condition_vis_x(seen.repeat_interleave(beams, 0))
            out = language.generate(
                input_ids=inputs.input_ids,
                attention_mask=inputs.attention_mask,
                num_beams=beams,
                max_new_tokens=most,
                do_sample=False,
                use_cache=True,
                eos_token_id=self.model.eoc_token_id,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        finally:  # a failed call would leave them set, and the next one would trip over them
            language.clear_conditioned_layers()
            language._use_cached_vision_x = False
        new = out[:, inputs.input_ids.shape[1] :]
        return [text.split("\n")[0].strip() for text in self.tokenizer.batch_decode(new, skip_special_tokens=True)]

    @torch.no_grad()
    def _seen(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """Pictures in the perceiver's tokens, [N,1,v,D]; each by itself."""
        from PIL import Image

        images = torch.stack([self.prepare(Image.fromarray(picture)) for picture in pictures])
        dtype = next(self.model.perceiver.parameters()).dtype
        features = self.model.vision_encoder(images.to(self.device, dtype))[1]
        return self.model.perceiver(features[:, None, None])


def _vision(name: str, weights: str) -> tuple[nn.Module, Any, int]:
    """open_clip's image encoder that answers with its tokens, its preparation of pictures, its width."""
    import open_clip

    file = Path(name).expanduser()
    if file.suffix == ".json":
        open_clip.add_model_config(file)
        name = file.stem
    config = open_clip.get_model_config(name)
    if config is None:
        raise UsageError(f"open_clip has no image encoder {name!r}: see open_clip.list_models(), or give its JSON file")
    try:
        clip, _, prepare = open_clip.create_model_and_transforms(name, pretrained=weights or None)
    except (RuntimeError, OSError) as error:
        raise UsageError(f"vision_weights={weights!r}: {str(error).splitlines()[0]}") from None
    clip.visual.output_tokens = True
    return clip, prepare, int(config["vision_cfg"]["width"])


def _extend(language: Any) -> None:
    """A language model that can look: the package's mixin, with a mask that may be left out."""
    from open_flamingo.src.flamingo_lm import FlamingoLMMixin

    class Looking(FlamingoLMMixin):
        def forward(self, input_ids: Any = None, attention_mask: Any = None, **rest: Any) -> Any:
            return super().forward(input_ids, attention_mask, **rest)

    kind = type(language)
    language.__class__ = type(kind.__name__, (Looking, kind), {})
    language.set_decoder_layers_attr_name(_layers(language))


def _layers(language: Any) -> str:
    """Where a language model keeps its blocks: the list that has as many as its configuration says."""
    count = language.config.num_hidden_layers
    for name, module in language.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name
    raise UsageError(f"{type(language).__name__} has no list of {count} layers: use another language model")


def _fill(model: nn.Module, path: Path) -> None:
    """Put the trained layers in: perceiver, gated cross-attention, embeddings. UsageError when they do not fit."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        tensors = load_file(path)
    else:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        tensors = tensors.get("model_state_dict", tensors)
    tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    own = {name for name in model.state_dict() if "perceiver" in name or "gated_cross_attn_layers" in name}
    try:
        result = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise UsageError(f"{path} does not fit this model: {str(error).splitlines()[-1].strip()}") from None
    missing = sorted(own & set(result.missing_keys))
    if missing or result.unexpected_keys:
        what = f"it lacks {missing[0]}" if missing else f"the model has no {result.unexpected_keys[0]}"
        raise UsageError(f"{path} does not fit this model ({what}): check language, vision and every")
