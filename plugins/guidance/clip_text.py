from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from counterlens.core.problem.method_pieces import Guidance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from counterlens.core.data.source_image import SourceImage
    from counterlens.core.diffusion.step import Step
    from counterlens.core.models.clip import Clip
    from counterlens.core.problem.scene import Scene
    from counterlens.core.problem.view import View


class ClipText(Guidance):
    """Toward a text by CLIP, instead of a class: inner product, squared great-circle distance, or against another."""

    name: ClassVar[str] = "clip-text"
    any_source: ClassVar[bool] = True
    checkpoint: str = Field(description="folder of a CLIP model in transformers' layout")
    prompt: str = Field(
        "a photo of a {target}", description="text to go to; {target} and {source} stand for the classes"
    )
    against: str = Field("", description="cross-entropy: the text to tell it from, such as 'a photo of a {source}'")
    loss: Literal["inner-product", "spherical", "cross-entropy"] = Field(
        "spherical",
        description="-<e_I,e_T>; 2·arcsin(|e_I - e_T|/2)²; -log softmax of scaled similarities to prompt and against",
    )
    factor: float = Field(1.0, description="inner-product and cross-entropy: factor of the similarities", gt=0)

    @model_validator(mode="after")
    def _two(self) -> ClipText:
        if self.loss == "cross-entropy" and not self.against:
            raise ValueError("loss=cross-entropy tells two texts apart: give against=")
        return self

    def check(self, asked: Sequence[SourceImage]) -> None:
        from counterlens.core.models.clip import check_clip

        check_clip(self.checkpoint)

    def __call__(self, view: View, step: Step) -> Tensor:
        from counterlens.core.models.clip import opened

        scene = view.scene
        clip = opened(self.checkpoint, scene.resources.memo, str(view.x0.device))
        e = clip.image(view.shown)
        against = self._texts(scene, clip, self.against) if self.against else None
        return self.value(e, self._texts(scene, clip, self.prompt), against)

    def value(self, e: Tensor, prompt: Tensor, against: Tensor | None = None) -> Tensor:
        """[B] of embeddings [B,D] of unit length: of pictures, of texts to go to, of texts to leave."""
        own = self.factor * (e * prompt).sum(1)
        if self.loss == "inner-product":
            return -own
        if self.loss == "spherical":
            return 2 * ((e - prompt).norm(dim=1) / 2).clamp(max=1).asin() ** 2
        assert against is not None
        return (self.factor * (e * against).sum(1) - own).exp().log1p()

    def _texts(self, scene: Scene, clip: Clip, template: str) -> Tensor:
        """[B,D]; each text is encoded once a run."""
        import torch

        labels, memo = scene.resources.classifier.labels, scene.resources.memo
        pairs = zip(scene.source.tolist(), scene.target.tolist(), strict=True)
        texts = [template.format(source=labels[s], target=labels[t]) for s, t in pairs]
        return torch.cat(
            [memo.once(("clip-text", self.checkpoint, text), partial(clip.texts, [text])) for text in texts]
        )
