"""The source's own way along a trajectory: its states and attention maps, recorded once an image and start."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.diffusion.inversion import Inversion
    from counterlens.core.diffusion.step import Step
    from counterlens.core.problem.problem import Problem

Sites = Callable[["Step"], Sequence[str]]


@dataclass(frozen=True, eq=False)
class Trace:
    """Of one image: ``states[i]`` [C,h,w] entering step i, ``maps[site, i]`` [heads,q,k] of the conditional branch."""

    states: dict[int, Tensor] = field(default_factory=dict)
    maps: dict[tuple[str, int], Tensor] = field(default_factory=dict)


def traces_of(problem: Problem, inversion: Inversion, who: Hashable, sites: Sites, share: float) -> list[Trace]:
    """The trace of every row over the first ``share`` of the steps, made where nobody has asked before.

    It is that of the first walk of an image from this level: a search that moves the start keeps it.
    """
    import torch

    from counterlens.core.diffusion.module_hooks import Listener
    from counterlens.core.diffusion.network import Network

    level = (len(inversion.grid), float(torch.as_tensor(inversion.grid[0].t).flatten()[0]))
    keys = [(who, level, row) for row in problem.scene.rows]
    new = [keys.index(key) for key in dict.fromkeys(keys) if key not in problem.traced]
    if new:
        plain = replace(problem.take(new), editors=())
        net = plain.scene.net.as_(Network, checkpointed=False)  # its own questions
        plain = plain.with_(scene=replace(plain.scene, lock=None, net=net))
        traces = [Trace() for _ in new]
        branch = list(problem.scene.cond)[-1]

        def keep(p: Tensor, step: Step) -> None:
            if step.branch == branch:
                kept = p.detach().half() if p.is_cuda else p.detach()  # in half precision on accelerators
                for trace, row in zip(traces, kept, strict=True):
                    trace.maps[step.site, step.i] = row.clone()

        start = inversion.take(new)
        with torch.no_grad():
            steps = len(inversion.grid) - 1
            for frame in plain.frames(replace(start, x=start.x.detach()), [Listener(keep, attention_sites=sites)]):
                for trace, row in zip(traces, frame.step.x, strict=True):
                    trace.states[frame.step.i] = row.detach()
                if frame.step.i + 1 >= share * steps:
                    break
        problem.traced.update((keys[at], trace) for at, trace in zip(new, traces, strict=True))
    return [problem.traced[key] for key in keys]
