"""A benchmark's run folder as a value: its protocol, its images and its units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from counterlens.benchmarks.protocol.data import BenchImage
from counterlens.benchmarks.protocol.entries import Entry
from counterlens.benchmarks.protocol.protocol import Protocol
from counterlens.core.errors import UsageError

if TYPE_CHECKING:
    from counterlens.core.runs.folder import Run


@dataclass(frozen=True)
class Bench:
    """An open run of a benchmark: its folder, and the manifest read into what it says."""

    run: Run
    protocol: Protocol
    entries: tuple[Entry, ...]
    jobs: tuple[BenchImage, ...]
    items: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, run: Run) -> Bench:
        """The benchmark in a run's folder; UsageError for a run of another kind."""
        manifest = run.manifest
        if manifest.get("kind") != "bench":
            raise UsageError(f"{run.path}: a run of explain, not of bench")
        protocol = Protocol(**{key: value for key, value in manifest["protocol"].items() if key != "hash"})
        entries = tuple(Entry(**row) for row in manifest["rows"])
        return cls(run, protocol, entries, tuple(BenchImage(**job) for job in manifest["images"]), manifest["items"])

    @property
    def asked(self) -> int:
        return sum(len(found) for found in self.items.values())

    @property
    def draws(self) -> dict[str, str]:
        """Further draws: the name of a row, and the row it is a draw of."""
        return {entry.name: entry.draw_of for entry in self.entries if entry.draw_of}

    def records(self) -> dict[str, list[dict[str, Any] | None]]:
        """By row, an image each; None where an item is not finished (or is damaged)."""
        return {row: [self.run.finished(digest) for digest in digests] for row, digests in self.items.items()}
