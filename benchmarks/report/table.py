"""The table of a run, for people and for programs: CSV, Parquet, LaTeX and Markdown."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from counterlens.benchmarks.stats.evaluate import Measured
    from counterlens.core.runs.folder import Run

LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
    | {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "–": "--"}
)


def export(run: Run, summary: Mapping[str, Any], found: Measured) -> list[str]:
    """Write table.{csv,md,tex} and items.{csv,parquet}; returns their names (Parquet needs pyarrow)."""
    names = {
        "table.csv": csv_of(summary["rows"]),
        "table.md": markdown(summary),
        "table.tex": latex(summary),
        "tests.csv": csv_of(summary["tests"]),
        "items.csv": csv_of(items(found)),
    }
    for name, text in names.items():
        run.write(name, text)
    blob = parquet(items(found))
    if blob is not None:
        run.write("items.parquet", blob)
    return [*names, *(["items.parquet"] if blob is not None else [])]


def items(found: Measured) -> list[dict[str, Any]]:
    """One row an item: every value of every image metric."""
    return [{"method": row, **value} for row, values in found.values.items() for value in values]


def csv_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Comma-separated; nothing is an empty field, what could not be measured is nan."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def parquet(rows: Sequence[Mapping[str, Any]]) -> bytes | None:
    """The rows as Parquet, or None where pyarrow is not installed."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return None
    columns = list(dict.fromkeys(key for row in rows for key in row))
    out = pa.BufferOutputStream()
    pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in columns}), out)
    return out.getvalue().to_pybytes()


def grid(summary: Mapping[str, Any]) -> tuple[list[str], list[str], dict[tuple[str, str], Mapping[str, Any]]]:
    """(rows, metrics, cells): methods first, controls behind them, also those of which nothing is finished."""
    controls = set(summary["controls"])
    names = list(dict.fromkeys([*(row["method"] for row in summary["rows"]), *summary["empty"]]))
    names = [*(n for n in names if n not in controls), *(n for n in names if n in controls)]
    metrics = list(dict.fromkeys(row["metric"] for row in summary["rows"]))
    return names, metrics, {(row["method"], row["metric"]): row for row in summary["rows"]}


def cell(row: Mapping[str, Any] | None) -> str:
    """A value with its interval: 0.92 [0.88, 0.95]."""
    if row is None or row["value"] is None or not math.isfinite(row["value"]):
        return "–"
    around = f" [{row['ci95'][0]:.3g}, {row['ci95'][1]:.3g}]" if row.get("ci95") else ""
    return f"{row['value']:.3g}{around}"


def heading(metric: str, cells: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    better = next((row["higher_is_better"] for (_, name), row in cells.items() if name == metric), None)
    return metric + {True: " ↑", False: " ↓", None: ""}[better]


def caption(summary: Mapping[str, Any]) -> str:
    """What every number has to be read with."""
    protocol = summary["protocol"]
    return (
        f"Suite {summary['suite']}, {summary['finished']} of {summary['asked']} items finished, {summary['failed']} "
        f"failed (counted); population: {protocol['population']}, split {protocol['split']}; explained classifier "
        f"{protocol['classifier']}, judge {protocol['judge'] or 'none'}; 95 % intervals over images; "
        f"protocol {protocol['hash'][:12]}."
    )


def markdown(summary: Mapping[str, Any]) -> str:
    """A table in Markdown with its protocol below."""
    names, metrics, cells = grid(summary)
    lines = ["| method | " + " | ".join(heading(m, cells) for m in metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    controls = set(summary["controls"])
    for name in names:
        shown = f"*{name}*" if name in controls else name
        lines.append(f"| {shown} | " + " | ".join(cell(cells.get((name, m))) for m in metrics) + " |")
    return "\n".join([*lines, "", caption(summary), *_skipped(summary), ""])


def _skipped(summary: Mapping[str, Any]) -> list[str]:
    return [f"Not run: {name}: {why}." for name, why in summary["skipped"].items()]


def latex(summary: Mapping[str, Any]) -> str:
    """A booktabs table."""
    names, metrics, cells = grid(summary)
    controls = set(summary["controls"])
    lines = [r"\begin{table}", r"\centering\small", rf"\begin{{tabular}}{{l{'r' * len(metrics)}}}", r"\toprule"]
    lines.append(" & ".join(["method", *(_tex(heading(m, cells)) for m in metrics)]) + r" \\")
    lines.append(r"\midrule")
    for k, name in enumerate(names):
        if name in controls and k and names[k - 1] not in controls:
            lines.append(r"\midrule")
        lines.append(" & ".join([_tex(name), *(_tex(cell(cells.get((name, m)))) for m in metrics)]) + r" \\")
    return "\n".join(
        [*lines, r"\bottomrule", r"\end{tabular}", rf"\caption{{{_tex(caption(summary))}}}", r"\end{table}", ""]
    )


def _tex(value: str) -> str:
    return value.translate(LATEX)
