"""Pipeline folders and hub ids: only the parts that are needed, only safetensors, every defect in one line.

Nothing here imports torch, so that a plan can be made before anything heavy is loaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from counterlens.core.errors import CounterlensError, MissingError, UsageError

INDEX = "model_index.json"
LIBRARIES = ("diffusers", "transformers")  # classes come from these two and nowhere else: no remote code
STEMS = ("diffusion_pytorch_model", "model")  # what diffusers and transformers call their weights
_ID = re.compile(r"[\w.-]+/[\w.-]+")
_LOOKS = (
    f"a pipeline folder has a {INDEX} and a folder for each part (unet/, scheduler/, …), "
    "as diffusers' save_pretrained writes it"
)


def resolve(
    model: str, revision: str = "", offline: bool = False, parts: Sequence[str] = (), variant: str = ""
) -> Path:
    """The folder of ``model``, a folder or a hub id, with at least ``parts`` in it.

    Of a hub id only these parts are fetched, and only safetensors; ``offline`` looks in the local cache alone.
    UsageError for what is neither, MissingError for what cannot be had.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UsageError(f"{model} is a file: {_LOOKS}")
    if not _ID.fullmatch(model) or model.startswith("."):
        raise UsageError(f"{model!r} is neither a folder that exists nor a hub id (OWNER/NAME): {_LOOKS}")
    return _fetched(model, revision, offline, [INDEX, *(p for part in parts for p in _patterns(part, variant))])


def fetch(model: str, patterns: Sequence[str], offline: bool = False) -> Path:
    """The folder of a model that is no pipeline: a folder itself, or these files of a hub id, asked for once.

    UsageError for what is neither, MissingError for what cannot be had.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or not _ID.fullmatch(model) or model.startswith("."):
        raise UsageError(f"{model!r} is neither a folder that exists nor a hub id (OWNER/NAME)")
    return _fetched(model, "", offline, patterns)


def _patterns(part: str, variant: str) -> Iterator[str]:
    """What of a part is fetched: its settings, and the weights of one variant."""
    yield from (f"{part}/*.{suffix}" for suffix in ("json", "txt", "model"))
    dot = f".{variant}" if variant else ""
    for stem in STEMS:
        yield f"{part}/{stem}{dot}.safetensors"
        yield f"{part}/{stem}{dot}-*-of-*.safetensors"
        yield f"{part}/{stem}-*-of-*{dot}.safetensors"


def _fetched(model: str, revision: str, offline: bool, patterns: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(model, revision=revision or None, local_files_only=offline, allow_patterns=[*patterns])
        )
    except Exception as error:  # the hub's client raises many kinds, also those of the network library under it
        raise _unreachable(model, revision, offline, error) from None


def _unreachable(model: str, revision: str, offline: bool, error: Exception) -> CounterlensError:
    name = type(error).__name__
    at = f" at revision {revision!r}" if revision else ""
    if name == "GatedRepoError":
        return MissingError(f"{model}: its licence must be accepted on its hub page, then: hf auth login")
    if name == "RevisionNotFoundError":
        return UsageError(f"{model} has no revision {revision!r}")
    if name in ("RepositoryNotFoundError", "HFValidationError"):
        return MissingError(f"{model} is no folder here and not on the hub (or private: hf auth login)")
    if offline or name in ("LocalEntryNotFoundError", "OfflineModeIsEnabled"):
        hint = "leave --offline out once" if offline else "there is no connection: fetch it once with one"
        return MissingError(f"{model}{at} is no folder here and not in the local cache: {hint}, or give a folder")
    return MissingError(f"{model}{at} could not be fetched ({name}: {str(error).splitlines()[0]})")


def read_index(model: str, revision: str = "", offline: bool = False) -> dict[str, Any]:
    """The ``model_index.json`` of a folder or hub id; UsageError when there is none or it is not one."""
    folder = resolve(model, revision, offline)
    path = folder / INDEX
    if not path.is_file():
        raise UsageError(f"{model} has no {INDEX}: {_LOOKS}{_hint(folder)}")
    index = _json(path)
    if not isinstance(index.get("_class_name"), str):
        raise UsageError(f"{path} names no pipeline class (_class_name): {_LOOKS}")
    return index


def _hint(folder: Path) -> str:
    below = sorted(p.parent.name for p in folder.glob(f"*/{INDEX}"))
    if below:
        return f"; did you mean {folder / below[0]}?"
    single = sorted(p.name for p in folder.glob("*.safetensors")) or sorted(p.name for p in folder.glob("*.ckpt"))
    return f"; {single[0]} is a single-file checkpoint: convert it with diffusers' from_single_file" if single else ""


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise UsageError(f"{path} is not readable JSON ({str(error).splitlines()[0]}): copy or save it again") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} is not a JSON object: copy or save it again")
    return content


def config_of(folder: Path, part: str) -> dict[str, Any]:
    """The ``config.json`` of a part; empty when it has none."""
    path = folder / part / "config.json"
    return _json(path) if path.is_file() else {}


def named(index: Mapping[str, Any], part: str) -> tuple[str, str]:
    """(library, class) that the index gives a part; UsageError unless it is a library that we load from."""
    library, name = (*(index.get(part) or ()), None, None)[:2]
    if not library or not name:
        raise MissingError(f"part {part!r} is left out of this pipeline's {INDEX}: save the pipeline with it")
    if library not in LIBRARIES:
        raise UsageError(f"part {part!r} is of {library}.{name}: only diffusers and transformers classes are loaded")
    return library, name


def check_part(folder: Path, part: str, index: Mapping[str, Any], variant: str = "") -> None:
    """Everything that can be wrong with a part's files, found before a weight is loaded."""
    named(index, part)
    path = folder / part
    if not path.is_dir():
        raise MissingError(f"{folder} has no folder {part}/, which its {INDEX} names: copy or save the pipeline again")
    if not (path / "config.json").is_file():
        if not any(path.glob("*.json")):
            raise MissingError(f"{path} has no configuration (*.json): copy or save the pipeline again")
        return  # schedulers, tokenizers and image processors have settings of other names, and no weights
    for file in weight_files(path, variant):
        check_whole(file, part)


def weight_files(path: Path, variant: str = "") -> list[Path]:
    """The safetensors files of one variant of a part; MissingError or UsageError when they are not there."""
    dot = f".{variant}" if variant else ""
    for stem in STEMS:
        if (file := path / f"{stem}{dot}.safetensors").is_file():
            return [file]
        if (listing := path / f"{stem}.safetensors.index{dot}.json").is_file():
            return _shards(path, listing)
    others = sorted({".".join(f.name.split(".")[1:-1]) for f in path.glob("*.*.safetensors")} - {""})
    if others:
        raise MissingError(f"{path} has only weights of variant {others[0]!r}: use --variant {others[0]}")
    if variant and any(path.glob("*.safetensors")):
        raise MissingError(f"{path} has no weights of variant {variant!r}: leave --variant out")
    if pickles := sorted(f.name for f in (*path.glob("*.bin"), *path.glob("*.ckpt"))):
        raise UsageError(
            f"{path} has only {pickles[0]}, a pickle, which may run code and is not loaded: "
            "open it once with diffusers and call save_pretrained, which writes safetensors"
        )
    raise MissingError(f"{path} has no weights (*.safetensors): copy or save the pipeline again")


def _shards(path: Path, listing: Path) -> list[Path]:
    files = sorted({path / name for name in _json(listing).get("weight_map", {}).values()})
    if missing := [file.name for file in files if not file.is_file()]:
        raise MissingError(f"{path} lacks {missing[0]} of {len(files)} weight files: copy or fetch it again")
    return files


def check_whole(file: Path, part: str) -> None:
    """MissingError for a safetensors file whose header and length do not agree."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np"):
            pass
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise MissingError(
            f"the weights of part {part!r} are damaged ({file.name}: {reason}): copy or fetch the file again"
        ) from None
