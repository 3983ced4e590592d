"""How a classifier's decision changes with the activations: gradients in h-space, predictions, projections.

With ``m`` the log-odds of the target on the finished picture and ``g = dm/d delta`` at some shift, a direction ``v``
is predicted to change m by ``<g,v>`` at strength 1, and to flip it at ``gamma0 = (wanted - m)/<g,v>``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from counterlens.core.classifiers.log_odds import log_odds
from counterlens.core.diffusion.costs import CostMeter
from counterlens.core.diffusion.inversion import Inversion
from counterlens.core.diffusion.levels import Estimate
from counterlens.core.diffusion.step import Step
from counterlens.core.errors import UsageError
from counterlens.core.h_space.injection import ActivationRecorder, AddShift
from counterlens.core.problem.problem import Problem
from counterlens.core.problem.view import View
from counterlens.core.search.guidance_step import total


@dataclass(frozen=True, eq=False)
class TargetGradient:
    """At a shift: ``gradient`` [T,B,C,h',w'] of the objective, ``margin`` [B] log-odds of the target, ``norms`` [T,B]
    lengths of the activation (0 in steps that did not run), ``x0`` [B,C,h,w] the finished latents.

    ``protected`` [K,T,B,C,h',w']: gradients of the logits that are not to change.
    """

    gradient: Tensor
    margin: Tensor
    norms: Tensor
    x0: Tensor
    protected: Tensor | None = None


def target_gradient(
    problem: Problem,
    inversion: Inversion,
    inject: AddShift,
    protect: Sequence[int] = (),
    through: str = "trajectory",
) -> TargetGradient:
    """The objective (log-odds of the target less the problem's energies) and its gradient at ``inject.delta``.

    ``through``: ``trajectory`` goes back through every step, one latent a step kept (each step is asked again);
    ``step`` reads the decision off each step's own clean image, one pass through the part of the network behind the
    site.
    """
    recorder = ActivationRecorder((inject.site,))
    delta = inject.delta.detach().requires_grad_()
    if through == "step":
        if protect:
            raise UsageError("logits are protected along the whole trajectory: leave through=trajectory")
        return _by_steps(problem, inversion, replace(inject, delta=delta), recorder)
    scene = replace(problem.scene, net=replace(problem.scene.net, checkpointed=True))
    problem = problem.with_(scene=scene)
    with torch.enable_grad():
        frame = None
        for frame in problem.frames(inversion, [recorder, replace(inject, delta=delta)]):  # noqa: B007
            pass
        x0 = scene.x0 if frame is None else frame.x / float(inversion.grid[-1].a)
        if scene.lock is not None:
            x0 = scene.lock.restored(x0)
        view = View(x0, scene)
        objective = margin = log_odds(view.logits, scene.target)
        if problem.energies and frame is not None:
            objective = margin - total(problem.energies, view, frame.step)
        ends = [objective.sum(), *(view.logits[:, k].sum() for k in protect)]
        found = [_gradient(end, delta, k + 1 < len(ends)) for k, end in enumerate(ends)]
    for row in scene.rows:
        scene.net.meter.gradient[row] += len(ends)
    protected = torch.stack(found[1:]) if protect else None
    return TargetGradient(
        gradient=found[0], margin=margin.detach(), norms=_norms(recorder, inject), x0=x0.detach(), protected=protected
    )


def _gradient(end: Tensor, delta: Tensor, keep: bool) -> Tensor:
    if not end.requires_grad:  # nothing of the trajectory is free: a lock holds all of it
        return torch.zeros_like(delta)
    return torch.autograd.grad(end, delta, retain_graph=keep)[0]


def _by_steps(problem: Problem, inversion: Inversion, inject: AddShift, recorder: ActivationRecorder) -> TargetGradient:
    """One backward pass a step, through the network's answer to that step alone."""
    own = _Own(problem, inject)
    with torch.enable_grad():
        x0 = problem.walk(inversion, [recorder, inject, own])
    with torch.no_grad():
        margin = log_odds(View(x0.detach(), problem.scene).logits, problem.scene.target)
    return TargetGradient(own.gradient, margin, _norms(recorder, inject), x0.detach())


class _Own:
    """Gathers the gradient of each step's own clean image, and cuts the graph behind it."""

    def __init__(self, problem: Problem, inject: AddShift) -> None:
        self.problem, self.inject = problem, inject
        self.gradient = torch.zeros_like(inject.delta)

    def on_latent(self, x: Tensor, step: Step) -> Tensor:
        return x.detach()

    def on_estimate(self, est: Estimate, step: Step) -> Estimate:
        scene = self.problem.scene
        objective = log_odds(View(est.x0, scene).logits, scene.target)
        if self.problem.energies:
            objective = objective - total(self.problem.energies, View(est.x0, scene), step)
        if est.x0.requires_grad and not self.inject.idle(step):
            self.gradient += torch.autograd.grad(objective.sum(), self.inject.delta)[0]
            for row in scene.rows:
                scene.net.meter.gradient[row] += 1
        return replace(est, x0=est.x0.detach(), eps=est.eps.detach())


def _norms(recorder: ActivationRecorder, inject: AddShift) -> Tensor:
    """[T,B]: lengths of the activation, 0 in steps that did not run."""
    seen = recorder.h[inject.site]
    norms = torch.zeros(inject.delta.shape[:2], device=inject.delta.device)
    last = max(seen, default=-1)  # the end of the walk is the end of the trajectory
    for i, h in seen.items():
        norms[len(norms) - 1 - last + i] = h.flatten(1).norm(dim=1)
    return norms


def relative(delta: Tensor, norms: Tensor) -> Tensor:
    """[B]: how long a shift [T,B,…] is in units of the activation, root mean square over the steps that run."""
    ran = norms > 0
    ratio = torch.where(ran, delta.flatten(2).norm(dim=2) / norms.clamp_min(1e-12), torch.zeros_like(norms))
    return (ratio.square().sum(0) / ran.sum(0).clamp_min(1)).sqrt()


def steepest(gradient: Tensor, norms: Tensor) -> Tensor:
    """The direction [T,B,…] of relative length 1 along which the objective grows fastest: ``|h_t|²·g_t``, scaled."""
    v = gradient * norms.square()[..., None, None, None]
    return v / relative(v, norms).clamp_min(1e-20).view(1, -1, 1, 1, 1)


def predicted(gradient: Tensor, v: Tensor) -> Tensor:
    """[B]: <g,v>, the change of the objective at strength 1, to first order."""
    return (gradient * v).flatten(2).sum((0, 2))


def ranking(gradient: Tensor, norms: Tensor, deltas: Tensor) -> Tensor:
    """[K,B]: predicted change of the objective per relative length, of each direction ``deltas`` [K,T,C,h',w']."""
    rows = []
    for delta in deltas:
        v = delta[:, None].expand_as(gradient)
        rows.append(predicted(gradient, v) / relative(v, norms).clamp_min(1e-12))
    return torch.stack(rows)


def projected_out(v: Tensor, conditions: Tensor, ridge: float = 0.0) -> Tensor:
    """``v`` [D] without its part in the span of ``conditions`` [K,D] (Haas et al. 2024, eq. 12).

    The conditions are solved for together: repeated, scaled or nearly parallel ones change nothing. ``ridge`` (a share
    of the largest squared singular value) leaves something of what only weak combinations of them reach.
    """
    basis, share = _span(conditions, ridge)
    w = v.double()
    return (w - basis.T @ (share * (basis @ w))).to(v.dtype)


def disentangled(gradient: Tensor, protected: Tensor, ridge: float) -> Tensor:
    """The gradient [T,B,…] without its part along those of the protected logits [K,T,B,…], row by row."""
    rows = [
        projected_out(gradient[:, k].flatten(), protected[:, :, k].flatten(1), ridge) for k in range(gradient.shape[1])
    ]
    return torch.stack([row.view_as(gradient[:, 0]) for row in rows], 1)


def projected_on(v: Tensor, directions: Tensor, ridge: float = 0.0) -> Tensor:
    """The part of ``v`` [D] in the span of ``directions`` [K,D]."""
    basis, share = _span(directions, ridge)
    return (basis.T @ (share * (basis @ v.double()))).to(v.dtype)


def _span(rows: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """An orthonormal basis [K,D] of unit rows, and how much of each direction counts, [K]; in double precision."""
    rows = rows.double()
    length = rows.norm(dim=1, keepdim=True)
    rows = torch.where(length > 0, rows / length.clamp_min(1e-300), rows)
    # of the small matrix of inner products: [K,D] has few rows and very many columns
    values, u = torch.linalg.eigh(rows @ rows.T)
    top = values.amax().clamp_min(1e-300)
    keep = values > 1e-10 * top
    basis = (u[:, keep] / values[keep].sqrt()).T @ rows
    return basis, values[keep] / (values[keep] + ridge * top)


def cosines(v: Tensor, others: Tensor) -> Tensor:
    """[K]: of ``v`` [D] with each of ``others`` [K,D]."""
    return torch.cosine_similarity(v.double()[None], others.double(), dim=1).float()


def zeros(problem: Problem, site: str, inversion: Inversion) -> Tensor:
    """A shift of nothing [T,B,C,h',w'] for this problem's rows at a site: one question tells its shape."""
    scene, look = problem.scene, ActivationRecorder((site,))
    at = scene.take([0])
    step = Step(
        i=0,
        n=1,
        now=inversion.grid[0],
        to=inversion.grid[1],
        x=inversion.x[:1],
        cond=at.cond,
        rows=at.rows,
        extra=at.extra,
    )
    with torch.no_grad():
        replace(scene.net, meter=CostMeter()).estimate(step, [look], problem.combiner)
    return torch.zeros(len(scene.grid) - 1, len(scene), *look.h[site][0].shape[1:], device=scene.x0.device)
