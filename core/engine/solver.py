"""Where a batch of images is worked on: solved together, scored as saved, judged, written; failures are rows too."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from counterlens.core.engine.halved import halved
from counterlens.core.engine.manifest import heading_of
from counterlens.core.engine.plausibility import PlausibilityCheck
from counterlens.core.engine.reconstruction import reconstructions, warnings_of
from counterlens.core.engine.scene_builder import scene_of
from counterlens.core.images.pixels import as_saved, signed, to_pixels, unit
from counterlens.core.problem.inversion_ledger import InversionLedger
from counterlens.core.problem.items import Counterfactual, Try
from counterlens.core.problem.problem import Problem
from counterlens.core.runs.writer import Writer
from counterlens.core.utils.memo import Memo

if TYPE_CHECKING:
    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.engine.prepare import Prepared
    from counterlens.core.models.pipeline import Pipeline
    from counterlens.core.problem.inversion_cache import Inversions
    from counterlens.core.problem.items import ScoredImage, SearchResult
    from counterlens.core.problem.scene import Scene
    from counterlens.core.runs.writer import Sink


Progress = Callable[[str, int, int], None]
NOT_FINITE = "the result is not finite: the edit went out of range; try smaller strengths or --dtype float32"


@dataclass
class Solver:
    """The lent networks and the plan for a few images at a time.

    ``store``: where inversions are kept; ``strict``: an exception that no piece should raise is a bug and ends the
    run (else it is a failure of the image, with its type's name).
    """

    prepared: Prepared
    pipeline: Pipeline
    classifier: Classifier
    judge: Classifier | None
    progress: Progress
    store: Inversions | None = None
    strict: bool = True
    memo: Memo = field(default_factory=Memo)
    others: Mapping[str, Classifier] = field(default_factory=dict)

    @cached_property
    def plausibility(self) -> PlausibilityCheck:
        """What is asked how odd the pictures are; real images are read once."""
        return PlausibilityCheck.of(self.prepared, self.judge, self.classifier, self.pipeline.size)

    def writer(self, run: Sink) -> Writer:
        """Where this desk's records go."""
        heading, tau = heading_of(self.prepared), self.prepared.composition.method.tau
        return Writer(
            run=run,
            heading=heading,
            tau=tau,
            classifier=self.classifier,
            judge=self.judge,
            device=self.pipeline.device,
            keeps=not self.strict,
            save=self.prepared.request.save,
        )

    def batch(
        self, ready: Sequence[ScoredImage], run: Sink, again: str, place: tuple[int, int]
    ) -> Iterator[dict[str, Any]]:
        """The records of a few images; those that are finished are read, those that fail are rows."""
        kept = {r.item.digest: run.finished(r.item.digest) for r in ready} if again != "always" else {}
        todo = [r for r in ready if not kept.get(r.item.digest) and not r.failure]
        writer = self.writer(run)
        fresh = dict(self.solve(todo, writer, place)) if todo and again != "never" else {}
        for one in ready:
            if one.failure:
                yield writer.fail(one, one.failure)
            elif record := kept.get(one.item.digest) or fresh.get(one.item.digest):
                yield record

    def solve(
        self, todo: Sequence[ScoredImage], writer: Writer, place: tuple[int, int] = (0, 1)
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """(digest, record) of each image, solved together as far as they can be; see halved."""

        def together(part: Sequence[ScoredImage], rows: int) -> Iterator[tuple[str, dict[str, Any]]]:
            return self._together(part, writer, place, rows)

        def failed(one: ScoredImage, reason: str) -> tuple[str, dict[str, Any]]:
            return one.item.digest, writer.fail(one, reason)

        yield from halved(todo, together, failed, self.prepared.request.batch, self.strict)

    def _together(
        self, todo: Sequence[ScoredImage], writer: Writer, place: tuple[int, int], rows: int
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Search, decode and score; one record a row."""
        begun = time.perf_counter()
        _reset_peak(self.pipeline.device)
        scene = self._scene(todo)
        problem = self._problem(scene, place, rows)
        for editor in problem.editors:
            problem = editor.on_problem(problem)
        scene, found = problem.scene, problem.search.run(problem)
        plain = reconstructions(problem)
        with torch.no_grad():
            image = signed(as_saved(scene.picture(found.x0)).cpu())
            after = self.classifier.probabilities(unit(image).to(self.pipeline.device)).cpu()
            alone = after  # of the decoded picture alone: what putting it over its source costs in validity
            if scene.lock is not None:
                alone = self.classifier.probabilities(as_saved(self.pipeline.decode(found.x0))).cpu()
        odd = self.plausibility.rows(scene, image)
        shared = (time.perf_counter() - begun) / len(todo)
        for row, one in enumerate(todo):
            if found.failures and found.failures[row]:
                yield one.item.digest, writer.fail(one, found.failures[row])
                continue
            if not torch.isfinite(image[row]).all():
                yield one.item.digest, writer.fail(one, NOT_FINITE)
                continue
            notes = (*scene.items[row].notes, *warnings_of(plain[row]))
            done = Counterfactual(
                item=replace(scene.items[row], notes=notes),
                image=image[row],
                before=one.before,
                after=after[row],
                source=one.source,
                target=one.target,
                strength=found.strength[row],
                tried=found.tried[row],
                map=None if scene.change_map is None else scene.change_map[row].cpu(),
                alpha=None if scene.lock is None else scene.lock.alpha[row].cpu(),
                shots=self._shots(scene.take([row]), found, row),
            )
            costs = {**scene.net.meter.of(row), "peak_bytes": _peak(self.pipeline.device), "rows": rows}
            costs["seconds"] = round(shared + costs["seconds_reused"], 4)
            costs |= {**plain[row], **odd[row]}
            if scene.lock is not None:
                decoded = round(float(alone[row, one.target]), 6)
                costs |= {"steps_left_out": scene.net.meter.skipped[row], "p_target_decoded": decoded}
            yield one.item.digest, writer.write(done, one, costs)

    def _shots(self, scene: Scene, found: SearchResult, row: int) -> tuple[Try, ...]:
        """The pictures of what was tried for a row, if they are to be shown. ``scene``: of this row alone."""
        if not found.ends:
            return ()
        with torch.no_grad():
            pictures = [signed(as_saved(scene.picture(end[None]))[0].cpu()) for end in found.ends[row]]
        return tuple(
            Try(float(t["skip"] or 0), float(t["strength"] or 0), t["p_target"], to_pixels(picture))
            for t, picture in zip(found.tried[row], pictures, strict=True)
        )

    def problem(self, ready: Sequence[ScoredImage]) -> Problem:
        """The problem of these images, before its editors have added to it."""
        scene = self._scene(ready)
        return self._problem(scene, (0, len(scene)), self.prepared.request.batch)

    def _scene(self, ready: Sequence[ScoredImage]) -> Scene:
        return scene_of(ready, self.prepared, self.pipeline, self.classifier, self.memo, self.others)

    def _problem(self, scene: Scene, place: tuple[int, int], rows: int) -> Problem:
        method, (done, total) = self.prepared.composition, place
        return Problem(
            scene=scene,
            inverter=method.inverter,
            combiner=method.combiner,
            editors=method.editors,
            guidance=method.guidance,
            regularizers=method.regularizers,
            search=method.search,
            tau=method.method.tau,
            batch=rows,
            inversions=InversionLedger(self.store),
            keep=bool({"tries", "strips"} & set(self.prepared.request.save)),
            tick=lambda i, n: self.progress(method.method.name, done * n + i * len(scene), total * n),
        )


def _reset_peak(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: str) -> int:
    """Peak bytes: of the GPU since the batch began, else the largest resident size of the process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
