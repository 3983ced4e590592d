"""``clip:ID_OR_DIR?labels=a cat,a dog[&template=a photo of {}]``: CLIP as a classifier without training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.core.errors import MissingError, UsageError
from counterlens.core.utils.uri import Uri

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.classifiers.preprocessing import Preprocessing

TEMPLATE = "a photo of {}"


def open_classifier(uri: Uri, device: str) -> Classifier:
    """Logits are CLIP's scaled cosine similarities of the image and ``template`` filled with every label."""
    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.classifiers.preprocessing import OPTIONS

    uri.only("template", "revision", *OPTIONS)
    labels, template = uri.names("labels"), uri.text("template", TEMPLATE)
    if not labels:
        raise UsageError(f"{uri}: a zero-shot classifier needs labels: add ?labels=a cat,a dog")
    if "{}" not in template:
        raise UsageError(f"{uri}: template {template!r} needs {{}} where the label goes")
    model, tokenizer, processor = _load(uri)
    model = model.eval().requires_grad_(False).to(device)
    words = _text_features(model, tokenizer, [template.replace("{}", label) for label in labels], device)

    def similarities(pixels: Tensor) -> Tensor:
        features = _pooled(model.get_image_features(pixel_values=pixels))
        features = features / features.norm(dim=-1, keepdim=True)
        return model.logit_scale.exp() * features @ words.T

    contract = _contract(labels, processor, model.config).overridden(uri)
    modules = {"classifier": model}
    return Classifier(str(uri), similarities, contract, modules=modules, device=device, salt=template).ready()


def _load(uri: Uri) -> tuple[Any, Any, Any]:
    """(model, tokenizer, image processor); one line for what is missing or damaged."""
    from safetensors import SafetensorError
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    from counterlens.core.utils.pickles import refuse_pickle

    folder, revision = Path(uri.path).expanduser(), uri.text("revision", "main")
    place = str(folder) if folder.is_dir() else uri.path
    for path in (folder, *(folder.glob("*.bin") if not list(folder.glob("*.safetensors*")) else ())):
        refuse_pickle(path)
    try:
        loaded: Any = CLIPModel.from_pretrained(
            place, revision=revision, use_safetensors=True, output_loading_info=True
        )
        model, info = loaded
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision, trust_remote_code=False)
        processor = AutoImageProcessor.from_pretrained(place, revision=revision, trust_remote_code=False)
    except SafetensorError as error:
        raise UsageError(f"{uri}: its weights are damaged ({error}): copy or download them again") from None
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if folder.is_dir():
            raise UsageError(f"{uri}: cannot be read as a CLIP model with tokenizer and processor: {line}") from error
        raise MissingError(
            f"{uri}: not in the local cache and cannot be fetched: open it once with a connection, or give a folder "
            f"with model, tokenizer and image processor ({line})"
        ) from error
    if info["missing_keys"]:
        raise UsageError(f"{uri}: the weights lack {sorted(info['missing_keys'])[0]!r}: is it a CLIP model?")
    return model, tokenizer, processor


def _text_features(model: Any, tokenizer: Any, sentences: list[str], device: str) -> Tensor:
    """[K,D], of length 1."""
    import torch

    length = model.config.text_config.max_position_embeddings
    tokens = tokenizer(sentences, padding=True, truncation=True, max_length=length, return_tensors="pt").to(device)
    with torch.no_grad():
        ids, mask = tokens["input_ids"], tokens["attention_mask"]
        features = _pooled(model.get_text_features(input_ids=ids, attention_mask=mask))
    return features / features.norm(dim=-1, keepdim=True)


def _pooled(answer: Any) -> Any:
    """transformers 4 answers with the projected tensor, transformers 5 with an output that holds it."""
    return getattr(answer, "pooler_output", answer)


def _contract(labels: tuple[str, ...], processor: Any, config: Any) -> Preprocessing:
    from counterlens.core.classifiers.preprocessing import Preprocessing, square

    size = square(config.vision_config.image_size)
    return Preprocessing(
        labels=labels,
        size=size,
        mean=tuple(processor.image_mean),
        std=tuple(processor.image_std),
        resize="bicubic-antialias",
    )
