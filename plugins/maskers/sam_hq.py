from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from counterlens.core.errors import MissingError, UsageError
from counterlens.plugins.maskers.point_prompts import low_resolution
from counterlens.plugins.maskers.segmenter import Points, Segmenter, grouped

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor

    from counterlens.core.data.source_image import SourceImage


class SamHq(Segmenter):
    """Segments of SAM-HQ (Ke et al. 2023, as in transformers), at points or in boxes: finer edges than SAM's."""

    name: ClassVar[str] = "sam-hq"
    checkpoint: str = Field(description="folder of a SamHQModel with its processor, in transformers' layout")

    @model_validator(mode="after")
    def _somewhere(self) -> SamHq:
        if not (self.points or self.boxes or self.words):
            raise ValueError("say where: points=x,y or boxes=left,top,right,bottom or words={source}")
        return self

    def check(self, asked: Sequence[SourceImage]) -> None:
        config = Path(self.checkpoint).expanduser() / "config.json"
        if not config.is_file():
            raise MissingError(f"SAM-HQ checkpoint {self.checkpoint}: there is no {config}; give the model's folder")
        kind = json.loads(config.read_text(encoding="utf-8")).get("model_type")
        if kind != "sam_hq":
            raise UsageError(f"{self.checkpoint} is a {kind!r} and not a 'sam_hq' checkpoint")

    def opened(self, device: str) -> Any:
        return open_sam_hq(self.checkpoint, device)

    def segment(self, network: Any, image: np.ndarray, inside: Points, hint: Tensor | None) -> Tensor:
        import torch

        (model, processor), outside = network, grouped(self.outside, 2)
        prompts: list[dict[str, Any]] = []
        if inside:
            labels = [1] * len(inside) + [0] * len(outside)
            prompts.append({"input_points": [[inside + outside]], "input_labels": [[labels]]})
        prompts += [{"input_boxes": [[box]]} for box in grouped(self.boxes, 4)]
        found = []
        for k, prompt in enumerate(prompts):
            inputs = processor(images=image, return_tensors="pt", **prompt)
            more = {}
            if hint is not None and k == 0:
                side = 4 * model.config.prompt_encoder_config.image_embedding_size
                more["input_masks"] = low_resolution(hint, side)[None].to(model.device)
            out = model(**inputs.to(model.device), **more)
            sizes = (inputs["original_sizes"], inputs["reshaped_input_sizes"])
            (masks,) = processor.image_processor.post_process_masks(out.pred_masks.cpu(), *(s.cpu() for s in sizes))
            best = int(out.iou_scores.flatten().argmax())
            found.append(masks[0, best if masks.shape[1] > best else 0].float())
        return torch.stack(found).amax(0)


def open_sam_hq(checkpoint: str, device: str) -> tuple[Any, Any]:
    """(model, processor) of a folder, frozen."""
    from transformers import SamHQModel, SamHQProcessor

    folder = str(Path(checkpoint).expanduser())
    model = SamHQModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    model = model.eval().requires_grad_(False).to(device)
    return model, SamHQProcessor.from_pretrained(folder, local_files_only=True)
