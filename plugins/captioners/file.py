from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from counterlens.core.conditioning.captioner import Captioner
from counterlens.core.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from counterlens.core.data.source_image import SourceImage


class FileOf(Captioner):
    """Captions that were made before: lines of counterlens caption --out, found by the pixels of the picture."""

    name: ClassVar[str] = "file"
    path: str = Field(description="JSON lines with digest and caption")

    def check(self, asked: Sequence[SourceImage]) -> None:
        read_captions(self.path)

    def said(self, pictures: Sequence[np.ndarray], labels: Sequence[str], device: str = "cpu") -> list[str]:
        from counterlens.core.utils.digest import image_digest

        known, digests = read_captions(self.path), [image_digest(picture) for picture in pictures]
        missing = [label for digest, label in zip(digests, labels, strict=True) if digest not in known]
        if missing:
            raise UsageError(
                f"{self.path} has no caption for {len(missing)} of {len(pictures)} pictures (the first is of class "
                f"{missing[0]!r}): caption them at the pipeline's size, with counterlens caption --size N --out FILE"
            )
        return [known[digest] for digest in digests]


def read_captions(path: str) -> dict[str, str]:
    """{digest: caption}; UsageError for a file that is missing, or a line that is something else."""
    found = {}
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UsageError(f"captions {path}: {error.strerror}; make them with counterlens caption --out FILE") from None
    for number, line in enumerate(lines, 1):
        try:
            one = json.loads(line)
            found[str(one["digest"])] = str(one["caption"])
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{path}, line {number}: not a JSON object with digest and caption") from None
    return found
