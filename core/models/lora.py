"""LoRA adapters in PEFT's layout: checked before anything is loaded, then merged into the U-Net's weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.core.errors import MissingError, UsageError

if TYPE_CHECKING:
    from torch import nn

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BASE = "counterlens.json"  # beside them: {"base": fingerprint of the U-Net that it was trained on, …}


def check_adapters(folders: Sequence[str]) -> None:
    """MissingError or UsageError for a folder that is no adapter; nothing is loaded."""
    for name in folders:
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise MissingError(f"adapter {name}: there is no such folder")
        if not (folder / CONFIG).is_file():
            raise UsageError(f"adapter {name} has no {CONFIG}: give a folder that PEFT or counterlens train lora wrote")
        if not (folder / WEIGHTS).is_file():
            raise UsageError(f"adapter {name} has no {WEIGHTS}: only safetensors are loaded")


def merge_adapters(unet: nn.Module, folders: Sequence[str], model: str) -> None:
    """Add the adapters to the weights of ``unet``, in order; UsageError for one of another base."""
    if not folders:
        return
    check_adapters(folders)
    from counterlens.core.utils.weights import fingerprint

    base = fingerprint(unet)  # of the weights as they are in the file: all adapters are of these
    for name in folders:
        _merge(unet, Path(name).expanduser(), base, model)


def _merge(unet: nn.Module, folder: Path, base: str, model: str) -> None:
    from peft import LoraConfig, set_peft_model_state_dict
    from peft.mapping import inject_adapter_in_model

    about = _json(folder / BASE) if (folder / BASE).is_file() else {}
    if about.get("base", base) != base:
        raise UsageError(
            f"adapter {folder} was trained on another U-Net ({about.get('model', 'unknown')}, or the same in another "
            f"--dtype) than that of {model}: train it again with counterlens train lora DATA --model {model}"
        )
    from counterlens.core.utils.weights import read_weights

    config = LoraConfig.from_pretrained(str(folder), local_files_only=True)
    tensors, _ = read_weights(folder / WEIGHTS)
    try:
        inject_adapter_in_model(config, unet)
        found: Any = set_peft_model_state_dict(unet, {_bare(key): value for key, value in tensors.items()})
    except (ValueError, RuntimeError, KeyError) as error:
        raise _misfit(folder, model, str(error)) from None
    if found.unexpected_keys:
        raise _misfit(folder, model, f"it has {found.unexpected_keys[0]}")
    _fold(unet)


def _misfit(folder: Path, model: str, why: str) -> UsageError:
    return UsageError(
        f"adapter {folder} does not fit the U-Net of {model} ({why.splitlines()[0]}): it is of another base"
    )


def _bare(key: str) -> str:
    """PEFT writes the keys of its wrapper."""
    return key.removeprefix("base_model.model.")


def _fold(unet: nn.Module) -> None:
    """Every layer that has an adapter becomes a plain one with the sum of both."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(unet.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            parent = unet.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], layer.get_base_layer())
    unet.eval().requires_grad_(False)
    if hasattr(unet, "peft_config"):
        del unet.peft_config


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} is not readable JSON ({str(error).splitlines()[0]}): copy the adapter again"
        ) from None
    return found if isinstance(found, dict) else {}
