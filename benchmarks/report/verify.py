"""Is a run what it says? Items that are missing or damaged, and a comparison of two runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from counterlens.benchmarks.protocol.bench import Bench
from counterlens.benchmarks.protocol.metrics import context, metrics
from counterlens.benchmarks.protocol.protocol import differences
from counterlens.benchmarks.stats import estimates
from counterlens.benchmarks.stats.evaluate import measured
from counterlens.core.errors import UsageError
from counterlens.core.metrics.evaluate import column_table
from counterlens.core.runs.folder import Run, record_hash

if TYPE_CHECKING:
    from counterlens.core.plugin.registry import Registry


def verify_run(run: Run) -> dict[str, Any]:
    """``asked``, ``whole``, ``missing`` (never finished) and ``damaged`` ({digest: what is wrong}) of a run."""
    items = run.manifest.get("items") or []
    asked = [d for found in items.values() for d in found] if isinstance(items, Mapping) else list(items)
    damaged = {digest: why for digest in asked if (why := problem(run, digest)) not in ("", "missing")}
    missing = [digest for digest in asked if problem(run, digest) == "missing"]
    whole = len(asked) - len(damaged) - len(missing)
    return {"run": run.name, "asked": len(asked), "whole": whole, "missing": missing, "damaged": damaged}


def problem(run: Run, digest: str) -> str:
    """What is wrong with an item; empty when it is whole, ``missing`` when it was never finished."""
    folder = run.path / "items" / digest
    try:
        record = json.loads((folder / "item.json").read_bytes())
    except FileNotFoundError:
        return "missing"
    except (OSError, ValueError):
        return "item.json cannot be read"
    if run.finished(digest) is not None:
        return ""
    if not isinstance(record, dict) or not isinstance(record.get("pictures"), dict):
        return "item.json is not a record"
    if record.get("hash", "") not in ("", record_hash(record)):
        return "item.json was changed"
    for name in record["pictures"]:
        if not (folder / name).exists():
            return f"{name} is gone"
    return "a picture is not as it was written"


def compared(first: Bench, second: Bench, registry: Registry) -> dict[str, Any]:
    """Two runs of one protocol, row by row: identical items, and paired differences of every metric (first minus
    second). UsageError with the difference when the protocols are not the same."""
    if unlike := differences(first.protocol.dumped(), second.protocol.dumped()):
        listed = "; ".join(f"{name}: {a!r} and {b!r}" for name, (a, b) in unlike.items())
        raise UsageError(f"different protocols cannot be compared: {listed}")
    shared = [row for row in first.items if row in second.items and row not in first.draws]
    if not shared:
        raise UsageError(f"no row in common: {', '.join(first.items)} and {', '.join(second.items)}")
    one, other = (_values(bench, shared, registry) for bench in (first, second))
    known = column_table(metrics(first.protocol, registry), context(first.protocol, registry))
    tests: list[dict[str, Any]] = []
    for row in shared:
        pair = {first.run.name: one[row], second.run.name: other[row]}
        if first.run.name == second.run.name:
            pair = {"first": one[row], "second": other[row]}
        tests += [{"method": row, **test} for test in estimates.compare(pair, known, None, first.protocol.resamples)]
    for test, p in zip(tests, estimates.holm([test["p"] for test in tests]), strict=True):
        test["p_holm"] = p
    return {"protocol": first.protocol.hash, "items": _identical(first, second, shared), "rows": tests}


def _values(bench: Bench, rows: list[str], registry: Registry) -> Mapping[str, list[dict[str, Any]]]:
    records = {row: found for row, found in bench.records().items() if row in rows or bench.draws.get(row) in rows}
    return measured(bench.run.path, bench.protocol, bench.jobs, records, registry, draws=bench.draws).values


def _identical(first: Bench, second: Bench, rows: list[str]) -> dict[str, Any]:
    """Of the items that both have finished: how many, and how many are the same by hash."""
    one, other = first.records(), second.records()
    pairs = [(a, b) for row in rows for a, b in zip(one[row], other[row], strict=False) if a and b]
    return {"both": len(pairs), "identical": sum(a["hash"] == b["hash"] for a, b in pairs)}
