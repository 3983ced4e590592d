"""What has been inverted: every image once at a skip, whoever asks again, and charged as if it had been alone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from counterlens.core.diffusion.inversion import joined
from counterlens.core.utils.memo import Memo

if TYPE_CHECKING:
    from counterlens.core.diffusion.inversion import Inversion
    from counterlens.core.problem.inversion_cache import Inversions


@dataclass
class InversionLedger:
    """The inversions of a problem's images, shared by all that is made of it; ``store``: the cache on the disk.

    ``kept``: by (skip, row); ``steps``: of inversions whose starts share steps, by whatever an inverter chooses;
    ``paid``: evaluations of a row's longest such inversion.
    """

    store: Inversions | None = None
    kept: dict[tuple[float | None, int], Inversion] = field(default_factory=dict, repr=False)
    steps: Memo = field(default_factory=Memo, repr=False)
    paid: dict[int, int] = field(default_factory=dict, repr=False)

    def invert(self, problem: Any, skip: float | None) -> Inversion:
        """The inverter's start for every row of a Problem; one made before is not made again."""
        rows = problem.scene.rows
        new = [rows.index(row) for row in dict.fromkeys(rows) if (skip, row) not in self.kept]
        if self.store is not None:
            for at in [new] if self.store.together else [[at] for at in new]:
                self._stored(problem.take(at), skip, self.store)
        elif new:
            made = problem.inverter.invert(problem.take(new), skip)
            self.kept.update({(skip, rows[at]): made.take([k]) for k, at in enumerate(new)})
        inversion = joined([self.kept[skip, row] for row in rows])
        if inversion.psnr is not None:
            problem.scene.net.meter.psnr.update(zip(rows, inversion.psnr.tolist(), strict=True))
        return inversion

    def _stored(self, problem: Any, skip: float | None, store: Inversions) -> None:
        """Keep the inversions of these rows: those that are found, and the others made in one batch, each put into the
        store with its share of the costs.

        Unless images are inverted ``together``, a batch is one row and shares no steps: the last bits of what is stored
        must not depend on who asked for it first, and with whom. It counts as it would without the store.
        """
        missing = []
        for at, row in enumerate(problem.scene.rows):
            scene = problem.scene.take([at])
            key = store.key(scene, problem.inverter, problem.combiner, skip, problem.batch)
            if found := store.get(key, scene):
                self.kept[skip, row], costs = found
                self._charge(problem, row, costs)
            else:
                missing.append((at, row, key))
        if not missing:
            return
        part, meter, begun = problem.take([at for at, _, _ in missing]), problem.scene.net.meter, time.perf_counter()
        before = {row: (meter.forward[row], meter.gradient[row]) for _, row, _ in missing}
        made = problem.inverter.invert(part if store.together else part.with_(inversions=InversionLedger()), skip)
        seconds = (time.perf_counter() - begun) / len(missing)
        for k, (_, row, key) in enumerate(missing):
            inversion, (forward, gradient) = made.take([k]), before[row]
            spent = {"forward": meter.forward[row] - forward, "gradient": meter.gradient[row] - gradient}
            store.put(key, inversion, part.scene.take([k]), {**spent, "seconds": seconds})
            self.kept[skip, row] = inversion
            if not store.together:
                meter.forward[row] = forward + self._due(problem, row, spent["forward"])

    def _charge(self, problem: Any, row: int, costs: Mapping[str, float]) -> None:
        """Count an inversion that was found as if it had been made, and what it spared."""
        meter, due = problem.scene.net.meter, self._due(problem, row, int(costs["forward"]))
        for count in (meter.forward, meter.reused):
            count[row] += due
        meter.gradient[row] += int(costs["gradient"])
        meter.spared[row] = meter.spared.get(row, 0.0) + costs["seconds"]

    def _due(self, problem: Any, row: int, forward: int) -> int:
        """What an inversion of ``forward`` evaluations adds, when the steps of a longer one serve it too."""
        if not problem.inverter.nested:
            return forward
        already, self.paid[row] = self.paid.get(row, 0), max(self.paid.get(row, 0), forward)
        return max(0, forward - already)
