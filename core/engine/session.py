"""The engine: a request in, one record an image out; every file is written as soon as its image is finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from counterlens.core.engine.classifier_check import check_classifier
from counterlens.core.engine.manifest import manifest_of, versions
from counterlens.core.engine.prepare import prepare
from counterlens.core.engine.scene_builder import ready_items
from counterlens.core.engine.solver import Solver
from counterlens.core.errors import PlanError, UsageError
from counterlens.core.models.pool import Key, Pool
from counterlens.core.problem.inversion_cache import Inversions
from counterlens.core.problem.plan import plan
from counterlens.core.runs.folder import Run
from counterlens.core.runs.records import items_csv, tries_csv
from counterlens.core.runs.report import write_report
from counterlens.core.utils.batched import batched
from counterlens.core.utils.digest import digest, weight_hashes

if TYPE_CHECKING:
    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.engine.prepare import Prepared
    from counterlens.core.engine.request import Request
    from counterlens.core.engine.solver import Progress
    from counterlens.core.plugin.registry import Registry
    from counterlens.core.problem.items import ScoredImage
    from counterlens.core.runs.report import (
        Record,
    )
    from counterlens.core.utils.tensor_cache import Cache


def sections_of(registry: Registry, manifest: Record, records: Sequence[Record]) -> list[tuple[str, str]]:
    """What plugins add to a report, as (title, HTML); a plugin that fails is a section that says so."""
    from html import escape

    found: list[tuple[str, str]] = []
    for hook in registry.pm.hook.counterlens_report_sections.get_hookimpls():
        try:
            ask: Any = hook.function
            found += list(ask(report={"manifest": manifest, "records": list(records)}))
        except Exception as error:  # a stranger's section must not take the report down
            found.append((hook.plugin_name, f"<p>left out: {escape(f'{type(error).__name__}: {error}')}</p>"))
    return found


Notice = Callable[[str], None]


def explain(
    request: Request,
    registry: Registry,
    *,
    out: Path | str = "runs",
    again: str = "missing",
    pool: Pool | None = None,
    cache: Cache | None = None,
    on_progress: Progress | None = None,
    on_notice: Notice | None = None,
) -> Iterator[dict[str, Any]]:
    """Counterfactuals of a request: one record an image, in the order asked for.

    ``on_notice`` hears what a user should read, such as the classifier's measured accuracy. Files go into a run
    folder below ``out``; ``again`` says what a second call does with finished images (``missing`` keeps them,
    ``never`` only reads, ``always`` starts a new folder). ``cache``: where inversions are found and kept.
    Raises UsageError and PlanError before any weight is loaded; an image that fails is a record with ``failure``.
    """
    prepared = prepare(request, registry, notice=on_notice or _silent)
    session = Session(registry, pool or Pool(), cache, together=True)
    yield from session.run(prepared, Path(out), again, on_progress or _silent, on_notice or _silent)


def _silent(*_: object) -> None:
    """Nothing is shown."""


@dataclass
class Session:
    """A registry and a pool: several requests share what they load; with a ``cache`` also their inversions."""

    registry: Registry
    pool: Pool = field(default_factory=Pool)
    cache: Cache | None = None
    together: bool = False  # whether what is kept may be made in batches; see Inversions.together

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
            classifier = self.classifier(stack, prepared.classifier, prepared.key.device)
            self._check(prepared, classifier, notice)
            progress("loading", 0, 1)
            desk, ready = self.desk(stack, prepared, progress)
            if prepared.request.errors:
                notice(f"errors: {len(ready)} of {len(prepared.asked)} images are decided otherwise than their label")
            refuse_if_nothing(ready, classifier)
            yield from self._work(desk, ready, weights_of(prepared.key.model, prepared.key.adapters), out, again)

    def desk(
        self, stack: ExitStack, prepared: Prepared, progress: Progress = _silent, **how: Any
    ) -> tuple[Solver, list[ScoredImage]]:
        """A desk with its networks on loan until ``stack`` closes, and the images ready for it."""
        classifier, judge = (
            self.classifier(stack, uri, prepared.key.device) if uri else None
            for uri in (prepared.classifier, prepared.judge)
        )
        others = self._others(stack, prepared, classifier) if classifier else {}
        pipeline = stack.enter_context(self.pool.lend(prepared.key, self.registry.family(prepared.family).load))
        weights = digest(weights_of(prepared.key.model, prepared.key.adapters))
        ready = ready_items(prepared, pipeline, classifier, weights)
        how = {"store": self._store(prepared, weights), "others": others, **how}
        solver = Solver(
            prepared=prepared,
            pipeline=pipeline,
            classifier=classifier,  # type: ignore[arg-type]
            judge=judge,
            progress=progress,
            **how,
        )
        return solver, ready

    def _others(self, stack: ExitStack, prepared: Prepared, classifier: Classifier) -> dict[str, Classifier]:
        """The further classifiers that pieces ask for, opened and found to fit; ``judge`` is the request's."""
        pieces, device = prepared.composition.pieces(), prepared.key.device
        others: dict[str, Classifier] = {}
        for uri in dict.fromkeys(uri for piece in pieces for uri in piece.classifiers()):
            if uri == "judge" and not prepared.judge:
                raise PlanError("no judge: give --judge URI, or name the other classifier in the piece's options")
            others[uri] = self.classifier(stack, prepared.judge if uri == "judge" else uri, device)
        for piece in pieces:
            piece.meet(classifier, others)
        return others

    def _store(self, prepared: Prepared, weights: str) -> Inversions | None:
        """Where inversions of this pipeline are kept: what decides their bits, besides the inverter and the scene."""
        if self.cache is None:
            return None
        key = prepared.key
        device = key.device if key.device == "cpu" else torch.cuda.get_device_name(key.device)
        about: dict[str, Any] = {"weights": weights, "family": prepared.family, "dtype": key.dtype, "device": device}
        about |= {"revision": key.revision, "variant": key.variant, "options": sorted(map(str, key.options))}
        return Inversions(self.cache, {**about, "versions": versions()}, self.together)

    def _work(
        self, desk: Solver, ready: list[ScoredImage], weights: Any, out: Path, again: str
    ) -> Iterator[dict[str, Any]]:
        """Items in batches, in order; finished ones are read from the run's folder."""
        manifest = manifest_of(desk.prepared, self.registry, ready, weights)
        run_digest = digest(manifest["items"])
        run = Run.create(out, desk.prepared.composition.method.name, run_digest, manifest, again)
        hook = self.registry.pm.hook
        records: list[dict[str, Any]] = []
        hook.counterlens_run_started(manifest=manifest)
        status = "failed"
        try:
            size = desk.prepared.request.batch * desk.prepared.composition.search.ahead
            for batch in batched(ready, size):
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
                if "csv" in desk.prepared.request.save:
                    run.write("items.csv", items_csv(records))
                    run.write("tries.csv", tries_csv(records))
            hook.counterlens_run_done(manifest=manifest)

    def classifier(self, stack: ExitStack, uri: str, device: str) -> Classifier:
        """A classifier or judge on loan until ``stack`` closes."""
        return stack.enter_context(
            self.pool.lend(Key(uri, device=device), lambda key: self.registry.open_classifier(uri, device))
        )

    def _check(self, prepared: Prepared, classifier: Classifier, notice: Notice) -> None:
        """What only the opened classifier can tell: its labels, whether it has gradients, whether it works."""
        for note in classifier.notes:
            notice(f"classifier {prepared.classifier}: {note}")
        if prepared.request.target is not None:
            classifier.label_index(prepared.request.target)
        if not classifier.differentiable:
            given = prepared.given - {"gradient"}
            plan(prepared.composition, self.registry, prepared.family, given)
        if (score := check_classifier(prepared, classifier, self.registry)) is not None:
            notice(f"classifier {prepared.classifier}: {score}{'; ' + score.note if score.note else ''}")


def refuse_if_nothing(ready: list[ScoredImage], classifier: Classifier) -> None:
    """UsageError when every image is already decided as its target."""
    if all(one.failure for one in ready):
        raise UsageError(f"{ready[0].failure}; choose another --target of: {', '.join(classifier.contract.labels)}")


def weights_of(model: str, adapters: Sequence[str] = ()) -> dict[str, str]:
    """Hashes of the weight files of a local pipeline folder and its adapters; a hub id is named by its snapshot."""
    folder = Path(model)
    base = weight_hashes(folder) if folder.is_dir() else {"id": model}
    return base | {f"adapter {a}: {k}": v for a in adapters for k, v in weight_hashes(Path(a).expanduser()).items()}


def _report(run: Run, records: list[dict[str, Any]], registry: Registry) -> None:
    write_report(run.path, run.manifest, records, sections_of(registry, run.manifest, records))
