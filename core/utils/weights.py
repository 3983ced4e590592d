"""Tensors in files: safetensors only, with one line for whatever is wrong with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.core.errors import MissingError, UsageError
from counterlens.core.utils.files import explained, plain, write_atomic
from counterlens.core.utils.pickles import refuse_pickle
from counterlens.core.utils.prefixes import without_prefix

if TYPE_CHECKING:
    from torch import Tensor, nn

PROBE = 4096  # numbers of each weight that a fingerprint is made of


def existing(path: str | Path) -> Path:
    """The path, which must be a file or folder that exists and is no pickle; MissingError or UsageError."""
    path = Path(path).expanduser()
    refuse_pickle(path)
    if not path.exists():
        raise MissingError(f"{path} does not exist: give the path of a .safetensors file or of a model folder")
    return path


def write_weights(path: str | Path, tensors: Mapping[str, Tensor], **about: Any) -> None:
    """A safetensors file, whole or not at all; ``about`` is its metadata, as JSON what is not text."""
    from safetensors.torch import save

    path = Path(path)
    metadata = {name: value if isinstance(value, str) else json.dumps(plain(value)) for name, value in about.items()}
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        own = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        write_atomic(path, save(own, metadata))


def read_weights(path: str | Path, form: str = "", otherwise: str = "") -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of a safetensors file; UsageError when it is truncated or something else.

    ``form``: what its metadata must give as ``format``, and ``otherwise`` the words where it does not.
    """
    from safetensors import SafetensorError, safe_open

    path = existing(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder: give the path of a .safetensors file in it")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            about = dict(file.metadata() or {})
            if form and about.get("format") != form:
                raise UsageError(f"{path} {otherwise}")
            return {key: file.get_tensor(key) for key in file.keys()}, about  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{path} is not a whole safetensors file ({reason}): copy or save it again") from None


def fill(module: nn.Module, tensors: dict[str, Tensor], path: str | Path, prefix: str = "") -> str:
    """Load the tensors, whatever wrapper they were saved from; gives the ``prefix`` that was taken off their names.

    UsageError with the first key that is missing, too much, or of another shape.
    """
    expected = module.state_dict()
    tensors, prefix = without_prefix(tensors, expected, path, prefix)
    # the optional counter of batch norm is no weight; converters leave it out
    missing = [key for key in expected if key not in tensors and not key.endswith("num_batches_tracked")]
    extra = [key for key in tensors if key not in expected]
    for what, keys in (("lacks", missing), ("has beyond the architecture", extra)):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise UsageError(f"{path} {what} {keys[0]!r}{more}: is it another architecture?")
    for key, tensor in tensors.items():
        if tensor.shape != expected[key].shape:
            raise UsageError(
                f"{path}: {key!r} is {list(tensor.shape)}, the architecture has {list(expected[key].shape)}: "
                f"is {_suspect(tensor, expected[key])} right?"
            )
    module.load_state_dict(tensors, strict=False)
    return prefix


def _suspect(found: Tensor, expected: Tensor) -> str:
    """What to look at when a weight has another shape: its channels, else the labels."""
    if found.ndim == 4 and expected.ndim == 4 and found.shape[1] != expected.shape[1]:
        return "the number of channels (?channels=1)"
    return "the number of labels"


def fingerprint(module: nn.Module) -> str:
    """64 hex digits that tell a network from others: of evenly spaced numbers of every weight, so it is fast.

    The same weights in another dtype are others where they were rounded.
    """
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        flat = tensor.detach().flatten()
        few = flat[:: max(1, len(flat) // PROBE)][:PROBE].float().cpu()
        total.update(f"{name}{list(tensor.shape)}".encode() + few.numpy().tobytes())
    return total.hexdigest()


def value_of(text: Any) -> Any:
    """A value of the metadata: JSON where it is JSON, a list where there are commas, else the text."""
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return [part.strip() for part in text.split(",")] if "," in text else text


def labels_of(value: Any) -> tuple[str, ...]:
    """Label names out of a list, ``a,b`` or ``{"0": "a", "1": "b"}``; UsageError for anything else."""
    value = value_of(value)
    try:
        if isinstance(value, Mapping):
            return tuple(str(value[key]) for key in sorted(value, key=int))
        return (value,) if isinstance(value, str) else tuple(str(label) for label in value)
    except (TypeError, ValueError):
        raise UsageError(f"labels {value!r} must be a list of names") from None


def labels_in(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The label names that the metadata of a file gives; empty when it gives none."""
    return labels_of(metadata["labels"]) if metadata.get("labels") else ()
