"""Where a batch of images is worked on: solved together, scored as saved, judged, written; failures are rows too."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from counterlens.core.classifier import Classifier
from counterlens.core.errors import CounterlensError
from counterlens.core.prepare import Prepared
from counterlens.core.problem import Problem, as_saved
from counterlens.core.records import failed_record, judgement, pictures_of, record_of
from counterlens.core.run import Run
from counterlens.core.scenes import Ready, scene_of
from counterlens.core.types import Counterfactual, Scene

if TYPE_CHECKING:
    from counterlens.core.pipeline import Pipeline

Progress = Callable[[str, int, int], None]
NOT_FINITE = "the result is not finite: the edit went out of range; try smaller strengths or --dtype float32"


@dataclass
class Desk:
    """The lent networks and the plan for a few images at a time."""

    prepared: Prepared
    pipeline: Pipeline
    classifier: Classifier
    judge: Classifier | None
    progress: Progress

    def batch(self, ready: Sequence[Ready], run: Run, again: str, place: tuple[int, int]) -> Iterator[dict[str, Any]]:
        """The records of a few images; those that are finished are read, those that fail are rows."""
        kept = {r.item.digest: run.finished(r.item.digest) for r in ready} if again != "always" else {}
        todo = [r for r in ready if not kept.get(r.item.digest) and not r.failure]
        fresh = dict(self._solve(todo, run, place)) if todo and again != "never" else {}
        for one in ready:
            if one.failure:
                yield self._write_failure(one, run, one.failure)
            elif record := kept.get(one.item.digest) or fresh.get(one.item.digest):
                yield record

    def _solve(self, todo: Sequence[Ready], run: Run, place: tuple[int, int]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Solve together; if that fails, one at a time, so that one image cannot take the others with it."""
        try:
            yield from self._together(todo, run, place)
        except (CounterlensError, RuntimeError, FloatingPointError) as error:
            if isinstance(error, CounterlensError) and error.exit_code != 1:
                raise
            if len(todo) == 1:
                failure = str(error).splitlines()[0]
                yield todo[0].item.digest, self._write_failure(todo[0], run, failure)
                return
            half = len(todo) // 2  # also the way out of a batch that does not fit into memory
            yield from self._solve(todo[:half], run, place)
            yield from self._solve(todo[half:], run, place)

    def _together(
        self, todo: Sequence[Ready], run: Run, place: tuple[int, int]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Search, decode and score; one record a row."""
        begun = time.perf_counter()
        _reset_peak(self.pipeline.device)
        scene = scene_of(todo, self.prepared, self.pipeline, self.classifier)
        found = self.prepared.composition.search.run(self._problem(scene, place))
        with torch.no_grad():
            image = as_saved(self.pipeline.decode(found.x0)).cpu() * 2 - 1
            after = self.classifier.probabilities((image / 2 + 0.5).to(self.pipeline.device)).cpu()
        shared = {
            "seconds": round((time.perf_counter() - begun) / len(todo), 4),
            "peak_bytes": _peak(self.pipeline.device),
        }
        for row, one in enumerate(todo):
            if not torch.isfinite(image[row]).all():
                yield one.item.digest, self._write_failure(one, run, NOT_FINITE)
                continue
            done = Counterfactual(
                one.item,
                image[row],
                one.before,
                after[row],
                one.source,
                one.target,
                found.strength[row],
                found.tried[row],
                one.map,
            )
            meter = scene.net.meter
            costs = {"unet_evaluations": meter.forward[row], "gradient_evaluations": meter.gradient[row], **shared}
            yield one.item.digest, self._write(done, one, run, costs)

    def _problem(self, scene: Scene, place: tuple[int, int]) -> Problem:
        method, (done, total) = self.prepared.composition, place
        return Problem(
            scene,
            method.inverter,
            method.combiner,
            method.editors,
            method.guidance,
            method.regularizers,
            tau=method.method.tau,
            batch=self.prepared.request.batch,
            tick=lambda i, n: self.progress(method.method.name, done * n + i * len(scene), total * n),
        )

    def _write(self, done: Counterfactual, one: Ready, run: Run, costs: dict[str, Any]) -> dict[str, Any]:
        record = record_of(done, self.prepared, self.classifier, self._judged(done, one), costs)
        record["counterfactual"] = str(run.path / "items" / one.item.digest / "counterfactual.png")
        run.write_item(one.item.digest, record, pictures_of(done, one.place))
        run.log({"event": "item", "digest": one.item.digest, "flipped": record["flipped"]})
        return record

    def _write_failure(self, one: Ready, run: Run, failure: str) -> dict[str, Any]:
        record = failed_record(one, self.prepared, self.classifier, failure)
        run.log({"event": "failure", "digest": one.item.digest, "failure": failure})
        return record

    def _judged(self, done: Counterfactual, one: Ready) -> dict[str, Any]:
        if self.judge is None:
            return {"judge_flipped": None, "judge_before": None, "judge_after": None}
        pair = torch.stack([one.image, done.image]).to(self.pipeline.device)
        with torch.no_grad():
            before, after = self.judge.probabilities(as_saved(pair)).cpu()
        return judgement(self.judge.contract.labels, before, after, one.item.target)


def _reset_peak(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: str) -> int:
    """Peak bytes: of the GPU since the batch began, else the largest resident size of the process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
