"""The kinds of pieces that a method is composed of. Imports no torch, so that listing pieces is fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from counterlens.core.pieces.base import Piece

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.diffusion.inversion import Inversion
    from counterlens.core.diffusion.levels import Estimate
    from counterlens.core.diffusion.step import Condition, Extra, Step
    from counterlens.core.problem.items import SearchResult
    from counterlens.core.problem.problem import Problem
    from counterlens.core.problem.scene import Scene
    from counterlens.core.problem.view import View


class Editor(Piece):
    """Changes what flows through the loop. Every hook is a no-op here; override those you need.

    ``sites``: activation sites for ``on_activation`` (see ``core/diffusion/sites.py`` for their names);
    ``attention_sites``: attention layers for ``on_attention``; either may be a function of the step, and
    ``step.site`` says where a hook is.
    """

    kind: ClassVar[str] = "editor"
    sites: ClassVar[tuple[str, ...]] = ()
    attention_sites: ClassVar[tuple[str, ...]] = ()
    mixes: ClassVar[bool] = False  # whether the rows of a step may be at different noise levels

    def bind(self, scene: Scene) -> Any:
        """What takes part in the loop for this scene: an object with any of the ``on_…`` hooks."""
        return self

    def on_start(self, problem: Problem, inversion: Inversion) -> Any:
        """What takes part, now that the start of the trajectory is known; called once a walk, after ``bind``."""
        return self

    def on_problem(self, problem: Problem) -> Problem:
        """The problem with what this editor adds to its scene (a change map), once, before the search."""
        return problem

    def on_latent(self, x: Tensor, step: Step) -> Tensor:
        """x [B,C,h,w] before the network is asked."""
        return x

    def on_condition(self, cond: Condition, step: Step) -> Condition:
        """{branch: [B,T,D]} before the network is asked."""
        return cond

    def on_extra(self, extra: Extra, step: Step) -> Extra:
        """{branch: {name: [B,…]}}: further inputs of the network (SDXL's pooled text), after ``on_condition``."""
        return extra

    def on_activation(self, h: Tensor, step: Step) -> Tensor:
        """h [B,c,h',w'] at one of ``sites`` (``step.site``), for one branch (``step.branch``)."""
        return h

    def on_attention(self, p: Tensor, step: Step) -> Tensor:
        """p [B,heads,q,k] at one of ``attention_sites``, for one branch."""
        return p

    def on_estimate(self, est: Estimate, step: Step) -> Estimate:
        """The clean image and the noise, after branches were combined."""
        return est

    def on_next(self, x: Tensor, step: Step) -> Tensor:
        """The next x [B,C,h,w], after the parts were mixed again at the next level."""
        return x


class Energy(Piece):
    """A differentiable number an image, lower is better: the common part of guidance and regularizers."""

    weight: float = Field(1.0, description="factor in the sum of energies", ge=0)

    @property
    def draws(self) -> bool:
        """Whether it looks at random draws (``view.draw``), so that two looks at one image differ."""
        return False

    def __call__(self, view: View, step: Step) -> Tensor:
        """[B]: one number an image; never averaged over the batch."""
        raise NotImplementedError


class Guidance(Energy):
    """Differentiable pull toward the target: ``(view, step) -> [B]``, lower is nearer."""

    kind: ClassVar[str] = "guidance"
    gives: ClassVar[frozenset[str]] = frozenset({"pull"})
    any_source: ClassVar[bool] = False  # whether an image that is decided as its target already is explained too


class Regularizer(Energy):
    """Penalty for leaving the source: ``(view, step) -> [B]``."""

    kind: ClassVar[str] = "regularizer"


class Inverter(Piece):
    """Makes a start of a trajectory out of a real image."""

    kind: ClassVar[str] = "inverter"
    gives: ClassVar[frozenset[str]] = frozenset({"trajectory"})
    nested: ClassVar[bool] = False  # whether a later start is part of an earlier one (``problem.inversions.steps``)
    skip: float = Field(
        0.0, description="share of the trajectory left out, from its noisy end: 0 starts at pure noise", ge=0, lt=1
    )

    def start(self, n: int, skip: float | None = None) -> int:
        """The first step that runs, of ``n``."""
        return min(n - 1, round(n * (self.skip if skip is None else skip)))

    def invert(self, problem: Problem, skip: float | None = None) -> Inversion:
        """The start for ``problem.scene``; ``skip`` overrides the option (searches try several)."""
        raise NotImplementedError


class Combiner(Piece):
    """Makes one prediction out of the branches; exactly one a method."""

    kind: ClassVar[str] = "combiner"
    gives: ClassVar[frozenset[str]] = frozenset({"prediction"})

    def branches(self, available: Sequence[str]) -> tuple[str, ...]:
        """Which of the family's branches have to be asked, the conditional one last."""
        return tuple(available)

    def __call__(self, branches: Mapping[str, Tensor], step: Step) -> Tensor:
        raise NotImplementedError


class Search(Piece):
    """How a method spends its evaluations; exactly one a method.

    A search that decides itself what a record's ``strength`` is has a ``strength_unit``; else it is that of the editor
    or guidance that the strength multiplies. ``ahead``: batches of images that it is given at a time, so that those
    which are not decided yet fill the batches of network calls.
    """

    kind: ClassVar[str] = "search"
    ahead: ClassVar[int] = 1

    def run(self, problem: Problem) -> SearchResult:
        """The counterfactual latents of ``problem.scene``, a row an image."""
        raise NotImplementedError
