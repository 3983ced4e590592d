"""``torchscript:FILE``, ``export:FILE`` and ``onnx:FILE``: networks saved with their program.

``?labels=a,b`` names the outputs. What the file says of its input (size, channels, a fixed batch) is followed. A
program of torch.jit or torch.export has gradients; one of ONNX can only be asked, by onnxruntime. These run the
program in the file: open only what you trust.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.core.errors import MissingError, UsageError
from counterlens.core.utils.uri import Uri

if TYPE_CHECKING:
    from torch import nn

    from counterlens.core.classifiers.classifier import Classifier


def open_classifier(uri: Uri, device: str) -> Classifier:
    """Labels come from the URI; what the numbers are is looked at unless ``?outputs=`` says it."""
    from counterlens.core.classifiers.classifier import Classifier, reading_of
    from counterlens.core.classifiers.preprocessing import OPTIONS, Preprocessing

    uri.only(*OPTIONS)
    path = Path(uri.path).expanduser()
    if not path.is_file():
        raise MissingError(f"{uri}: there is no such file")
    if not uri.names("labels"):
        raise UsageError(f"{uri}: a program does not say its labels: add ?labels=a,b,… in the order of the outputs")
    if uri.scheme == "onnx":
        ask, shape = _onnx(path, uri)
        contract = _contract(Preprocessing(uri.names("labels")), shape, uri)
        return Classifier.black_box(ask, uri=str(uri), device=device, **reading_of(uri, contract, "auto"))
    module, shape = (_scripted if uri.scheme == "torchscript" else _exported)(path, uri)
    contract = _contract(Preprocessing(uri.names("labels")), shape, uri)
    return Classifier.of(module, uri=str(uri), device=device, **reading_of(uri, contract, "auto"))


def _contract(plain: Any, shape: tuple[int | None, int | None, int | None], uri: Uri) -> Any:
    """By the shape (channels, height, width) that the program takes, where it says so."""
    from dataclasses import replace

    channels, height, width = shape
    if channels in (1, 3):
        plain = plain.of_channels(channels)
    elif channels:
        raise UsageError(f"{uri}: it takes {channels} channels; pictures have 3, or 1 when they are grey")
    return replace(plain, size=(height, width) if height and width else None).overridden(uri)


def _scripted(path: Path, uri: Uri) -> tuple[nn.Module, Any]:
    import warnings

    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module: Any = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, OSError, ValueError) as error:
        raise _unread(uri, "a TorchScript program", error) from None
    return module, (channels_of(module), None, None)


def _exported(path: Path, uri: Uri) -> tuple[nn.Module, Any]:
    """A program of torch.export. It keeps the shapes that it was made with, often a batch of one too."""
    import torch
    from torch import nn

    try:
        program = torch.export.load(str(path))
        inner: Any = program.module()
        values = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"]
        taken = next(v for v, spec in zip(values, program.graph_signature.input_specs, strict=True) if _is_user(spec))
    except Exception as error:  # its readers raise what they like, of damage and of other versions
        raise _unread(uri, "a program of torch.export", error) from None
    batch, *rest = [size if isinstance(size, int) else None for size in taken.shape]

    class Exported(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def train(self, mode: bool = True) -> Exported:
            self.training = mode  # its mode was settled when it was exported
            return self

        def forward(self, images: Any) -> Any:
            return asked_in(images, batch, self.inner)

    return Exported().train(False), (*rest, None, None, None)[:3]


def _is_user(spec: Any) -> bool:
    return getattr(spec.kind, "name", "") == "USER_INPUT"


def asked_in(images: Any, batch: int | None, ask: Any) -> Any:
    """``ask`` in batches of the size that it was made for; what is short of one is filled up with the last image."""
    import torch

    if batch is None or len(images) == batch:
        return ask(images)
    answers = []
    for part in images.split(batch):
        short = batch - len(part)
        full = torch.cat([part, part[-1:].expand(short, -1, -1, -1)]) if short else part
        answers.append(first_tensor(ask(full))[: len(part)])
    return torch.cat(answers)


def first_tensor(answer: Any) -> Any:
    """The answer itself, or the first of several."""
    return answer[0] if isinstance(answer, tuple | list) else answer


def _onnx(path: Path, uri: Uri) -> tuple[Any, Any]:
    import numpy as np
    import torch

    try:
        import onnxruntime
    except ImportError:
        raise MissingError(f"{uri}: needs onnxruntime: pip install onnxruntime") from None
    try:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library's own kinds of error are not importable everywhere
        raise _unread(uri, "an ONNX program", error) from None
    entries = session.get_inputs()
    if len(entries) != 1 or len(entries[0].shape) != 4:
        raise UsageError(f"{uri}: it takes {[e.shape for e in entries]}; one batch of pictures [B,C,H,W] is needed")
    batch, *rest = [size if isinstance(size, int) else None for size in entries[0].shape]
    if rest[0] not in (1, 3, None) and rest[-1] in (1, 3):
        raise UsageError(f"{uri}: it takes pictures as [B,H,W,C], channels last: export it with [B,C,H,W]")
    kind = {"tensor(float16)": np.float16, "tensor(double)": np.float64}.get(entries[0].type, np.float32)
    names = [out.name for out in session.get_outputs()]

    def ask(images: Any) -> Any:
        def run(part: Any) -> Any:
            found = session.run(None, {entries[0].name: part.detach().cpu().numpy().astype(kind)})
            return tuple(torch.from_numpy(np.asarray(value, np.float32)) for value in found)

        answer = asked_in(images, batch, run)
        parts = answer if isinstance(answer, tuple) else (answer,)
        return parts[0] if len(parts) == 1 else dict(zip(names, parts, strict=True))

    return ask, rest


def channels_of(module: Any) -> int | None:
    """The channels that the first convolution takes; None where there is none."""
    return next((int(p.shape[1]) for p in module.parameters() if p.ndim == 4 and p.shape[1] in (1, 3)), None)


def _unread(uri: Uri, what: str, error: Exception) -> UsageError:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UsageError(f"{uri}: it cannot be read as {what} ({line}); was it saved by another version?")
