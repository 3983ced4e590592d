"""``counterlens doctor``: what this machine has, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from counterlens.cli import options, render

NEEDED = ("torch", "torchvision", "diffusers", "transformers", "accelerate", "safetensors", "pydantic", "pluggy")
USEFUL = ("peft", "timm", "captum", "segment-anything", "spacy", "torchmetrics", "scikit-learn", "matplotlib")
MODULES = {"segment-anything": "segment_anything", "scikit-learn": "sklearn"}
ENVIRONMENT = 4


@click.command()
@options.as_json
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check Python, packages, devices, memory, caches and plugins; exit code 4 when something needed is broken."""
    render.quieten()
    found = list(checks())
    render.rows(found, ("name", "status", "detail", "fix"), as_json)
    if any(one["status"] == "broken" for one in found):
        ctx.exit(ENVIRONMENT)


def checks() -> Iterator[Mapping[str, str]]:
    """All checks as {name, status (ok|missing|broken), detail, fix}."""
    yield _row("python", "ok", f"{sys.version.split()[0]} at {sys.executable}")
    for name in NEEDED:
        yield _package(name, "broken")
    for name in USEFUL:
        yield _package(name, "missing")
    yield from _devices()
    yield _memory()
    yield from _folders()
    yield from _plugins()


def _row(name: str, status: str, detail: str, fix: str = "") -> dict[str, str]:
    return {"name": name, "status": status, "detail": detail, "fix": fix}


def _package(name: str, otherwise: str) -> Mapping[str, str]:
    """Whether a package is there and can be imported; ``otherwise`` is the status if it is not there."""
    try:
        version = metadata.version(name)
        importlib.import_module(MODULES.get(name, name))
    except metadata.PackageNotFoundError:
        return _row(name, otherwise, "not installed", f"python -m pip install {name}")
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return _row(name, "broken", reason, f"python -m pip install --force-reinstall {name}")
    return _row(name, "ok", version)


def _devices() -> Iterator[Mapping[str, str]]:
    try:
        import torch
    except Exception as error:
        yield _row("device", "broken", f"torch cannot be imported: {error}", "python -m pip install torch")
        return
    yield _row("cpu", "ok", f"{os.cpu_count()} cores, {torch.get_num_threads()} threads")
    if not torch.cuda.is_available():
        yield _row("cuda", "missing", "no CUDA device; everything runs on the CPU, large models slowly")
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield _row(f"cuda:{index}", "ok", f"{name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    if torch.backends.mps.is_available():
        yield _row("mps", "ok", "Apple GPU")


def _memory() -> Mapping[str, str]:
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total, free = page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return _row("memory", "ok", "unknown on this system")
    detail = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    return (
        _row("memory", "ok", detail) if total > 2 * 2**30 else _row("memory", "broken", detail, "use another machine")
    )


def _folders() -> Iterator[Mapping[str, str]]:
    """Whether the places that are written to can be written to."""
    from counterlens.core.utils.files import cache_folder

    hub = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface").expanduser()
    for name, folder, fix in (
        ("cache", cache_folder(), "export COUNTERLENS_CACHE=/a/writable/folder"),
        ("hub cache", hub, "export HF_HOME=/a/writable/folder"),
        ("runs", Path("runs"), "choose another --out"),
    ):
        there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        if not os.access(there, os.W_OK):
            yield _row(name, "broken", f"{folder} cannot be written", fix)
            continue
        yield _row(name, "ok", f"{folder}, {shutil.disk_usage(there).free / 2**30:.1f} GiB free")


def _plugins() -> Iterator[Mapping[str, str]]:
    """Plugins that are broken, then what the others check themselves."""
    loaded = options.registry()
    for one in loaded.plugins:
        if one.error:
            fix = f"python -m pip install --upgrade {one.distribution}"
            yield _row(f"plugin {one.name}", "broken", one.error, fix)
    for name, hook in _hooks(loaded):
        try:
            yield from ({**_row("", "ok", ""), **one} for one in hook())
        except Exception as error:
            yield _row(f"plugin {name}", "broken", f"its own check fails: {type(error).__name__}: {error}")


def _hooks(loaded: Any) -> Iterator[tuple[str, Any]]:
    for implementation in loaded.pm.hook.counterlens_doctor.get_hookimpls():
        yield implementation.plugin_name, implementation.function
