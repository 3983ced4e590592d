"""The kind ``trainer``: what ``counterlens train`` makes, and the job that one gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from counterlens.core.pieces.base import Piece

if TYPE_CHECKING:
    from counterlens.core.data.dataset import Dataset
    from counterlens.core.models.pipeline import Pipeline
    from counterlens.core.pieces.catalogue import Catalogue


class Trainer(Piece):
    """What ``counterlens train NAME DATA`` makes; its fields are the command's options.

    ``networks``: ``none``, ``model`` when it works with a pipeline (``--model``) that has what it ``needs``, or
    ``maybe`` when that depends on its options. ``file``: what it writes if ``--out`` does not say.
    """

    kind: ClassVar[str] = "trainer"
    networks: ClassVar[str] = "none"
    file: ClassVar[str] = ""

    def uses_model(self) -> bool:
        """Whether a pipeline is lent, with these options."""
        return self.networks == "model"

    def plan(self, job: TrainJob) -> Mapping[str, Any]:
        """What ``train`` would do with this job, how long it takes and how big it gets, as far as it is known; nothing
        is written."""
        return {"options": self.model_dump(), "out": str(job.out)}

    def train(self, job: TrainJob) -> Mapping[str, Any]:
        """Do the work and write ``job.out``; returns the record that is printed.

        The hashes of the images that were read are written beside it (data/training_images.py); a trainer whose parts
        see different images writes a record into the sub-folder of each.
        """
        raise NotImplementedError


Progress = Callable[[str, int, int], None]
Notice = Callable[[str], None]


def _silent(*_: object) -> None:
    """Nothing is shown."""


@dataclass(frozen=True)
class TrainJob:
    """What a trainer gets. ``out`` is a file or a folder that is written whole; ``model`` the pipeline's folder.

    ``test``: the images of the test part, where the data asked for is the training part of more.
    """

    catalogue: Catalogue
    dataset: Dataset
    out: Path
    pipeline: Pipeline | None = None
    model: str = ""
    device: str = "cpu"
    seed: int = 0
    strict: bool = False
    progress: Progress = _silent
    notice: Notice = _silent
    test: Dataset | None = None

    @property
    def network(self) -> Pipeline:
        """The pipeline, for trainers that asked for one."""
        assert self.pipeline is not None
        return self.pipeline
