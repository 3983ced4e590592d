"""What a run says of itself: the request, the pieces, the versions, the weights."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from counterlens.core.engine.prepare import Prepared
    from counterlens.core.plugin.registry import Registry
    from counterlens.core.problem.items import ScoredImage
    from counterlens.core.problem.plan import PlanRow


def heading_of(prepared: Prepared) -> dict[str, Any]:
    """What all records of a request have in common: who made them, and who looked at them."""
    return {
        "method": prepared.composition.method.name,
        "model": prepared.request.model or f"domain:{prepared.domain}/{prepared.family}",
        "family": prepared.family,
        "classifier": prepared.classifier,
        "judge": prepared.judge or None,
        "strength_unit": prepared.composition.strength_unit or None,
    }


def manifest_of(
    prepared: Prepared, registry: Registry, items: Sequence[ScoredImage], weights: Mapping[str, str]
) -> dict:
    """The birth certificate of a run."""
    request = prepared.request
    return {
        "request": request.model_dump(mode="json"),
        "method": prepared.composition.method.model_dump(mode="json"),
        "plan": [_row(row) for row in prepared.plan],
        "family": prepared.family,
        "model": prepared.key.model,
        "classifier": prepared.classifier,
        "judge": prepared.judge or None,
        "domain": prepared.domain or None,
        "items": [r.item.digest for r in items],
        "seeds": {"user": request.seed},
        "device": prepared.key.device,
        "dtype": prepared.key.dtype,
        "weights": dict(weights),
        "versions": versions(),
        "plugins": [f"{p.name} {p.version}" for p in registry.plugins if not p.error],
        "platform": f"{platform.system()} {platform.machine()}, Python {sys.version.split()[0]}",
    }


def _row(row: PlanRow) -> dict[str, Any]:
    return {"kind": row.kind, "name": row.name, "options": row.options, "needs": row.needs, "gives": row.gives}


def versions() -> dict[str, str]:
    """Versions of what decides a result's last bits."""
    names = ("counterlens", "torch", "diffusers", "transformers", "numpy", "pillow")
    return {name: metadata.version(name) for name in names}
