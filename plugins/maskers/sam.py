from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from counterlens.core.errors import MissingError, UsageError
from counterlens.core.problem.masker import Masker
from counterlens.plugins.maskers.cross_attention import FORM
from counterlens.plugins.maskers.point_prompts import looked, low_resolution

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor

    from counterlens.core.data.source_image import SourceImage
    from counterlens.core.problem.scene import Scene

WIDTHS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}  # of the image encoder, by which a checkpoint tells its type
FIRST = "image_encoder.patch_embed.proj.weight"


class Sam(Masker):
    """Segments of Segment Anything (Kirillov et al. 2023): at points, in boxes, or the most decisive of everything.

    Without points and boxes the whole picture is segmented, and the ``segments`` are taken whose pixels the
    classifier's decision depends on most (its mean gradient).
    """

    name: ClassVar[str] = "sam"
    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    checkpoint: str = Field(description="weights of vit_b, vit_l or vit_h: a .safetensors file or the published .pth")
    points: tuple[float, ...] = Field(
        (), description="x,y of points inside, in pixels of what the pipeline sees: x,y,…"
    )
    outside: tuple[float, ...] = Field((), description="x,y of points outside")
    boxes: tuple[float, ...] = Field((), description="left,top,right,bottom of boxes; each gives a segment")
    words: str = Field("", description="points by the network's attention to these words ({source}, {target}, any)")
    count: int = Field(5, description="words: points drawn", ge=1)
    least: float = Field(0.35, description="words: points only where the attention is above", ge=0, lt=1)
    squash: str = Field(
        "sqrt_0.3", description="words: how the attention is sharpened, as in cross-attention", pattern=FORM
    )
    hint: bool = Field(True, description="words: the attention is the mask prompt too")
    segments: int = Field(1, description="everything: how many segments may change", ge=1)
    side: int = Field(16, description="everything: points a side that are asked", ge=1)
    sure: float = Field(0.8, description="everything: least predicted quality and stability of a segment", ge=0, le=1)

    @model_validator(mode="after")
    def _counted(self) -> Sam:
        if len(self.points) % 2 or len(self.outside) % 2 or len(self.boxes) % 4:
            raise ValueError("points and outside are pairs x,y; boxes are fours left,top,right,bottom")
        return self

    def wanted(self) -> frozenset[str]:
        if self.words:
            return self.needs | {"cross-attention", "text"}
        return self.needs | (frozenset() if self.points or self.boxes else frozenset({"gradient"}))

    def check(self, asked: Sequence[SourceImage]) -> None:
        kind_of(self.checkpoint)

    def mask(self, scene: Scene) -> Tensor:
        import numpy as np
        import torch

        memo, key = scene.resources.memo, ("sam", self.checkpoint)
        if key not in memo:
            memo[key] = open_sam(self.checkpoint, str(scene.image.device))
        model = memo[key]
        pixels = ((scene.image / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        with torch.no_grad():
            if self.words:
                hints, drawn = looked(scene, self.words, self.squash, self.count, self.least)
                planes = hints[:, 0] if self.hint else [None] * len(drawn)
                masks = [self._asked(model, *one) for one in zip(pixels, drawn, planes, strict=True)]
                return torch.from_numpy(np.stack(masks)[:, None]).to(scene.image)
            if self.points or self.boxes:
                masks = [self._asked(model, image) for image in pixels]
                return torch.from_numpy(np.stack(masks)[:, None]).to(scene.image)
        weights = decisive(scene)
        masks = [self._everything(model, image, weight) for image, weight in zip(pixels, weights, strict=True)]
        return torch.from_numpy(np.stack(masks)[:, None]).to(scene.image)

    def _asked(
        self, model: Any, image: np.ndarray, drawn: Sequence[Any] = (), hint: Tensor | None = None
    ) -> np.ndarray:
        """The union of the segment at the points and those in the boxes, [H,W]."""
        import numpy as np
        from segment_anything import SamPredictor

        predictor = SamPredictor(model)
        predictor.set_image(image)
        inside = [*self.points, *(number for point in drawn for number in point)]
        points = np.array([*inside, *self.outside]).reshape(-1, 2)
        labels = np.array([1] * (len(inside) // 2) + [0] * (len(self.outside) // 2))
        boxes = [self.boxes[k : k + 4] for k in range(0, len(self.boxes), 4)]
        at = (points, labels) if len(points) else (None, None)
        low = None if hint is None else low_resolution(hint, 256).numpy()
        found = []
        for box in boxes or [()]:
            masks, quality, _ = predictor.predict(*at, box=np.array(box) if box else None, mask_input=low)
            found.append(masks[int(quality.argmax())])
        return np.max(found, 0).astype(np.float32)

    def _everything(self, model: Any, image: np.ndarray, weight: np.ndarray) -> np.ndarray:
        import numpy as np
        from segment_anything import SamAutomaticMaskGenerator

        generator = SamAutomaticMaskGenerator(
            model, points_per_side=self.side, pred_iou_thresh=self.sure, stability_score_thresh=self.sure
        )
        masks = [found["segmentation"] for found in generator.generate(image) if found["segmentation"].any()]
        if not masks:
            raise UsageError("sam found no segment in a picture: lower sure=, or give points= or boxes=")
        best = sorted(masks, key=lambda mask: -float(weight[mask].mean()))[: self.segments]
        return np.max(best, 0).astype(np.float32)


def decisive(scene: Scene) -> np.ndarray:
    """How much the decision between source and target depends on each pixel: its gradient's size, [B,H,W]."""
    import torch

    with torch.enable_grad():
        images = (scene.image / 2 + 0.5).detach().requires_grad_()
        logits = scene.resources.classifier.logits(images)
        lead = logits.gather(1, scene.source[:, None]) - logits.gather(1, scene.target[:, None])
        (g,) = torch.autograd.grad(lead.sum(), images)
    for row in scene.rows:
        scene.net.meter.gradient[row] += 1
    return g.abs().sum(1).cpu().numpy()


def kind_of(checkpoint: str) -> str:
    """vit_b, vit_l or vit_h, read off the weights' shapes; an error for a file that is missing or something else."""
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        raise MissingError(f"SAM checkpoint {checkpoint} does not exist: give the file of vit_b, vit_l or vit_h")
    width = _shapes(path).get(FIRST, (0,))[0]
    if width not in WIDTHS:
        raise UsageError(
            f"{checkpoint} is no checkpoint of Segment Anything: it has no {FIRST} of vit_b, vit_l or vit_h"
        )
    return WIDTHS[width]


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    if path.suffix == ".safetensors":
        from counterlens.core.models.folder import header

        return {name: tuple(one["shape"]) for name, one in header(path).items()}
    return {name: tuple(one.shape) for name, one in _weights(path, "meta").items() if hasattr(one, "shape")}


def _weights(path: Path, device: str) -> dict[str, Any]:
    import pickle

    import torch

    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path, device=device)
    try:
        found = torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as weights ({str(error).splitlines()[0]})") from None
    return found if isinstance(found, dict) else {}


def open_sam(checkpoint: str, device: str) -> Any:
    """The network of a checkpoint, frozen."""
    from segment_anything import sam_model_registry

    model = sam_model_registry[kind_of(checkpoint)]()
    model.load_state_dict(_weights(Path(checkpoint).expanduser(), "cpu"))
    return model.eval().requires_grad_(False).to(device)
