"""Labelled images and the classifier that looks at them, for ``counterlens neurons``; and the sheets it draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from counterlens.core.classifiers.unit_table import UnitTable
    from counterlens.core.models.model_options import ModelOptions
    from counterlens.core.plugin.registry import Registry


class SheetRow(NamedTuple):
    """A row of pictures ``images`` [N,3,H,W] in [0,1], with words below each and maps [N,1,H,W] in [0,1] over them."""

    title: str
    images: Tensor
    words: Sequence[str]
    maps: Tensor | None = None


class Sheet(NamedTuple):
    """Rows of pictures to be drawn below one title."""

    title: str
    rows: Sequence[SheetRow]


class UnitStudy:
    """Labelled images and the classifier that looks at them; with a pipeline of words, on loan until it closes."""

    def __init__(
        self,
        registry: Registry,
        data: str,
        classifier: str | None,
        batch: int = 16,
        device: str = "auto",
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        from counterlens.core.errors import UsageError
        from counterlens.core.models.device import device_of

        self.registry, self.batch, self.device, self.notice = registry, batch, device_of(device), notice
        self.data, self.dataset = data, self.registry.open_dataset(data)
        uri = classifier or (self.domain.classifier if self.domain else "")
        if not uri:
            raise UsageError("which classifier? give --classifier URI, such as file:model.safetensors or timm:resnet18")
        self.classifier = self.registry.open_classifier(uri, self.device)
        self.kept: dict[str, np.ndarray] = {}
        self.stack = ExitStack()

    def __enter__(self) -> UnitStudy:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stack.close()

    @property
    def domain(self) -> Any:
        """The embedded domain of the data, if it is one."""
        from counterlens.core.utils.uri import parse_uri

        uri = parse_uri(self.data)
        return self.registry.domain(uri.path) if uri.scheme == "domain" else None

    def pictures(self) -> Iterator[tuple[str, str, np.ndarray]]:
        for example, pixels in self.dataset.pictures(notice=self.notice):
            yield example.id, example.label, pixels

    def table(self, layer: str) -> UnitTable:
        from counterlens.core.classifiers.unit_table import measured

        return measured(self.classifier, self.pictures(), layer, self.batch)

    def picture(self, name: str) -> np.ndarray:
        """One of the images again."""
        if name not in self.kept:
            (example,) = [e for e in self.dataset.examples if e.id == name]
            self.kept[name] = example.read()
        return self.kept[name]

    def captions(self, names: Sequence[str], labels: Sequence[str], captioner: str | None) -> list[str]:
        """Captions of some images: a captioner's, else the domain's own."""
        from counterlens.core.errors import UsageError

        if captioner:
            piece = self.registry.make("captioner", captioner)
            piece.check(())
            found = piece.caption([self.picture(name) for name in names], labels, self.device)
            return [text for text, _ in found]
        if self.domain is None:
            raise UsageError("what describes the images? give --captioner 'NAME k=v', or --words a,b,c")
        places = [name.split(":") for name in names]
        return [self.domain.sample(int(index), split).caption for _, split, index in places]

    def pipeline(self, networks: ModelOptions) -> Any:
        """A pipeline that is conditioned on words, on loan."""
        return lent(self.registry, self.stack, networks, self.domain.name if self.domain else "")


def lent(registry: Registry, stack: ExitStack, networks: ModelOptions, domain: str = "") -> Any:
    """The text-conditioned pipeline of the options, or of the domain; PlanError for one without words."""
    from counterlens.core.engine.locate import locate
    from counterlens.core.models.pool import Pool

    uri = networks.model or (f"domain:{domain}" if domain else "")
    needs = {"text": "a picture made of words"}
    place = locate(registry, uri, needs, revision=networks.revision, offline=networks.offline)
    return stack.enter_context(Pool().lend(networks.key(place.folder), registry.family(place.family).load))


def same_size(pictures: Sequence[np.ndarray]) -> Tensor:
    """[N,3,H,W] in [0,1]; pictures of other sizes are brought to the first one's."""
    import torch
    import torch.nn.functional as F

    from counterlens.core.images.pixels import to_tensor, unit

    images = [unit(to_tensor(picture)[None]) for picture in pictures]
    size = images[0].shape[-2:]
    return torch.cat([F.interpolate(i, size, mode="bilinear", antialias=True, align_corners=False) for i in images])
