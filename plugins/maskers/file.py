from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from counterlens.core.problem.masker import Masker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from counterlens.core.data.source_image import SourceImage
    from counterlens.core.images.map_file import MapFile
    from counterlens.core.problem.scene import Scene


class File(Masker):
    """A drawn map: a grey picture, or the transparency of one, of the picture's own size.

    ``{stem}`` in the path stands for the picture's file name without its ending, ``{index}`` for its number in a
    domain, so that every picture can have its own map.
    """

    name: ClassVar[str] = "file"
    path: str = Field(description="the map's file; {stem} and {index} stand for the picture's own")
    white: Literal["change", "keep"] = Field("change", description="what white, or opaque, means; never guessed")
    channel: Literal["grey", "alpha"] = Field("grey", description="which values are read")
    fit: Literal["crop", "pad", "squash"] | None = Field(
        None, description="take a map of another size than the picture, and bring it to that size so"
    )
    snap: float = Field(0.02, description="values so near to 0 and 1 become 0 and 1", ge=0, lt=0.5)

    def check(self, asked: Sequence[SourceImage]) -> None:
        by_path: dict[str, list[SourceImage]] = {}
        for one in asked:
            by_path.setdefault(self._path(one.name, one.index), []).append(one)
        for path, pictures in by_path.items():
            read = self._read(path)
            (replace(read, values=1 - read.values) if self.invert else read).check(
                [one.sized for one in pictures], self.fit
            )

    def mask(self, scene: Scene) -> Tensor:
        import torch

        size = (scene.image.shape[-2], scene.image.shape[-1])
        policy = self.fit or scene.resources.options.get("fit", "crop")
        maps = [self._read(self._path(item.name, item.origin.get("index", -1))) for item in scene.items]
        return torch.stack([torch.from_numpy(one.fitted(size, policy))[None] for one in maps]).to(scene.image)

    def _path(self, name: str, index: int) -> str:
        return self.path.replace("{stem}", Path(name).stem).replace("{index}", str(index))

    def _read(self, path: str) -> MapFile:
        from counterlens.core.images.map_file import read_map

        return read_map(path, self.white, self.channel, self.snap)
