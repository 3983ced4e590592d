"""Classifiers behind ``domain:NAME``: the explained one, ``-judge``, and ``domain:shapes-shortcut``."""

from __future__ import annotations

from counterlens.core.classifiers.classifier import Classifier
from counterlens.core.classifiers.preprocessing import Preprocessing
from counterlens.core.errors import unknown
from counterlens.core.utils.uri import parse_uri
from counterlens.plugins.embedded.content import nets, store

FILES = {
    "shapes": ("shapes", "classifier"),
    "shapes-judge": ("shapes", "judge"),
    "shapes-shortcut": ("shapes", "shortcut"),
    "digits": ("digits", "classifier"),
    "digits-judge": ("digits", "judge"),
}


def open_domain(uri: str, device: str) -> Classifier:
    """The classifier; UsageError with a suggestion for another name (plugins that came later were asked before)."""
    name = parse_uri(uri).path
    if name not in FILES:
        raise unknown("classifier of a domain", name, FILES)
    parse_uri(uri).only()
    domain, part = FILES[name]
    net, meta = nets.load_net(store.checked(store.WEIGHTS / domain / "nets" / f"{part}.safetensors"))
    size = int(meta["size"])  # type: ignore[call-overload]
    contract = Preprocessing(labels=tuple(meta["labels"]), size=(size, size))  # type: ignore[arg-type]
    return Classifier.of(net, contract, uri, device)
