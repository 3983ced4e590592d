"""The kind ``finder``: what finds directions in a U-Net's activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from counterlens.core.pieces.base import Piece

if TYPE_CHECKING:
    from counterlens.core.h_space.job import FindJob
    from counterlens.core.h_space.shifts import ShiftBank


class Finder(Piece):
    """Finds directions in a U-Net's activations (shifts.py); its fields are options of ``directions find``.

    ``per_image``: it works along the trajectory of images that are named (``--image``), not over many samples.
    """

    kind: ClassVar[str] = "finder"
    needs: ClassVar[frozenset[str]] = frozenset({"mid-block"})
    per_image: ClassVar[bool] = False

    def find(self, job: FindJob) -> ShiftBank:
        """The shifts, with their statistics and where they come from (``job.bank(shifts, norms)``)."""
        raise NotImplementedError
