from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from counterlens.core.errors import MissingError, UsageError
from counterlens.plugins.maskers.point_prompts import low_resolution
from counterlens.plugins.maskers.segmenter import Points, Segmenter, grouped

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor

    from counterlens.core.data.source_image import SourceImage
    from counterlens.core.problem.scene import Scene

WIDTHS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}  # of the image encoder, by which a checkpoint tells its type
FIRST = "image_encoder.patch_embed.proj.weight"


class Sam(Segmenter):
    """Segments of Segment Anything (Kirillov et al. 2023): at points, in boxes, or the most decisive of everything.

    Without points and boxes the whole picture is segmented, and the ``segments`` are taken whose pixels the
    classifier's decision depends on most (its mean gradient).
    """

    name: ClassVar[str] = "sam"
    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    checkpoint: str = Field(description="weights of vit_b, vit_l or vit_h: a .safetensors file or the published .pth")
    segments: int = Field(1, description="everything: how many segments may change", ge=1)
    side: int = Field(16, description="everything: points a side that are asked", ge=1)
    sure: float = Field(0.8, description="everything: least predicted quality and stability of a segment", ge=0, le=1)

    def wanted(self) -> frozenset[str]:
        everything = not (self.points or self.boxes or self.words)
        return super().wanted() | (frozenset({"gradient"}) if everything else frozenset())

    def check(self, asked: Sequence[SourceImage]) -> None:
        kind_of(self.checkpoint)

    def opened(self, device: str) -> Any:
        return open_sam(self.checkpoint, device)

    def mask(self, scene: Scene) -> Tensor:
        import torch

        from counterlens.core.images.pixels import to_pixels

        if self.words or self.points or self.boxes:
            return super().mask(scene)
        model, rows = self._network(scene), zip(scene.image, decisive(scene), strict=True)
        masks = [torch.from_numpy(self._everything(model, to_pixels(image), weight)) for image, weight in rows]
        return torch.stack(masks)[:, None].to(scene.image)

    def segment(self, network: Any, image: np.ndarray, inside: Points, hint: Tensor | None) -> Tensor:
        import numpy as np
        import torch
        from segment_anything import SamPredictor

        predictor = SamPredictor(network)
        predictor.set_image(image)
        outside = grouped(self.outside, 2)
        points, labels = np.array(inside + outside), np.array([1] * len(inside) + [0] * len(outside))
        at = (points, labels) if len(points) else (None, None)
        low = None if hint is None else low_resolution(hint, 256).numpy()
        found = []
        boxes: list[Any] = [np.array(box) for box in grouped(self.boxes, 4)]
        for box in boxes or [None]:
            masks, quality, _ = predictor.predict(*at, box=box, mask_input=low)
            found.append(masks[int(quality.argmax())])
        return torch.from_numpy(np.max(found, 0).astype(np.float32))

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
