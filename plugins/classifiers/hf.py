"""``hf:ID_OR_DIR``: an image classifier of transformers, from the hub's cache or a folder; safetensors only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.core.errors import MissingError, UsageError
from counterlens.core.utils.uri import Uri

if TYPE_CHECKING:
    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.classifiers.preprocessing import Preprocessing

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def open_classifier(uri: Uri, device: str) -> Classifier:
    """Labels are the configuration's ``id2label``; size, mean and std the image processor's."""
    from transformers import AutoModelForImageClassification

    from counterlens.core.classifiers.classifier import Classifier, reading_of
    from counterlens.core.classifiers.preprocessing import OPTIONS

    uri.only("revision", *OPTIONS)
    _look(uri)
    revision = uri.text("revision") or None
    model, info = _quietly(
        uri,
        lambda: AutoModelForImageClassification.from_pretrained(
            _place(uri), revision=revision, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        ),
    )
    if info["missing_keys"]:
        key = sorted(info["missing_keys"])[0]
        raise UsageError(f"{uri}: the weights lack {key!r}, so it is not a trained image classifier: save it again")
    contract = _contract(uri, _labels(model.config), _processor(uri, revision), model.config)
    independent = getattr(model.config, "problem_type", None) == "multi_label_classification"
    reading = reading_of(uri, contract, "sigmoid" if independent else "logits")
    modules = {"classifier": model}
    return Classifier(
        str(uri), lambda pixels: model(pixel_values=pixels), modules=modules, device=device, **reading
    ).ready()


def _place(uri: Uri) -> str:
    folder = Path(uri.path).expanduser()
    return str(folder) if folder.is_dir() else uri.path


def _look(uri: Uri) -> None:
    """A folder of that name must hold a configuration and safetensors weights."""
    from counterlens.core.utils.pickles import PICKLES, refuse_pickle

    folder = Path(uri.path).expanduser()
    refuse_pickle(folder)
    if not folder.exists() and (len(folder.parts) > 2 or uri.path[:1] in "./~"):  # a hub id is OWNER/NAME
        raise MissingError(f"{folder} does not exist: give a folder saved with save_pretrained, or the id of a model")
    if not folder.is_dir():
        return
    if not (folder / "config.json").is_file():
        raise UsageError(f"{folder} lacks config.json: give a folder saved with save_pretrained")
    if not any((folder / name).is_file() for name in WEIGHTS):
        for path in folder.iterdir():
            if path.suffix in PICKLES:
                refuse_pickle(path)
        raise UsageError(f"{folder} lacks model.safetensors: save the model again with save_pretrained")


def _quietly(uri: Uri, load: Any) -> Any:
    """Whatever transformers says when a part is missing or damaged, as one line with what to do."""
    from safetensors import SafetensorError

    try:
        return load()
    except SafetensorError as error:
        raise UsageError(f"{uri}: its weights are damaged ({error}): copy or download them again") from None
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if Path(uri.path).expanduser().is_dir():
            raise UsageError(f"{uri}: cannot be read as an image classifier: {line}") from error
        raise MissingError(
            f"{uri}: not in the local cache and cannot be fetched: open it once with a connection, or give a folder "
            f"saved with save_pretrained ({line})"
        ) from error


def _processor(uri: Uri, revision: str | None) -> Any:
    """The image processor, or None where there is none: then the URI has to give mean and std."""
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(_place(uri), revision=revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        if "mean" in uri.options and "std" in uri.options:
            return None
        raise UsageError(
            f"{uri}: no preprocessor_config.json to take mean and std from: add ?mean=…&std=…&size=…"
        ) from error


def _labels(config: Any) -> tuple[str, ...]:
    from counterlens.core.classifiers.preprocessing import distinct

    names = [str(config.id2label[index]) for index in sorted(config.id2label)]
    return distinct([f"not {names[0]}", names[0]] if len(names) == 1 else names)


def _contract(uri: Uri, labels: tuple[str, ...], processor: Any, config: Any) -> Preprocessing:
    from counterlens.core.classifiers.preprocessing import Preprocessing, square
    from counterlens.plugins.classifiers.loaders.processors import contract_of

    if processor is None:
        size = getattr(config, "image_size", None)
        channels = int(getattr(config, "num_channels", None) or 3)
        return Preprocessing(labels, square(size) if size else None).of_channels(channels).overridden(uri)
    return contract_of(uri, labels, processor).overridden(uri)
