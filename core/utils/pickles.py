"""Pickles are not loaded: what is in one, told from its opcodes, and the command that makes safetensors of it."""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path

from counterlens.core.errors import UsageError

PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".pt2"}
KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "ema")
PLAIN = ("torch", "collections", "numpy", "_codecs", "builtins", "__builtin__", "argparse")
LONGEST = 64_000_000  # bytes of opcodes that are looked at


def refuse_pickle(path: Path) -> None:
    """UsageError for a file whose loading may run code, with the command that converts it."""
    if path.suffix.lower() not in PICKLES:
        return
    if scheme := program_in(path):
        raise UsageError(f"{path} is a program ({scheme}), not weights alone: write {scheme}:{path}?labels=a,b,…")
    if classes := classes_in(path):
        raise UsageError(
            f"{path} is a pickle of a whole network, saved with its class ({classes[0]}), and is not loaded, it may "
            "run code; where that class is at hand, save its weights alone: safetensors.torch.save_file(network"
            f".state_dict(), '{path.with_suffix('.safetensors').name}'), or name it: python:MODULE:CALLABLE"
        )
    raise UsageError(f'{path} is a pickle and is not loaded, it may run code; convert it: python -c "{recipe(path)}"')


def recipe(path: Path) -> str:
    """Python that reads the tensors alone (``weights_only``), out of what training programs save, and writes them."""
    target, about = path.with_suffix(".safetensors").name, "{'arch': 'torchvision:resnet18', 'labels': 'cat,dog'}"
    if path.name == "pytorch_model.bin":  # the names that transformers looks for
        target, about = "model.safetensors", "{'format': 'pt'}"
    return (
        "import torch, argparse, numpy as n, safetensors.torch as s; "
        "c = getattr(n, '_core', None) or n.core; "
        "torch.serialization.add_safe_globals([argparse.Namespace, c.multiarray.scalar, n.dtype, "
        "*(type(n.dtype(t)) for t in 'fdilq?')]); "
        f"d = torch.load('{path.name}', weights_only=True, map_location='cpu'); "
        f"d = next((d[k] for k in {KEYS} if hasattr(d.get(k), 'keys')), d); "
        "s.save_file({k: v.contiguous().clone() for k, v in d.items() if torch.is_tensor(v)}, "
        f"'{target}', metadata={about})"
    )


def program_in(path: Path) -> str:
    """``torchscript`` or ``export`` where the archive holds a program, else nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] or name for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile):
        return ""
    if any(name.startswith("code/") for name in names):
        return "torchscript"
    exported = any(name.endswith(("serialized_exported_program.json", "archive_format")) for name in names)
    return "export" if exported or any(name.startswith("models/") for name in names) else ""


def classes_in(path: Path) -> list[str]:
    """The classes of others that the pickle would import, without running it; empty for tensors and plain values."""
    try:
        with zipfile.ZipFile(path) as archive:
            inside = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            if archive.getinfo(inside).file_size > LONGEST:
                return []
            content = archive.read(inside)
        return _foreign(content)
    except (OSError, zipfile.BadZipFile, StopIteration, ValueError, KeyError):
        return []


def _foreign(content: bytes) -> list[str]:
    found: list[str] = []
    texts: list[str] = []
    for code, argument, _ in pickletools.genops(content):
        name = ""
        if code.name == "GLOBAL":
            name = str(argument).replace(" ", ".")
        elif code.name == "STACK_GLOBAL" and len(texts) > 1:
            name = ".".join(texts[-2:])
        elif isinstance(argument, str):
            texts.append(argument)
        network = name.startswith("torch.nn.modules.")
        if name and name not in found and (network or name.partition(".")[0] not in PLAIN):
            found.append(name)
    return sorted(found, key=lambda name: name.startswith("torch.nn"))
