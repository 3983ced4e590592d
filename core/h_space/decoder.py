"""What a U-Net makes of one activation: the part of the network behind a site, as a function of the activation there.

The part before the site is run once. Afterwards its modules answer with what they answered then (skip connections
included), so that only what depends on the activation is computed and differentiated: for the bottleneck, the decoder.
No forward code is copied: the network's own runs, for every family.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from counterlens.core.diffusion.module_hooks import Listener, captured, tapped
from counterlens.core.diffusion.network import Network
from counterlens.core.diffusion.sites import blocks, check_site
from counterlens.core.diffusion.step import Combine, Step
from counterlens.core.linalg.krylov import Operator


@dataclass(frozen=True, eq=False)
class DecoderHalf:
    """The network's answer to one image as a function of a step away from its activation ``h`` [1,c,h',w'] at a site.

    Every branch gets the same step, and the answer is what the combiner makes of them.
    """

    net: Network
    step: Step
    combine: Combine
    answers: Mapping[nn.Module, Any]
    site: str
    h: Tensor

    def __call__(self, delta: Tensor) -> Tensor:
        """delta [k,c,h',w'] -> the network's answers [k,C,h,w], in its own parametrisation."""
        n, k, step = len(self.step.cond), len(delta), self.step
        cond = torch.cat([value.repeat_interleave(k, 0) for value in step.cond.values()])
        names = next(iter(step.extra.values()), {})
        extra = {name: torch.cat([step.extra[b][name].repeat_interleave(k, 0) for b in step.cond]) for name in names}
        t = torch.as_tensor(step.level.t, device=delta.device).expand(1).repeat(n * k)
        x = step.x.repeat(n * k, 1, 1, 1).to(self.net.dtype)
        with self._replaying(k), tapped(self.net.sites, self.net.attention, [AddDelta((self.site,), delta)], step):
            out = self.net.predict(x, t, cond, extra).float()[:, : self.net.channels]
        return self.combine(dict(zip(step.cond, out.chunk(n), strict=True)), step)

    @contextmanager
    def _replaying(self, k: int) -> Iterator[None]:
        with ExitStack() as stack:
            for module, answer in self.answers.items():
                again = _repeated(answer, k)
                module.forward = lambda *_, _again=again, **__: _again  # an instance attribute, deleted below
                stack.callback(delattr, module, "forward")
            yield

    def operator(self, mask: Tensor | None = None, batch: int = 8) -> Operator:
        """J = d(answer)/dh as a map of rows; with ``mask`` [1,1 or C,h,w], diag(mask) J. ``batch`` rows go together.

        Products with J are forward mode, products with J' go back through one graph that is kept. Forward mode has no
        rule for fused attention, so both use the plain one. The answer has one row here, whatever the branches.
        """
        weight = torch.ones_like(self.step.x) if mask is None else mask.expand_as(self.step.x).to(self.step.x)
        with plain_attention(), torch.enable_grad():
            delta = torch.zeros_like(self.h).requires_grad_()
            out = self(delta)

        def times(v: Tensor) -> Tensor:
            rows = v.to(self.h.device, self.h.dtype).unflatten(1, self.h.shape[1:])
            return torch.cat([(weight * self.pushed(part)).flatten(1) for part in rows.split(batch)])

        def back(u: Tensor) -> Tensor:
            rows = u.to(out).unflatten(1, out.shape[1:]) * weight
            grads = [
                torch.autograd.grad(out, delta, part[:, None], is_grads_batched=True, retain_graph=True)[0]
                for part in rows.split(batch)
            ]
            return torch.cat(grads).flatten(1)

        return Operator(times, back, self.h.numel())

    @torch.no_grad()
    def pushed(self, rows: Tensor) -> Tensor:
        """J v of every row: [k,c,h',w'] -> [k,C,h,w]."""
        with forward_ad.dual_level(), plain_attention():
            dual = forward_ad.make_dual(torch.zeros_like(rows), rows)
            tangent = forward_ad.unpack_dual(self(dual)).tangent
        return rows.new_zeros(len(rows), *self.step.x.shape[1:]) if tangent is None else tangent


def decoder_half(net: Network, unet: nn.Module, site: str, step: Step, combine: Combine) -> DecoderHalf:
    """The network behind ``site`` at the state of ``step``, which holds one image. UsageError for an unknown site."""
    check_site(site, net.sites)
    if len(step.x) != 1:
        raise ValueError(f"one image at a time, not {len(step.x)}")
    parts: list[Any] = [unet.get_submodule("conv_in"), *blocks(unet, "down_blocks"), *blocks(unet, "up_blocks")]
    parts += [getattr(unet, "mid_block", None), net.sites[site].module]
    seen: list[tuple[int, Tensor]] = []  # how many parts had answered when the activation passed: later ones rest on it
    # the parts are listened to before the site, whose hooks are hung up by the call
    with captured(part for part in parts if part is not None) as calls, torch.no_grad(), plain_attention():
        net.estimate(step, [Listener(lambda h, _: seen.append((len(calls), h)), (site,))], combine)
    return DecoderHalf(
        net=net, step=step, combine=combine, answers=dict(calls[: seen[0][0]]), site=site, h=seen[-1][1].float()
    )


@dataclass(frozen=True, eq=False)
class AddDelta:
    """Adds a step [k,c,h',w'] to the activation of every branch."""

    sites: tuple[str, ...]
    delta: Tensor

    def on_activation(self, h: Tensor, step: Step) -> Tensor:
        return h + self.delta.to(h.dtype)


@contextmanager
def plain_attention() -> Iterator[None]:
    """Attention by plain matrix products, which every mode of differentiation knows."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):
        yield


def _repeated(answer: Any, k: int) -> Any:
    """A module's answer [n,…] with every row k times."""
    if isinstance(answer, Tensor):
        return answer.repeat_interleave(k, 0)
    return tuple(_repeated(part, k) for part in answer)
