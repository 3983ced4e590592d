"""``counterlens.train.classifier(DATA, …)``, ``train.backbone``, …: what ``counterlens train NAME`` makes."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike, fspath
from typing import Any


def __getattr__(name: str) -> Callable[..., dict[str, Any]]:
    """The function of a trainer; ``-`` of its name is ``_`` here."""
    if name.startswith("__"):
        raise AttributeError(name)
    from counterlens.calls import session

    trainers = session().registry.entries_of("trainer")
    if name.replace("_", "-") not in trainers:
        raise AttributeError(f"no trainer {name!r}; there are {', '.join(sorted(trainers))}")
    return _function(name, trainers[name.replace("_", "-")])


def __dir__() -> list[str]:
    from counterlens.calls import session

    return sorted(name.replace("-", "_") for name in session().registry.entries_of("trainer"))


def _function(name: str, cls: Any) -> Callable[..., dict[str, Any]]:
    def train(
        data: str | PathLike[str],
        out: str | PathLike[str] = "",
        *,
        progress: bool = True,
        dry_run: bool = False,
        **options: Any,
    ) -> dict[str, Any]:
        from counterlens.calls import bar, session
        from counterlens.core.data.dataset import refined
        from counterlens.core.models.model_options import ModelOptions
        from counterlens.core.pieces.options import build
        from counterlens.core.workflows import train as workflow

        uri = refined(fspath(data), split="train")
        own = {key: options.pop(key) for key in cls.model_fields if key in options}
        how = {key: options.pop(key) for key in ("seed", "strict") if key in options}
        networks = ModelOptions(**options)
        registry = session().registry
        piece: Any = build(cls, own, registry.make)
        return workflow.train(registry, piece, uri, fspath(out), networks, dry_run, progress=bar(progress), **how)

    train.__name__ = train.__qualname__ = name
    fields = "\n".join(f"    {key}: {info.description or ''}" for key, info in cls.model_fields.items())
    train.__doc__ = (
        f"{cls.__doc__ or ''}\n\n``data``: a folder of class folders or a URI of labelled images; its training part is "
        "used. ``out``:\nwhere the result goes. ``options``: those below, ``seed``, ``strict``, and of a pipeline "
        f"``model``, ``device``, ….\nReturns the record of what was trained.\n\n{fields}\n"
    )
    return train
