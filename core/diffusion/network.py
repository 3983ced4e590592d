"""A denoising network lent for one run: branches in, one estimate out.

Module hooks live for one network call. Hooks that stayed for the whole loop would give silently wrong
gradients under checkpointing, because the recomputation runs after they are gone; so the *question* is
checkpointed, not the block: recomputing re-enters the hooks, and only one latent a step is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from counterlens.core.diffusion.costs import CostMeter
from counterlens.core.diffusion.levels import Estimate
from counterlens.core.diffusion.module_hooks import tapped

if TYPE_CHECKING:
    from counterlens.core.diffusion.schedulers import Dynamics
    from counterlens.core.diffusion.sites import Site
    from counterlens.core.diffusion.step import Combine, Step


Kind = TypeVar("Kind", bound="Network")
Predict = Callable[[Tensor, Tensor, Tensor, Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True, eq=False)
class Network:
    """A U-Net and how to ask it.

    ``predict(x [N,C,h,w], t [N], cond [N,…], extra) -> [N,C or 2C,h,w]`` is the family's; ``sites`` names the
    activations that editors may change, ``attention`` those whose attention they may.
    """

    predict: Predict
    dynamics: Dynamics
    channels: int
    sites: Mapping[str, Site] = field(default_factory=dict)
    attention: Mapping[str, nn.Module] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32
    meter: CostMeter = field(default_factory=CostMeter)
    checkpointed: bool = False

    def as_(self, kind: type[Kind], **fields: Any) -> Kind:
        """The same network as another kind of Network, with that kind's own fields or others of these."""
        return kind(**{**{name: getattr(self, name) for name in Network.__dataclass_fields__}, **fields})

    def estimate(self, step: Step, editors: Sequence[Any], combine: Combine, without: Any = None) -> Estimate:
        """Ask the network about ``step.x`` under every branch, with the editors' hooks in place for this call."""
        editors = [editor for editor in editors if editor is not without]
        self.meter.asked(step.rows, len(step.cond))
        if not (self.checkpointed and torch.is_grad_enabled()):
            return self._answer(step, editors, combine)

        def again(x: Tensor, *conditions: Tensor) -> tuple[Tensor, ...]:
            est = self._answer(replace(step, x=x, cond=dict(zip(step.cond, conditions, strict=True))), editors, combine)
            return (est.x0, est.eps) if est.spread is None else (est.x0, est.eps, est.spread)  # type: ignore[return-value]

        return Estimate(*checkpoint(again, step.x, *step.cond.values(), use_reentrant=False))  # type: ignore[misc]

    def _answer(self, step: Step, editors: Sequence[Any], combine: Combine) -> Estimate:
        return self.read(*self.combined(step, editors, combine), step)

    def combined(self, step: Step, editors: Sequence[Any], combine: Combine) -> tuple[Tensor, Tensor | None]:
        """The one prediction made of all branches, [B,C,h,w], and what the network says of its variance, if it does."""
        branches, raw = self.branches(step, editors)
        return combine(branches, step), raw

    def branches(self, step: Step, editors: Sequence[Any] = ()) -> tuple[dict[str, Tensor], Tensor | None]:
        """The network's answer under every branch of ``step.cond``, [B,C,h,w] each, in one call; and the variance."""
        n, batch = len(step.cond), len(step.x)
        level = step.level
        t = torch.as_tensor(level.t, device=step.x.device).expand(batch)
        extra = _stack([step.extra.get(branch, {}) for branch in step.cond])
        with tapped(self.sites, self.attention, editors, step):
            out = self.predict(
                step.x.repeat(n, 1, 1, 1).to(self.dtype), t.repeat(n), torch.cat(list(step.cond.values())), extra
            )
        out = out.to(torch.promote_types(out.dtype, torch.float32))
        out, raw = out[:, : self.channels], (out[:, self.channels :] if out.shape[1] > self.channels else None)
        learned = None if raw is None else raw.chunk(n)[-1]  # the conditional branch's, as in stock pipelines
        return dict(zip(step.cond, out.chunk(n), strict=True)), learned

    def read(self, answer: Tensor, raw: Tensor | None, step: Step) -> Estimate:
        """A prediction as clean image and noise.

        The network is asked at the noisier level. Where the walk goes towards noise (inversion), its answer is about
        the state there, which is what the step from there to ``step.x`` began with.
        """
        level, x, kind = step.now, step.x, self.dynamics.kind
        if step.backwards:
            level = step.to
            x = level.before(x, step.now, answer, kind)
        est = self.dynamics.bound(level.split(x, answer, kind), x, level)
        return replace(est, spread=self.dynamics.spread(raw, step.now, step.to))


def _stack(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in (parts[0] if parts else {})}
