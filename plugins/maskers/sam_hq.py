from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from counterlens.core.errors import MissingError, UsageError
from counterlens.core.problem.masker import Masker
from counterlens.plugins.maskers.cross_attention import FORM
from counterlens.plugins.maskers.point_prompts import looked, low_resolution

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from counterlens.core.data.source_image import SourceImage
    from counterlens.core.problem.scene import Scene


class SamHq(Masker):
    """Segments of SAM-HQ (Ke et al. 2023, as in transformers), at points or in boxes: finer edges than SAM's."""

    name: ClassVar[str] = "sam-hq"
    checkpoint: str = Field(description="folder of a SamHQModel with its processor, in transformers' layout")
    points: tuple[float, ...] = Field((), description="x,y of points inside: x1,y1,x2,y2,…")
    outside: tuple[float, ...] = Field((), description="x,y of points outside")
    boxes: tuple[float, ...] = Field((), description="left,top,right,bottom of boxes; each gives a segment")
    words: str = Field("", description="points by the network's attention to these words ({source}, {target}, any)")
    count: int = Field(5, description="words: points drawn", ge=1)
    least: float = Field(0.35, description="words: points only where the attention is above", ge=0, lt=1)
    squash: str = Field(
        "sqrt_0.3", description="words: how the attention is sharpened, as in cross-attention", pattern=FORM
    )
    hint: bool = Field(True, description="words: the attention is the mask prompt too")

    @model_validator(mode="after")
    def _counted(self) -> SamHq:
        if len(self.points) % 2 or len(self.outside) % 2 or len(self.boxes) % 4:
            raise ValueError("points and outside are pairs x,y; boxes are fours left,top,right,bottom")
        if not (self.points or self.boxes or self.words):
            raise ValueError("say where: points=x,y or boxes=left,top,right,bottom or words={source}")
        return self

    def wanted(self) -> frozenset[str]:
        return self.needs | (frozenset({"cross-attention", "text"}) if self.words else frozenset())

    def check(self, asked: Sequence[SourceImage]) -> None:
        config = Path(self.checkpoint).expanduser() / "config.json"
        if not config.is_file():
            raise MissingError(f"SAM-HQ checkpoint {self.checkpoint}: there is no {config}; give the model's folder")
        kind = json.loads(config.read_text(encoding="utf-8")).get("model_type")
        if kind != "sam_hq":
            raise UsageError(f"{self.checkpoint} is a {kind!r} and not a 'sam_hq' checkpoint")

    def mask(self, scene: Scene) -> Tensor:
        import torch

        memo, key = scene.resources.memo, ("sam-hq", self.checkpoint)
        if key not in memo:
            memo[key] = open_sam_hq(self.checkpoint, str(scene.image.device))
        model, processor = memo[key]
        pixels = ((scene.image / 2 + 0.5).clamp(0, 1) * 255).round().byte().cpu()
        given = [list(self.points[k : k + 2]) for k in range(0, len(self.points), 2)]
        hints, points = None, [given] * len(scene)
        if self.words:
            hints, drawn = looked(scene, self.words, self.squash, self.count, self.least)
            points = [given + more for more in drawn]
        found = []
        with torch.no_grad():
            for k, image in enumerate(pixels):
                hint = hints[k, 0] if hints is not None and self.hint else None
                found.append(self._asked(model, processor, image, points[k], hint))
        return torch.stack(found)[:, None].to(scene.image)

    def _asked(self, model: Any, processor: Any, image: Tensor, inside: list[Any], hint: Tensor | None) -> Tensor:
        """The union of the segment at the points and those in the boxes, [H,W]."""
        import torch

        outside = [list(self.outside[k : k + 2]) for k in range(0, len(self.outside), 2)]
        prompts: list[dict[str, Any]] = []
        if inside:
            labels = [1] * len(inside) + [0] * len(outside)
            prompts.append({"input_points": [[inside + outside]], "input_labels": [[labels]]})
        prompts += [{"input_boxes": [[list(self.boxes[k : k + 4])]]} for k in range(0, len(self.boxes), 4)]
        found = []
        for k, prompt in enumerate(prompts):
            inputs = processor(images=image.permute(1, 2, 0).numpy(), return_tensors="pt", **prompt)
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
