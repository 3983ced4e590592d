"""What a user asks for, as one frozen value; and the items (images with a target) that it names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from counterlens.core.data.source_image import SourceImage
from counterlens.core.errors import UsageError
from counterlens.core.models.model_options import WHERE, ModelOptions

if TYPE_CHECKING:
    from counterlens.core.data.domain import Domain
    from counterlens.core.plugin.registry import Registry


DOMAIN_IMAGE = re.compile(r"^([A-Za-z][\w-]*):(-?\d+)$")


class Request(ModelOptions):
    """One call of ``explain``: every option that a result depends on, and those that say how to compute it."""

    images: tuple[str, ...] = Field(description="paths, NAME:INDEX of an embedded domain, or URIs of labelled images")
    target: str | None = Field(None, description="class to turn into; the runner-up if not given")
    method: str = "guided"
    classifier: str | None = Field(None, description="URI of the explained classifier")
    judge: str | None = Field(None, description="URI of an independent classifier that only reports")
    data: str | None = Field(
        None, description="labelled images that a method may learn from; a domain's own if not given"
    )
    editors: tuple[str, ...] = ()
    guidance: tuple[str, ...] = ()
    regularizers: tuple[str, ...] = ()
    inverter: str | None = None
    combiner: str | None = None
    search: str | None = None
    steps: int | None = Field(None, ge=1, le=1000)
    tau: float | None = Field(None, gt=0, lt=1)
    captioner: str | None = Field(None, description="captions for images that have none, for text-conditioned models")
    prompt: str | None = Field(None, description="words for the source image, for text-conditioned models")
    map: str | None = Field(None, description="change map: a grey picture of the image's size, white may change")
    directions: str | None = Field(None, description="file of directions in activations, for the piece that takes one")
    seed: int = 0
    fit: Literal["crop", "pad", "squash"] = "crop"
    batch: int = Field(8, ge=1, description="rows in one network call; changes nothing but speed and memory")
    save: tuple[Literal["tries", "strips", "gif", "webp", "csv"], ...] = Field(
        (), description="further files: every try, strips of tries, before and after as animation, tables"
    )
    errors: bool = Field(False, description="only images decided otherwise than their label, which is their target")
    force: bool = Field(False, description="go on with a classifier that looks broken")

    def settings(self) -> dict[str, object]:
        """What the result of one image depends on, besides the image: not its neighbours, not the batch."""
        return self.model_dump(exclude={"images", "target", "batch", "force", "errors", *WHERE})


def gather(request: Request, registry: Registry, notice: Callable[[str], None] = lambda _: None) -> list[SourceImage]:
    """The images asked for, read and checked; nothing else is loaded. Labelled images stand for each of them; those
    of them that cannot be read are named to ``notice`` and left out."""
    if not request.images:
        raise UsageError("no image: give paths, or NAME:INDEX of a domain (see: counterlens domains list)")
    asked = [one for name in request.images for one in _asked(name, registry, notice)]
    if not asked:
        raise UsageError(f"{request.images[0]}: no image that can be read")
    return asked


def _asked(name: str, registry: Registry, notice: Callable[[str], None]) -> Iterator[SourceImage]:
    from counterlens.core.images.fit import Picture
    from counterlens.core.images.load import load_picture

    if registry.is_data(name):
        for example, pixels in registry.open_dataset(name).pictures(notice=notice):
            decoded = example.digest if example.decode else None
            yield SourceImage(name=example.id, picture=Picture(pixels), label=example.label, decoded=decoded)
    elif (match := DOMAIN_IMAGE.match(name)) and not Path(name).exists():
        yield _of_domain(name, registry.domain(match[1]), int(match[2]))
    else:
        yield SourceImage(name=name, picture=load_picture(Path(name)), label=Path(name).resolve().parent.name)


def _of_domain(name: str, domain: type[Domain], index: int) -> SourceImage:
    from counterlens.core.images.fit import Picture

    count = domain.length("test")
    if not 0 <= index < count:
        raise UsageError(f"{name}: domain {domain.name!r} has images 0 to {count - 1}")
    sample = domain.sample(index)
    picture = Picture(sample.pixels)
    return SourceImage(
        name=name, picture=picture, label=sample.label, caption=sample.caption, domain=domain.name, index=index
    )
