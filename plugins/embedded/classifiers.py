"""Classifiers behind ``domain:NAME``: the explained one, ``-judge``, and ``domain:shapes-shortcut``."""

from __future__ import annotations

from counterlens.core.classifier import Classifier
from counterlens.core.contract import Contract
from counterlens.core.errors import unknown
from counterlens.core.uri import parse
from counterlens.plugins.embedded import nets, store

FILES = {
    "shapes": ("shapes", "classifier"),
    "shapes-judge": ("shapes", "judge"),
    "shapes-shortcut": ("shapes", "shortcut"),
    "digits": ("digits", "classifier"),
    "digits-judge": ("digits", "judge"),
}


def open_domain(uri: str, device: str) -> Classifier:
    """The classifier; UsageError with a suggestion for another name (plugins that came later were asked before)."""
    name = parse(uri).path
    if name not in FILES:
        raise unknown("classifier of a domain", name, FILES)
    parse(uri).only()
    domain, part = FILES[name]
    net, meta = nets.load_net(store.checked(store.WEIGHTS / domain / "nets" / f"{part}.safetensors"))
    size = int(meta["size"])  # type: ignore[call-overload]
    contract = Contract(labels=tuple(meta["labels"]), size=(size, size))  # type: ignore[arg-type]
    return Classifier.of(net, contract, uri, device)
