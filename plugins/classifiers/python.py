"""``python:MODULE:CALLABLE[?labels=a,b]``: your own code, a network or a black box.

MODULE is an importable name or the path of a ``.py`` file. CALLABLE is an ``nn.Module``, a class or function without
arguments that returns one, or a function of images [B,3,H,W] in [0,1] that answers [B,K]: a black box. Attributes
``labels``, ``size``, ``mean``, ``std``, ``channels``, ``order`` and ``outputs`` (``logits``, ``probabilities``,
…) of it are its contract.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.core.errors import UsageError, unknown
from counterlens.core.utils.uri import Uri

if TYPE_CHECKING:
    from counterlens.core.classifiers.classifier import Classifier


def open_classifier(uri: Uri, device: str) -> Classifier:
    """A network gives gradients; a black box does not. Runs your code: open only what you trust."""
    from torch import nn

    from counterlens.core.classifiers.classifier import Classifier, reading_of
    from counterlens.core.classifiers.preprocessing import OPTIONS

    uri.only(*OPTIONS)
    module_name, _, name = uri.path.rpartition(":")
    if not module_name or not name:
        raise UsageError(f"{uri}: write python:MODULE:CALLABLE")
    found = _resolve(_attribute(_imported(module_name, uri), name, uri), uri)
    contract = _contract(found, uri)
    outputs = getattr(found, "outputs", "")
    reading = reading_of(uri, contract, outputs if isinstance(outputs, str) and outputs else "auto")
    if isinstance(found, nn.Module):
        return Classifier.of(found, uri=str(uri), device=device, **reading)
    if not (uri.text("outputs") or outputs) and _single(found, contract, device):
        reading["outputs"] = "probabilities"
    return Classifier.black_box(found, uri=str(uri), device=device, **reading)


def _imported(name: str, uri: Uri) -> Any:
    """The user's module. Its own errors at import are the user's to read, so they keep their text."""
    try:
        if not name.endswith(".py"):
            sys.path.insert(0, str(Path.cwd()))  # a console script does not look in the current folder
            try:
                return importlib.import_module(name)
            finally:
                sys.path.remove(str(Path.cwd()))
        path = Path(name).expanduser().resolve()
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except Exception as error:
        raise UsageError(f"{uri}: cannot import {name}: {type(error).__name__}: {error}") from error


def _attribute(module: Any, name: str, uri: Uri) -> Any:
    if not hasattr(module, name):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UsageError(f"{uri}: {unknown('callable', name, known)}")
    return getattr(module, name)


def _resolve(found: Any, uri: Uri) -> Any:
    """Call what has no required argument: it makes the classifier. The rest is the classifier."""
    from torch import nn

    if not callable(found):
        raise UsageError(f"{uri}: {found!r} cannot be called")
    if isinstance(found, nn.Module) or _needs_arguments(found):
        return found
    try:
        made = found()
    except Exception as error:
        raise UsageError(f"{uri}: it fails: {type(error).__name__}: {error}") from error
    if not callable(made):
        raise UsageError(f"{uri}: it must return a torch.nn.Module or a function of images, not {type(made).__name__}")
    for key in ("labels", "size", "mean", "std", "channels", "order", "outputs"):
        if hasattr(found, key) and not hasattr(made, key):
            _hang(made, key, getattr(found, key))
    return made


def _hang(made: Any, key: str, value: Any) -> None:
    """An attribute for the thing that was made; a scripted network takes none through its own door."""
    try:
        setattr(made, key, value)
    except (AttributeError, RuntimeError, TypeError):
        object.__setattr__(made, key, value)


def _needs_arguments(found: Any) -> bool:
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):  # built in code without a signature
        return True
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(part.default is part.empty and part.kind in positional for part in parameters)


def _contract(found: Any, uri: Uri) -> Any:
    from counterlens.core.classifiers.preprocessing import Preprocessing, square

    labels = uri.names("labels") or tuple(getattr(found, "labels", None) or ())
    if not labels:
        raise UsageError(f"{uri}: no labels: add ?labels=a,b,… or give the callable an attribute labels")
    size = getattr(found, "size", None)
    parts: dict[str, Any] = {"size": None if size is None or callable(size) else square(size)}
    channels = getattr(found, "channels", None)
    channels = channels if isinstance(channels, int) else _channels(found)
    for key, usual in (("mean", 0.0), ("std", 1.0)):
        value = getattr(found, key, None)
        value = usual if value is None or callable(value) else value
        parts[key] = tuple(float(v) for v in value) if hasattr(value, "__iter__") else (float(value),) * channels
    if isinstance(order := getattr(found, "order", None), str):
        parts["order"] = order
    return Preprocessing(tuple(labels), **parts, channels=channels).overridden(uri)


def _channels(found: Any) -> int:
    """1 where the first convolution of a network takes one channel, else 3."""
    from torch import nn

    from counterlens.plugins.classifiers.loaders.programs import channels_of

    return 1 if isinstance(found, nn.Module) and channels_of(found) == 1 else 3


def _single(found: Any, contract: Any, device: str) -> bool:
    """Whether a black box answers every picture with one number in [0,1]: that is read as a probability."""
    import torch

    from counterlens.core.classifiers.answers import probe_images

    try:
        with torch.no_grad():
            answer = torch.as_tensor(
                found(contract.prepare(probe_images(contract.size or (64, 64)).to(device)))
            ).float()
    except Exception:
        return False  # opening it asks again and words the error
    return answer.ndim == 2 and answer.shape[1] == 1 and bool((answer >= 0).all() and (answer <= 1).all())
