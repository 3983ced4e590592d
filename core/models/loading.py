"""Parts of a diffusers pipeline, loaded one by one: only those a family needs, frozen and in evaluation mode."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from counterlens.core.errors import MissingError, UsageError
from counterlens.core.models import hub
from counterlens.core.models.device import dtype_of
from counterlens.core.models.lora import merge_adapters

if TYPE_CHECKING:
    import torch

    from counterlens.core.models.pipeline import Pipeline
    from counterlens.core.models.pool import Key


P = TypeVar("P", bound="Pipeline")
CODECS = ("vae", "movq", "vqvae")


def assemble(make: type[P], key: Key, parts: Sequence[str], beside: Mapping[str, Path] | None = None) -> P:
    """The pipeline of ``key``, made of these parts; ``beside`` are parts that lie in other folders than the model's.

    All parts are looked at before the first is loaded. Options of the key: ``offline``, ``offload`` (every network
    waits on the CPU until it is used), ``tiling`` and ``slicing`` (of the autoencoder).
    """
    options = dict(key.options)
    folder = hub.resolve(key.model, key.revision, bool(options.get("offline")), parts, key.variant)
    index = hub.read_index(str(folder))
    places: dict[str, tuple[Path, Mapping[str, Any]]] = {part: (folder, index) for part in parts}
    for part, path in (beside or {}).items():
        places[part] = (path, _index_beside(path, part))
    for part, (path, its) in places.items():
        hub.check_part(path, part, its, key.variant if path == folder else "")
    _check_channels(folder, parts)
    loaded = {
        part: load_part(path, part, its, _dtype(part, key.dtype), key.variant if path == folder else "")
        for part, (path, its) in places.items()
    }
    merge_adapters(loaded["unet"], key.adapters, key.model)
    return _made(make, key, index, loaded)


def _check_channels(folder: Path, parts: Sequence[str]) -> None:
    """An inpainting U-Net takes a mask and a masked image beside the latents, which nobody here gives it."""
    codec = next((part for part in CODECS if part in parts), None)
    if codec is None:
        return
    takes = hub.config_of(folder, "unet").get("in_channels", 4)
    gives = hub.config_of(folder, codec).get("latent_channels", 4 if codec == "vae" else 3)
    if takes != gives:
        raise UsageError(
            f"{folder}: the U-Net takes {takes} channels and the autoencoder gives {gives}: an inpainting "
            "checkpoint or the like; use the plain one of the same model"
        )


DEFAULTS = {
    "image_encoder": ("transformers", "CLIPVisionModelWithProjection"),
    "image_processor": ("transformers", "CLIPImageProcessor"),
}


def _index_beside(folder: Path, part: str) -> Mapping[str, Any]:
    """The index of another folder than the model's, or what a part is when that folder has no index."""
    index = hub.read_index(str(folder)) if (folder / hub.INDEX).is_file() else {}
    return index if part in index else {part: DEFAULTS.get(part)}


def _made(make: type[P], key: Key, index: Mapping[str, Any], loaded: dict[str, Any]) -> P:
    from torch import nn

    options = dict(key.options)
    modules = {name: part for name, part in loaded.items() if isinstance(part, nn.Module)}
    scheduler = loaded.pop("scheduler")
    others = {name: part for name, part in loaded.items() if name not in modules}
    for way in ("tiling", "slicing"):
        if options.get(way):
            _enable(way, modules)
    if not options.get("offload"):
        for module in modules.values():
            module.to(key.device)
    settings = {**index, **options}
    return make(
        modules, scheduler, key.model, key.device, dtype_of(key.dtype), others, settings, bool(options.get("offload"))
    )


def _enable(way: str, modules: Mapping[str, Any]) -> None:
    codec = next((modules[name] for name in CODECS if name in modules), None)
    if codec is None:
        return  # a pixel model has nothing to tile
    try:
        getattr(codec, f"enable_{way}")()
    except (AttributeError, NotImplementedError):
        raise UsageError(f"{way}: the autoencoder {type(codec).__name__} cannot do that; leave it out") from None


def _dtype(part: str, name: str) -> torch.dtype:
    """Half precision overflows in autoencoders (SDXL's gives black images, gradients through others are lost):
    they stay in fp32 beside an fp16 U-Net."""
    return dtype_of("float32" if part in CODECS and name == "float16" else name)


def class_of(index: Mapping[str, Any], part: str) -> type:
    """The class of a part; MissingError when the installed library does not have it."""
    library, name = hub.named(index, part)
    try:
        return getattr(importlib.import_module(library), name)
    except AttributeError:
        raise MissingError(f"part {part!r} is a {name}, which the installed {library} does not have") from None


def load_part(folder: Path, part: str, index: Mapping[str, Any], dtype: Any, variant: str = "") -> Any:
    """One part, from local files. Networks come frozen and in evaluation mode, with every weight from the file."""
    from torch import nn

    cls: Any = class_of(index, part)
    path = str(folder / part)
    try:
        if not issubclass(cls, nn.Module):
            return cls.from_pretrained(path, local_files_only=True)
        with quiet():
            module, info = cls.from_pretrained(path, **_weights(cls, dtype, variant))
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"part {part!r} of {folder} does not load ({type(error).__name__}: {reason})") from error
    if missing := sorted(info["missing_keys"]):
        raise UsageError(f"the weights of part {part!r} of {folder} lack {missing[0]!r}: do they fit its config.json?")
    return module.eval().requires_grad_(False)


def _weights(cls: Any, dtype: Any, variant: str) -> dict[str, Any]:
    """Options of ``from_pretrained`` for networks."""
    import transformers

    version = tuple(int(n) for n in transformers.__version__.split(".")[:2])
    renamed = cls.__module__.startswith("transformers") and version >= (4, 56)
    options = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    return {**options, "variant": variant or None, "dtype" if renamed else "torch_dtype": dtype}


@contextmanager
def quiet() -> Iterator[None]:
    """The libraries without their progress bars and tables of keys."""
    from transformers.utils import logging as bars

    loggers = [logging.getLogger(name) for name in ("transformers", "diffusers")]
    levels, shown = [logger.level for logger in loggers], bars.is_progress_bar_enabled()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    bars.disable_progress_bar()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if shown:
            bars.enable_progress_bar()
