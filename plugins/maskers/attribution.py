from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from counterlens.core.problem.masker import Masker

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.problem.scene import Scene

GRADIENT = ("integrated-gradients", "gradient-shap", "grad-cam")


class Attribution(Masker):
    """Where the explained classifier looks (Captum): the pixels that speak for the present class against the target.

    The scores of the channels are summed, smoothed, and scaled between their 1st and 99th percentile; what is left
    below a sixteenth is 0.
    """

    name: ClassVar[str] = "attribution"
    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    method: Literal["integrated-gradients", "occlusion", "gradient-shap", "grad-cam"] = Field(
        "integrated-gradients", description="how pixels are scored; occlusion also works on black boxes"
    )
    of: Literal["difference", "source", "target"] = Field(
        "difference", description="whose logit: the present class's minus the target's, or one of them"
    )
    sign: Literal["absolute", "positive"] = Field("absolute", description="all evidence, or only what speaks for it")
    smooth: float = Field(0.03, description="smoothing, standard deviation in shares of the picture's side", ge=0)
    steps: int = Field(32, description="integrated gradients: points of the path; gradient-shap: samples", ge=1)
    window: float = Field(0.2, description="occlusion: side of the patch, in shares of the picture's", gt=0, le=1)
    baseline: Literal["blur", "grey", "black"] = Field("blur", description="the picture without evidence")
    area: float | None = Field(
        0.4, description="at most this share of the picture may change, the largest values first", gt=0, le=1
    )

    def wanted(self) -> frozenset[str]:
        return self.needs | (frozenset({"gradient"}) if self.method in GRADIENT else frozenset())

    def mask(self, scene: Scene) -> Tensor:
        import torch

        from counterlens.core.images.map_ops import normalised, smoothed
        from counterlens.core.images.pixels import unit

        images = unit(scene.image.float())
        with torch.enable_grad():
            scores = torch.cat([self._scores(scene, images, row) for row in range(len(scene))])
        scores = scores.detach().sum(1, keepdim=True)
        scores = scores.abs() if self.sign == "absolute" else scores.clamp_min(0)
        change = normalised(smoothed(scores, self.smooth * images.shape[-1]))
        return torch.where(change < 1 / 16, torch.zeros_like(change), change).to(scene.image.dtype)

    def _scores(self, scene: Scene, images: Tensor, row: int) -> Tensor:
        """[1,C,H,W] of one image: alone, and under its own seed, so that neighbours do not matter."""
        image, baseline = images[row : row + 1], self._baseline(images[row : row + 1])
        logit = _logit(scene, row, self.of)
        if self.method == "integrated-gradients":
            from captum.attr import IntegratedGradients

            scene.net.meter.gradient[scene.rows[row]] += self.steps
            return IntegratedGradients(logit).attribute(image, baseline, n_steps=self.steps, internal_batch_size=16)
        if self.method == "gradient-shap":
            return self._shap(scene, logit, image, baseline, row)
        if self.method == "occlusion":
            return self._occlusion(logit, image, baseline)
        scene.net.meter.gradient[scene.rows[row]] += 1
        return self._cam(scene, logit, image)

    def _shap(self, scene: Scene, logit: Any, image: Tensor, baseline: Tensor, row: int) -> Tensor:
        import numpy as np
        import torch
        from captum.attr import GradientShap

        scene.net.meter.gradient[scene.rows[row]] += self.steps
        before = np.random.get_state()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(scene.seeds[row] % 2**63)
            np.random.seed(scene.seeds[row] % 2**32)  # Captum draws from both
            try:
                both = torch.cat([baseline, torch.full_like(image, 0.5)])
                return GradientShap(logit).attribute(image, both, n_samples=self.steps, stdevs=0.05)
            finally:
                np.random.set_state(before)

    def _occlusion(self, logit: Any, image: Tensor, baseline: Tensor) -> Tensor:
        import torch
        from captum.attr import Occlusion

        side = max(1, round(self.window * image.shape[-1]))
        with torch.no_grad():
            return Occlusion(logit).attribute(
                image, (3, side, side), (3, max(1, side // 3), max(1, side // 3)), baseline, perturbations_per_eval=16
            )

    def _cam(self, scene: Scene, logit: Any, image: Tensor) -> Tensor:
        import torch.nn.functional as F
        from captum.attr import LayerGradCam

        layer = last_convolution(scene.resources.classifier)
        scores = LayerGradCam(logit, layer).attribute(image.clone().requires_grad_())
        return F.interpolate(scores.float(), image.shape[-2:], mode="bilinear", align_corners=False)

    def _baseline(self, image: Tensor) -> Tensor:
        import torch
        from scipy.ndimage import gaussian_filter

        if self.baseline != "blur":
            return torch.full_like(image, 0.5 if self.baseline == "grey" else 0.0)
        sigma = image.shape[-1] / 8
        blurred = gaussian_filter(image.cpu().numpy(), (0, 0, sigma, sigma), mode="nearest")
        return torch.from_numpy(blurred).to(image)


def _logit(scene: Scene, row: int, of: str) -> Any:
    """A function of images that Captum can ask: one number an image, for the row's own classes."""
    source, target, classifier = int(scene.source[row]), int(scene.target[row]), scene.resources.classifier

    def logit(images: Tensor) -> Tensor:
        logits = classifier.logits(images)
        if of == "difference":
            return logits[:, source] - logits[:, target]
        return logits[:, source if of == "source" else target]

    return logit


def last_convolution(classifier: Any) -> Any:
    """The last convolution of a classifier, where Grad-CAM looks; UsageError when it has none."""
    from torch import nn

    from counterlens.core.errors import UsageError

    found = [m for module in classifier.modules.values() for m in module.modules() if isinstance(m, nn.Conv2d)]
    if not found:
        raise UsageError(f"classifier {classifier.uri} has no convolution to look at; use method=integrated-gradients")
    return found[-1]
