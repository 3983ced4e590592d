from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from counterlens.core.conditioning.directions import Direction
from counterlens.core.errors import UsageError

if TYPE_CHECKING:
    from counterlens.core.conditioning.directions import ClassPair, Move


class Text(Direction):
    """The difference of two texts in CLIP's common space: no image of either class decides where it points.

    The images say only how long a step is. ``{}`` in a template is the class's name.
    """

    name: ClassVar[str] = "text"
    templates: tuple[str, ...] = Field(
        ("a photo of a {}", "a picture of a {}", "{}"), description="sentences to average", min_length=1
    )
    source: str = Field("", description="words for the source class, instead of its name")
    target: str = Field("", description="words for the target class, instead of its name")

    def fit(self, pair: ClassPair) -> Move:
        from torch.nn.functional import normalize

        from counterlens.core.conditioning.directions import constant

        if pair.pipeline is None:
            raise UsageError("direction 'text' needs the pipeline's text encoder")
        words = [self.source or pair.names[0], self.target or pair.names[1]]
        texts = [template.format(word) for word in words for template in self.templates]
        unit = normalize(pair.pipeline.embed_texts(texts).cpu(), dim=1).unflatten(0, (2, len(self.templates)))
        source, target = unit.mean(1)
        return constant(pair.along(target - source))
