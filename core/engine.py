"""The engine: a request in, one record an image out; every file is written as soon as its image is finished."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from counterlens.core.checks import check_classifier
from counterlens.core.classifier import Classifier, open_classifier
from counterlens.core.digest import digest, weight_hashes
from counterlens.core.errors import CounterlensError, RunFailed
from counterlens.core.plan import plan
from counterlens.core.pool import Key, Pool
from counterlens.core.prepare import Prepared, prepare
from counterlens.core.problem import Problem, as_saved
from counterlens.core.records import failed_record, judgement, manifest_of, pictures_of, record_of
from counterlens.core.request import Request
from counterlens.core.run import Run
from counterlens.core.scenes import Ready, ready_items, scene_of
from counterlens.core.types import Counterfactual

if TYPE_CHECKING:
    from counterlens.core.pipeline import Pipeline
    from counterlens.core.registry import Registry

Progress = Callable[[str, int, int], None]
Notice = Callable[[str], None]


def explain(
    request: Request,
    registry: Registry,
    *,
    out: Path | str = "runs",
    again: str = "missing",
    pool: Pool | None = None,
    on_progress: Progress | None = None,
    on_notice: Notice | None = None,
) -> Iterator[dict[str, Any]]:
    """Counterfactuals of a request: one record an image, in the order asked for.

    ``on_notice`` hears what a user should read, such as the classifier's measured accuracy. Files go into a run
    folder below ``out``; ``again`` says what a second call does with finished images (``missing`` keeps them,
    ``never`` only reads, ``always`` starts a new folder).
    Raises UsageError and PlanError before any weight is loaded; an image that fails is a record with ``failure``.
    """
    prepared = prepare(request, registry)
    session = Session(registry, pool or Pool())
    yield from session.run(prepared, Path(out), again, on_progress or _silent, on_notice or _silent)


def _silent(*_: object) -> None:
    """Nothing is shown."""


@dataclass
class Session:
    """A registry and a pool: several requests share what they load."""

    registry: Registry
    pool: Pool = field(default_factory=Pool)

    def run(
        self,
        prepared: Prepared,
        out: Path,
        again: str = "missing",
        progress: Progress = _silent,
        notice: Notice = _silent,
    ) -> Iterator[dict[str, Any]]:
        """Do what was prepared; see ``explain``."""
        with ExitStack() as stack:
            classifier = self._classifier(stack, prepared.classifier, prepared)
            judge = self._classifier(stack, prepared.judge, prepared) if prepared.judge else None
            self._check(prepared, classifier, notice)
            progress("loading", 0, 1)
            pipeline = stack.enter_context(self.pool.lend(prepared.key, self.registry.family(prepared.family).load))
            weights = _weights(prepared.key.model)
            ready = ready_items(prepared, pipeline, classifier, digest(weights))
            desk = Desk(prepared, pipeline, classifier, judge, progress)
            yield from self._work(desk, ready, weights, out, again)

    def _work(self, desk: Desk, ready: list[Ready], weights: Any, out: Path, again: str) -> Iterator[dict[str, Any]]:
        """Items in batches, in order; finished ones are read from the run's folder."""
        manifest = manifest_of(desk.prepared, self.registry, ready, weights)
        run_digest = digest(manifest["items"])
        run = Run.create(out, desk.prepared.composition.method.name, run_digest, manifest, again)
        hook = self.registry.pm.hook
        records: list[dict[str, Any]] = []
        hook.counterlens_run_started(manifest=manifest)
        status = "failed"
        try:
            for batch in _batches(ready, desk.prepared.request.batch):
                for record in desk.batch(batch, run, again, (len(records), len(ready))):
                    records.append(record)
                    hook.counterlens_item_done(record=record)
                    yield record
            status = "done"
        except (KeyboardInterrupt, GeneratorExit):
            status = "interrupted"
            raise
        finally:
            run.finish(status, flipped=sum(bool(r["flipped"]) for r in records), asked=len(ready))
            if records:
                _report(run, records, self.registry)
            hook.counterlens_run_done(manifest=manifest)

    def _classifier(self, stack: ExitStack, uri: str, prepared: Prepared) -> Classifier:
        device = prepared.key.device
        return stack.enter_context(
            self.pool.lend(Key(uri, device=device), lambda key: open_classifier(self.registry, uri, device))
        )

    def _check(self, prepared: Prepared, classifier: Classifier, notice: Notice) -> None:
        """What only the opened classifier can tell: its labels, whether it has gradients, whether it works."""
        if prepared.request.target is not None:
            classifier.label_index(prepared.request.target)
        if not classifier.differentiable:
            given = prepared.given - {"gradient"}
            plan(prepared.composition, self.registry, prepared.family, given)
        if (score := check_classifier(prepared, classifier, self.registry)) is not None:
            notice(f"classifier {prepared.classifier}: {score}{'; ' + score.note if score.note else ''}")


@dataclass
class Desk:
    """Where a batch of images is worked on: the lent networks and the plan."""

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
        method, begun = self.prepared.composition, time.perf_counter()
        _reset_peak(self.pipeline.device)
        scene = scene_of(todo, self.prepared, self.pipeline, self.classifier)
        done, total = place
        problem = Problem(
            scene,
            method.inverter,
            method.combiner,
            method.editors,
            method.guidance,
            method.regularizers,
            tau=method.method.tau,
            batch=self.prepared.request.batch,
            tick=lambda i, n: self.progress(method.method.name, done * n + i * len(todo), total * n),
        )
        found = method.search.run(problem)
        with torch.no_grad():
            image = as_saved(self.pipeline.decode(found.x0)).cpu() * 2 - 1
        if not torch.isfinite(image).all():
            raise RunFailed(
                "the result has numbers that are not finite: a smaller strength or --dtype float32 may help"
            )
        after = self.classifier.probabilities((image / 2 + 0.5).to(self.pipeline.device)).detach().cpu()
        seconds = (time.perf_counter() - begun) / len(todo)
        for row, one in enumerate(todo):
            counterfactual = Counterfactual(
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
            costs = {
                "unet_evaluations": scene.net.meter.forward[row],
                "gradient_evaluations": scene.net.meter.gradient[row],
                "seconds": round(seconds, 4),
                "peak_bytes": _peak(self.pipeline.device),
            }
            yield one.item.digest, self._write(counterfactual, one, run, costs)

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


def _batches(ready: list[Ready], size: int) -> Iterator[list[Ready]]:
    yield from (ready[k : k + size] for k in range(0, len(ready), size))


def _weights(model: str) -> dict[str, str]:
    """Hashes of the weight files of a local pipeline folder; a hub id is named by its snapshot."""
    folder = Path(model)
    return weight_hashes(folder) if folder.is_dir() else {"id": model}


def _report(run: Run, records: list[dict[str, Any]], registry: Registry) -> None:
    from counterlens.core.report import sections_of, write_report

    write_report(run.path, run.manifest, records, sections_of(registry, run.manifest, records))


def _reset_peak(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: str) -> int:
    """Peak bytes: of the GPU since the batch began, else the largest resident size of the process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
