"""What captioners need on this machine: whether it is there, and the command that brings it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from counterlens.core.conditioning.nouns import FETCH, MODEL
from counterlens.core.errors import MissingError, UsageError

EXTRA = 'pip install "counterlens[openflamingo]" && pip install --no-deps open_flamingo==2.0.1'
FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors")
PARTS = ("open_clip", "einops", "einops_exts", "open_flamingo")


def lacking() -> list[str]:
    """The packages of OpenFlamingo that are not installed."""
    return [name for name in PARTS if importlib.util.find_spec(name) is None]


def check_weights(model: str) -> None:
    """A folder with a configuration, or something that looks like a hub id; UsageError for what is neither."""
    folder = Path(model).expanduser()
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise UsageError(f"{model} has no config.json: give a folder as save_pretrained writes it, or a hub id")
    if not folder.is_dir() and (model.count("/") != 1 or model.startswith((".", "/", "~"))):
        raise UsageError(f"{model!r} is neither a folder that exists nor a hub id (OWNER/NAME)")


def opened(kind: Any, model: str, **how: Any) -> Any:
    """``kind.from_pretrained`` without remote code; MissingError in one line when the files cannot be had."""
    from counterlens.core.models.hub import fetch

    try:
        folder = fetch(model, FILES, offline=bool(os.environ.get("HF_HUB_OFFLINE")))
    except MissingError as error:
        raise MissingError(f"{error}; with a connection: hf download {model}") from None
    try:
        return kind.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False, **how)
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise MissingError(f"{model} cannot be opened ({reason}): save it again, as safetensors") from None
    except ValueError as error:
        raise UsageError(f"{model} is no model for captions: {str(error).splitlines()[0]}") from None


def checks() -> Iterator[Mapping[str, str]]:
    """The rows of counterlens doctor."""
    from importlib import metadata

    if missing := lacking():
        yield _row("openflamingo", "missing", f"not installed: {', '.join(missing)}", EXTRA)
    else:
        yield _row("openflamingo", "ok", f"open_flamingo {metadata.version('open_flamingo')}")
    if importlib.util.find_spec("spacy") is None:
        yield _row(f"spaCy {MODEL}", "missing", "no spaCy: nouns are found by rules", f"pip install spacy && {FETCH}")
    elif importlib.util.find_spec(MODEL) is None:
        yield _row(f"spaCy {MODEL}", "missing", "not installed: nouns are found by rules", FETCH)
    else:
        yield _row(f"spaCy {MODEL}", "ok", metadata.version(MODEL))


def _row(name: str, status: str, detail: str, fix: str = "") -> dict[str, str]:
    return {"name": name, "status": status, "detail": detail, "fix": fix}
