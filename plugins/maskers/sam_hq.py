from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from counterlens.core.errors import MissingError, UsageError
from counterlens.core.pieces import Masker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from counterlens.core.request import Asked
    from counterlens.core.types import Scene


class SamHq(Masker):
    """Segments of SAM-HQ (Ke et al. 2023, as in transformers), at points or in boxes: finer edges than SAM's."""

    name: ClassVar[str] = "sam-hq"
    checkpoint: str = Field(description="folder of a SamHQModel with its processor, in transformers' layout")
    points: tuple[float, ...] = Field((), description="x,y of points inside: x1,y1,x2,y2,…")
    outside: tuple[float, ...] = Field((), description="x,y of points outside")
    boxes: tuple[float, ...] = Field((), description="left,top,right,bottom of boxes; each gives a segment")

    @model_validator(mode="after")
    def _counted(self) -> SamHq:
        if len(self.points) % 2 or len(self.outside) % 2 or len(self.boxes) % 4:
            raise ValueError("points and outside are pairs x,y; boxes are fours left,top,right,bottom")
        if not (self.points or self.boxes):
            raise ValueError("say where: points=x,y or boxes=left,top,right,bottom")
        return self

    def check(self, asked: Sequence[Asked]) -> None:
        config = Path(self.checkpoint).expanduser() / "config.json"
        if not config.is_file():
            raise MissingError(f"SAM-HQ checkpoint {self.checkpoint}: there is no {config}; give the model's folder")
        kind = json.loads(config.read_text(encoding="utf-8")).get("model_type")
        if kind != "sam_hq":
            raise UsageError(f"{self.checkpoint} is a {kind!r} and not a 'sam_hq' checkpoint")

    def mask(self, scene: Scene) -> Tensor:
        import torch
        from transformers import SamHQModel, SamHQProcessor

        folder = str(Path(self.checkpoint).expanduser())
        model = SamHQModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        model = model.eval().requires_grad_(False).to(scene.image.device)
        processor = SamHQProcessor.from_pretrained(folder, local_files_only=True)
        pixels = ((scene.image / 2 + 0.5).clamp(0, 1) * 255).round().byte().cpu()
        with torch.no_grad():
            return torch.stack([self._asked(model, processor, image) for image in pixels])[:, None].to(scene.image)

    def _asked(self, model: Any, processor: Any, image: Tensor) -> Tensor:
        """The union of the segment at the points and those in the boxes, [H,W]."""
        import torch

        inside, outside = ([list(at[k : k + 2]) for k in range(0, len(at), 2)] for at in (self.points, self.outside))
        prompts: list[dict[str, Any]] = []
        if inside:
            labels = [1] * len(inside) + [0] * len(outside)
            prompts.append({"input_points": [[inside + outside]], "input_labels": [[labels]]})
        prompts += [{"input_boxes": [[list(self.boxes[k : k + 4])]]} for k in range(0, len(self.boxes), 4)]
        found = []
        for prompt in prompts:
            inputs = processor(images=image.permute(1, 2, 0).numpy(), return_tensors="pt", **prompt)
            out = model(**inputs.to(model.device))
            sizes = (inputs["original_sizes"], inputs["reshaped_input_sizes"])
            (masks,) = processor.image_processor.post_process_masks(out.pred_masks.cpu(), *(s.cpu() for s in sizes))
            best = int(out.iou_scores.flatten().argmax())
            found.append(masks[0, best if masks.shape[1] > best else 0].float())
        return torch.stack(found).amax(0)
