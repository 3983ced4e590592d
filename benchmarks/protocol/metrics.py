"""The metrics of a protocol, and what they are measured with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from counterlens.core.errors import MissingError
from counterlens.core.metrics.context import Context
from counterlens.core.metrics.evaluate import column_table, unavailable
from counterlens.core.utils.uri import parse_uri

if TYPE_CHECKING:
    from counterlens.benchmarks.protocol.protocol import Protocol
    from counterlens.benchmarks.protocol.suite import Suite
    from counterlens.core.metrics.metric import Measure
    from counterlens.core.plugin.registry import Registry


CHEAP = ("record", "pixels", "classifier", "")


def context(protocol: Protocol, registry: Registry, device: str = "cpu") -> Context:
    """What metrics may ask for under a protocol."""
    domain = protocol.data.removeprefix("domain:") if protocol.data.startswith("domain:") else ""
    return Context(
        registry,
        classifier_uri=protocol.classifier,
        judge_uri=protocol.judge,
        domain_name=domain,
        data_uri="" if domain else training_part(protocol.data),
        device=device,
        seed=protocol.seed,
        weights=protocol.backbones,
        several=protocol.draws > 1,
        regions=bool(protocol.metrics),  # methods without a map have no number: such metrics are asked for by name
    )


def training_part(uri: str) -> str:
    """The URI of the training part of these labelled images, all of it."""
    parts = parse_uri(uri)
    return str(replace(parts, options={**{k: v for k, v in parts.options.items() if k != "first"}, "split": "train"}))


def metrics(protocol: Protocol, registry: Registry) -> list[Measure]:
    """The protocol's metrics, or all that need nothing that it does not give."""
    if protocol.metrics:
        return [registry.make("metric", text) for text in protocol.metrics]
    found, about = [], context(protocol, registry)
    for name in sorted(registry.entries["metric"]):
        metric = registry.make("metric", name)
        if not metric.missing(about):
            found.append(metric)
    return found


def checked(suite: Suite, registry: Registry, skip_unavailable: bool) -> tuple[Suite, list[str]]:
    """The suite with its metrics by name, and notes on those left out; MissingError lists all that cannot run."""
    if suite.protocol.metrics and suite.protocol.draws > 1:  # several draws are asked for to see this
        suite = suite.with_(metrics=tuple(dict.fromkeys((*suite.protocol.metrics, "diversity"))))
    protocol = suite.protocol
    chosen, about = metrics(protocol, registry), context(protocol, registry)
    lacking = unavailable(chosen, about)
    if lacking and not skip_unavailable:
        listed = "; ".join(f"{name}: {why}" for name, why in lacking.items())
        raise MissingError(f"metrics that cannot run: {listed} (or leave them out with --skip-unavailable)")
    written = protocol.metrics or tuple(metric.name for metric in chosen)
    kept = tuple(text for text in written if text.split()[0] not in lacking)
    column_table([metric for metric in chosen if metric.name not in lacking], about)  # no two may write one column
    return suite.with_(metrics=kept), [f"left out: {name}: {why}" for name, why in lacking.items()]
