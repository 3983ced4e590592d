"""What a finished benchmark concludes, and which methods went over their budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from counterlens.benchmarks.report import report, table
from counterlens.benchmarks.stats.evaluate import measured
from counterlens.core.engine.session import sections_of

if TYPE_CHECKING:
    from counterlens.benchmarks.protocol.bench import Bench
    from counterlens.benchmarks.stats.evaluate import Measured
    from counterlens.core.plugin.registry import Registry


def conclude(bench: Bench, registry: Registry, device: str = "cpu") -> dict[str, Any]:
    """Measure what is finished and write table, report and exports; returns what ``bench --json`` ends with."""
    records = bench.records()
    found = measured(bench.run.path, bench.protocol, bench.jobs, records, registry, device, bench.draws)
    summary = summary_of(bench, records, found)
    bench.run.write("report.json", summary)
    table.export(bench.run, summary, found)
    every = [record for rows in records.values() for record in rows if record]
    sections = sections_of(registry, bench.run.manifest, every)
    summary["report"] = str(bench.run.write("report.html", report.page(bench, summary, found, sections)))
    return summary


def summary_of(
    bench: Bench, records: Mapping[str, Sequence[Mapping[str, Any] | None]], found: Measured
) -> dict[str, Any]:
    """Protocol, rows of the table, tests, and what is missing, skipped and failed."""
    every = [record for rows in records.values() for record in rows]
    return {
        "protocol": bench.protocol.dumped(),
        "suite": bench.run.manifest["suite"],
        "run": str(bench.run.path),
        "asked": bench.asked,
        "finished": sum(record is not None for record in every),
        "failed": sum(bool(record and record.get("failure")) for record in every),
        "skipped": {entry.name: entry.skipped for entry in bench.entries if entry.skipped},
        "empty": [row for row in records if row not in found.values and row not in bench.draws],
        "controls": [entry.name for entry in bench.entries if entry.control],
        "notes": [*bench.run.manifest["notes"], *over_budget(bench, records)],
        "rows": found.table,
        "tests": found.tests,
    }


def over_budget(bench: Bench, records: Mapping[str, Sequence[Mapping[str, Any] | None]]) -> list[str]:
    """A line for every row with items that cost more than the protocol's budget."""
    found = []
    for row, items in records.items():
        costs = [r["unet_evaluations"] + r["gradient_evaluations"] for r in items if r]
        over = sum(cost > bench.protocol.budget for cost in costs) if bench.protocol.budget else 0
        if over:
            budget = f"the budget of {bench.protocol.budget} evaluations"
            found.append(f"{row}: {over} of {len(costs)} items cost more than {budget}: compare with care")
    return found
