from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from counterlens.core.conditioning.class_names import article, find_class_name, names_of, replaced
from counterlens.core.conditioning.nouns import rules
from counterlens.core.problem.method_pieces import Editor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from counterlens.core.data.source_image import SourceImage
    from counterlens.core.diffusion.step import Condition, Extra, Step
    from counterlens.core.problem.scene import Scene


class Toward(Editor):
    """Ask the network under another prompt, or under the embedding of an example picture: text- or embedding-driven
    change; with a change map, local.

    The condition goes ``share`` (times the search's strength) of the way from the source's; beyond 1 it goes further.
    """

    name: ClassVar[str] = "toward"
    strength_unit: ClassVar[str] = "the way from the source's condition to the target's"
    prompt: str = Field(
        "",
        description="target prompt; {target}, {source} and {prompt} stand for the classes and the source's prompt. "
        "Empty: the source's prompt with the target's name instead of its own",
    )
    image: str = Field("", description="a picture whose embedding to go to (image-embedding models); {target} as above")
    share: float = Field(1.0, description="how far toward it at strength 1", ge=0)

    @model_validator(mode="after")
    def _one(self) -> Toward:
        if self.prompt and self.image:
            raise ValueError("give a prompt or an image, not both")
        return self

    def wanted(self) -> frozenset[str]:
        return frozenset({"image-embedding" if self.image else "text"})

    def check(self, asked: Sequence[SourceImage]) -> None:
        if self.image and "{" not in self.image:
            from counterlens.core.images.load import load_picture

            load_picture(Path(self.image))

    def bind(self, scene: Scene) -> MovedCondition:
        import torch

        from counterlens.core.images.fit import fit
        from counterlens.core.images.load import load_picture
        from counterlens.core.images.pixels import to_tensor

        labels = scene.resources.classifier.labels
        names = [(labels[int(s)], labels[int(t)]) for s, t in zip(scene.source, scene.target, strict=True)]
        own = [scene.resources.options["prompts"][row] for row in scene.rows]
        branch = list(scene.cond)[-1]
        image, prompts = scene.image, [prompt_of(self.prompt, *pair, own[i]) for i, pair in enumerate(names)]
        if self.image:
            paths = [Path(self.image.format(source=source, target=target)) for source, target in names]
            size = (image.shape[-2], image.shape[-1])
            image = torch.stack([to_tensor(fit(load_picture(path), size).pixels) for path in paths]).to(image)
        with torch.no_grad():
            cond, extra = scene.resources.pipeline.condition(image, prompts, (branch,))

        def way(there: Tensor, here: Tensor) -> Tensor:
            share = (self.share * scene.strength).view(-1, *[1] * (here.ndim - 1))
            return share * (there.to(here) - here)

        here = scene.extra.get(branch, {})
        beside = {name: way(extra[branch][name], own) for name, own in here.items()}
        return MovedCondition(branch, way(cond[branch], scene.cond[branch]), beside)


@dataclass(frozen=True, eq=False)
class MovedCondition:
    """Adds ``delta`` to the condition of one branch, and ``beside`` to its further inputs (SDXL's pooled text)."""

    branch: str
    delta: Tensor
    beside: Mapping[str, Tensor]

    def on_condition(self, cond: Condition, step: Step) -> Condition:
        return {**cond, self.branch: cond[self.branch] + self.delta}

    def on_extra(self, extra: Extra, step: Step) -> Extra:
        own = extra.get(self.branch, {})
        moved = {name: own[name] + delta for name, delta in self.beside.items()}
        return {**extra, self.branch: {**own, **moved}} if moved else extra


def prompt_of(template: str, source: str, target: str, prompt: str) -> str:
    """The target prompt of one picture.

    >>> prompt_of("", "bouba", "kiki", "a red bouba")
    'a red kiki'
    >>> prompt_of("a {target}, not a {source}", "bouba", "kiki", "")
    'a kiki, not a bouba'
    """
    if template:
        return template.format(source=source, target=target, prompt=prompt)
    if found := find_class_name(prompt, source, rules()):
        return replaced(prompt, found, names_of(target)[0])
    return f"{target}, {prompt}" if prompt else f"a photo of {article(target)} {target}"
