from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from counterlens.core.conditioning.captioner import Captioner
from counterlens.core.utils.batched import batched
from counterlens.plugins.captioners.requirements import check_weights, opened
from counterlens.plugins.captioners.template import checked, filled

if TYPE_CHECKING:
    import numpy as np

    from counterlens.core.data.source_image import SourceImage


class HfVlm(Captioner):
    """Any image-to-text model of transformers (BLIP, BLIP-2, GIT, LLaVA, Qwen-VL, …), in batches; no remote code.

    A model that chats is asked to name the class; any other continues a beginning that names it.
    """

    name: ClassVar[str] = "hf-vlm"
    model: str = Field("Salesforce/blip-image-captioning-base", description="folder or hub id")
    start: str = Field("a photo of {a} {label}", description="how captions begin, for models that continue a text")
    ask: str = Field(
        "Describe this picture of {a} {label} in one short sentence that contains the words '{label}'.",
        description="what a model with a chat template is asked",
    )
    beams: int = Field(3, description="beams of the search for a caption", ge=1)
    words: int = Field(20, description="most new tokens of a caption", ge=1)
    rows: int = Field(8, description="pictures in one call", ge=1)
    dtype: Literal["float32", "float16", "bfloat16"] = Field("float32", description="precision of the model")

    @field_validator("start", "ask")
    @classmethod
    def _checked(cls, value: str) -> str:
        return checked(value)

    def check(self, asked: Sequence[SourceImage]) -> None:
        check_weights(self.model)

    def said(self, pictures: Sequence[np.ndarray], labels: Sequence[str], device: str = "cpu") -> list[str]:
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        processor = opened(AutoProcessor, self.model)
        model = opened(AutoModelForImageTextToText, self.model, dtype=getattr(torch, self.dtype), use_safetensors=True)
        model = model.eval().requires_grad_(False).to(device)
        if getattr(processor, "tokenizer", None) is not None:
            processor.tokenizer.padding_side = "left"
        found: dict[int, str] = {}
        for label in dict.fromkeys(labels):  # pictures of one class share their text, so that nothing is padded
            own = [k for k, other in enumerate(labels) if other == label]
            for part in batched(own, self.rows):
                with torch.no_grad():
                    found.update(
                        zip(part, self._said(model, processor, [pictures[k] for k in part], label), strict=True)
                    )
        return [found[k] for k in range(len(labels))]

    def _said(self, model: Any, processor: Any, pictures: Sequence[np.ndarray], label: str) -> list[str]:
        """The captions of a few pictures of one class."""
        chats = bool(getattr(processor, "chat_template", None))
        start = "" if chats else filled(self.start, label)
        text = self._question(processor, label) if chats else start
        inputs = processor(
            images=[[picture] for picture in pictures] if chats else list(pictures),
            text=[text] * len(pictures),
            return_tensors="pt",
            padding=True,
        ).to(model.device, model.dtype)
        out = model.generate(**inputs, max_new_tokens=self.words, num_beams=self.beams, do_sample=False)
        n = inputs["input_ids"].shape[1]
        echoed = out.shape[1] >= n and bool((out[:, :n] == inputs["input_ids"]).all())
        texts = processor.batch_decode(out[:, n:] if echoed else out, skip_special_tokens=True)
        return [joined(start, text) for text in texts]

    def _question(self, processor: Any, label: str) -> str:
        content = [{"type": "image"}, {"type": "text", "text": filled(self.ask, label)}]
        return processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)


def joined(start: str, text: str) -> str:
    """A caption out of its beginning and what a model said, which may repeat the beginning; its first sentence.

    >>> joined("a photo of a St. Bernard", "A photo of a St. Bernard in snow. It")
    'a photo of a St. Bernard in snow'
    >>> joined("a photo of a cat", " on a mat")
    'a photo of a cat on a mat'
    """
    import re

    text = " ".join(text.split())
    if start and text.casefold().startswith(start.casefold()):
        text = text[len(start) :]
    rest = re.split(r"[.!?](?:\s|$)", text.strip(), maxsplit=1)[0]
    return f"{start} {rest}".strip() if not rest.startswith(",") else f"{start}{rest}"
