"""An image that is asked for, as it was read, with its target and label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class SourceImage(BaseModel):
    """One image of a request: where its pixels come from, and the domain it belongs to, if any."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)
    name: str
    picture: Any
    label: str | None = None
    caption: str = ""
    domain: str = ""
    index: int = -1
    target: str = ""  # this image's own, before that of the request
    decoded: Any = Field(None, exclude=True, repr=False)  # its hash (a function) where it was cut on its way here

    @property
    def digest(self) -> str:
        """The hash by which the image is known again, however it was cut."""
        return self.decoded() if self.decoded else self.picture.digest

    @property
    def sized(self) -> tuple[str, int, int]:
        """Name, height and width."""
        height, width = self.picture.pixels.shape[:2]
        return self.name, height, width


def common_domain(asked: Sequence[SourceImage]) -> str:
    """The one domain that all images are of, else an empty string."""
    names = {one.domain for one in asked}
    return names.pop() if len(names) == 1 else ""
