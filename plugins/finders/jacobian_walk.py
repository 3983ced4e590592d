"""The spectral finder's walk along one image's trajectory: vectors of every step, matched with those before."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import interpolate

from counterlens.core.diffusion.loop import Frame
from counterlens.core.errors import UsageError
from counterlens.core.h_space.decoder import DecoderHalf, decoder_half
from counterlens.core.linalg.krylov import Spectrum, leading
from counterlens.core.linalg.masked_krylov import masked_singular_vectors, without
from counterlens.core.utils.digest import digest, image_digest
from counterlens.core.utils.tensor_cache import Cache
from counterlens.core.utils.weights import fingerprint

if TYPE_CHECKING:
    from counterlens.core.h_space.job import FindJob
    from counterlens.core.problem.problem import Problem

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class SpectralOptions:
    """The options of ``jacobian`` of the same names."""

    components: int
    outside: str
    avoid: int
    floor: float
    block: int
    tol: float
    rounds: int
    warm: bool


@dataclass(frozen=True)
class StepVectors:
    """One step's vectors ``rows`` [k,c,h',w'], unit, with their ``values`` and ``residual`` [k]; ``link`` [k] is the
    |cosine| with those of the step before, ``norm`` the activation's own length."""

    rows: Tensor
    values: Tensor
    residual: Tensor
    link: Tensor
    norm: float
    products: int
    rounds: int
    converged: bool


def along(o: SpectralOptions, job: FindJob, problem: Problem, change: Tensor | None) -> list[StepVectors]:
    """The vectors at every state of the image's own trajectory; what an earlier call found there is taken."""
    inversion, cache, model = problem.invert(0.0), Cache(), fingerprint(job.pipeline.unet)
    found: list[StepVectors] = []
    spectrum, key = None, ""
    with torch.no_grad():
        for frame in problem.frames(inversion):
            key = _key(o, job, frame, change, model, key if o.warm else "")
            f = decoder_half(problem.scene.net, job.pipeline.unet, job.quest.site, frame.step, problem.combiner)
            if o.components > f.h.numel():
                raise UsageError(
                    f"an activation of {f.h.numel()} numbers has at most as many directions: give fewer --components"
                )
            start = spectrum.block if spectrum is not None and o.warm else None
            spectrum = _kept(cache, key) or _spectrum(o, f, change, start)
            _keep(cache, key, spectrum)
            found.append(_matched(spectrum, found[-1] if found else None, f))
            job.progress("singular vectors", frame.step.i + 1, frame.step.n)
    return found


def _spectrum(o: SpectralOptions, f: DecoderHalf, change: Tensor | None, start: Tensor | None) -> Spectrum:
    """The leading vectors of one step, as the options say."""
    how: dict[str, Any] = {"block": o.block, "tol": o.tol, "limit": o.rounds}
    k, size = o.components, f.step.x.shape[-2:]
    if change is None:
        return leading(f.operator(), k, **how, start=start)
    mask = interpolate(change.float(), size, mode="area")
    inside = f.operator(mask)
    if o.outside == "free":
        return leading(inside, k, **how, start=start)
    if o.outside == "null-space":
        out = f.operator(1 - mask)
        avoided = leading(out, min(o.avoid, out.d - k), **how)
        found = leading(without(inside, avoided.right), k, **how, start=start)
        return _with_cost(found, avoided)
    top = leading(inside, 1, tol=1e-2)
    a, weight = f.operator(), mask.expand_as(f.step.x).flatten().to("cpu", torch.float64)
    floor = o.floor * max(float(top.values[0]) ** 2, 1e-12)
    return _with_cost(masked_singular_vectors(a, weight, k, floor, **how, start=start), top)


def _with_cost(found: Spectrum, other: Spectrum) -> Spectrum:
    return replace(found, products=found.products + other.products, rounds=found.rounds + other.rounds)


def _matched(spectrum: Spectrum, before: StepVectors | None, f: DecoderHalf) -> StepVectors:
    """In the order and with the signs of the step before; values may then not descend."""
    rows = spectrum.right / spectrum.right.norm(dim=1, keepdim=True)
    k = len(rows)
    order, sign, link = torch.arange(k), torch.ones(k, dtype=torch.float64), torch.ones(k, dtype=torch.float64)
    if before is None:
        top = rows.abs().argmax(1)
        sign = rows[torch.arange(k), top].sign()
    else:
        cosines = before.rows.flatten(1).double() @ rows.T
        order = torch.from_numpy(linear_sum_assignment(cosines.abs().numpy(), maximize=True)[1])
        value = cosines[torch.arange(k), order]
        sign, link = torch.where(value < 0, -1.0, 1.0).double(), value.abs()
    own = (rows[order] * sign[:, None]).unflatten(1, f.h.shape[1:])
    return StepVectors(
        rows=own,
        values=spectrum.values[order],
        residual=spectrum.residual[order],
        link=link,
        norm=float(f.h.float().norm()),
        products=spectrum.products,
        rounds=spectrum.rounds,
        converged=spectrum.converged,
    )


def _key(o: SpectralOptions, job: FindJob, frame: Frame, change: Tensor | None, model: str, before: str) -> str:
    """Of everything that a step's vectors depend on: the network, the state, the mask, the options, the start."""
    step = frame.step
    options = {name: value for name, value in asdict(o).items() if name != "warm"}
    return digest(
        {
            "version": VERSION,
            "model": model,
            "dtype": job.quest.dtype,
            "site": job.quest.site,
            "combiner": [job.combiner.name, job.combiner.model_dump()],
            "options": options,
            "mask": None if change is None else _bits(change),
            "x": _bits(step.x),
            "level": [float(step.level.t), float(step.level.a), float(step.level.s)],
            "cond": {name: _bits(value) for name, value in step.cond.items()},
            "extra": {b: {n: _bits(v) for n, v in parts.items()} for b, parts in step.extra.items()},
            "before": before,
        }
    )


def _bits(tensor: Tensor) -> str:
    return image_digest(tensor.detach().cpu().float().contiguous().numpy())


def _kept(cache: Cache, key: str) -> Spectrum | None:
    if (tensors := cache.get(key)) is None:
        return None
    products, rounds, converged = tensors.pop("cost").tolist()
    return Spectrum(**tensors, products=products, rounds=rounds, converged=bool(converged))


def _keep(cache: Cache, key: str, spectrum: Spectrum) -> None:
    cost = torch.tensor([spectrum.products, spectrum.rounds, int(spectrum.converged)])
    names = ("values", "right", "residual", "block")
    cache.put(key, {**{name: getattr(spectrum, name) for name in names}, "cost": cost})
