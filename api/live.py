"""Classifiers that live in this process: networks and functions of the caller, opened by the engine as any URI."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from counterlens.core.errors import UsageError
from counterlens.core.plugin.hookspecs import hookimpl

if TYPE_CHECKING:
    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.classifiers.preprocessing import Preprocessing

SCHEME = "object"
UNPREPARED = (
    "how are images prepared for this network? give preprocessing={'size': 224, 'mean': (…), 'std': (…)}, "
    "torchvision's weights.transforms(), or preprocessing='none' for a network of images in [0,1]"
)


class LiveObjects:
    """A plugin that opens ``object:N``, the classifiers that were handed in as objects of this process."""

    def __init__(self) -> None:
        self.held: list[tuple[Any, Any, Classifier]] = []

    def uri_of(self, owner: Any, about: Any, make: Callable[[], Classifier]) -> str:
        """The URI of an object, made into a classifier when it, or what is said ``about`` it, is new."""
        for k, (other, said, _) in enumerate(self.held):
            if other is owner and said == about:
                return f"{SCHEME}:{k}"
        made = make()
        self.held.append((owner, about, made))
        return f"{SCHEME}:{len(self.held) - 1}"

    def classifier_of(self, uri: str) -> Classifier:
        """The classifier behind one of its URIs."""
        return self.held[int(uri.removeprefix(f"{SCHEME}:"))][-1]

    @hookimpl
    def counterlens_schemes(self) -> Mapping[str, Mapping[str, str]]:
        return {"classifier": {SCHEME: "a network or function of this process"}}

    @hookimpl
    def counterlens_open_classifier(self, uri: str, device: str) -> Classifier | None:
        if not uri.startswith(f"{SCHEME}:"):
            return None
        classifier = self.classifier_of(uri)
        classifier.device = device
        return classifier.ready()


def classifier(
    model: Any,
    labels: Sequence[str] | None = None,
    preprocessing: Preprocessing | Mapping[str, Any] | str | Callable[..., Any] | None = None,
    outputs: str | None = None,
) -> Classifier:
    """A network or a function of your own as a classifier that counterlens can explain.

    ``model``: an ``nn.Module`` (it is put into eval mode and frozen) or a function of images [B,3,H,W] in [0,1] that
    answers [B,K], a black box that has no gradient. ``labels``: names of the K classes; taken from timm and
    transformers models that know them. ``preprocessing``: see ``counterlens.Preprocessing``; a mapping of its fields,
    torchvision's ``weights.transforms()``, ``"none"`` for images in [0,1] as they are; taken from timm models.
    ``outputs``: ``logits`` (of a network) or ``probabilities`` (of a function). UsageError says what is missing.
    """
    from torch import nn

    from counterlens.core.classifiers.classifier import Classifier

    if isinstance(model, Classifier):
        return model
    if not callable(model):
        raise UsageError(f"{type(model).__name__} is no classifier: give a URI, an nn.Module, or a function of images")
    names = tuple(str(label) for label in labels or _labels(model))
    if not names:
        raise UsageError("what are the classes called? give labels=['cat', 'dog', …] in the order of the outputs")
    name = f"{SCHEME}:{type(model).__name__}"
    if not isinstance(model, nn.Module):
        contract = _preprocessing(preprocessing or "none", names)
        return Classifier.black_box(model, contract, name, outputs=outputs or "probabilities")
    contract = _preprocessing(preprocessing or _own(model), names)
    ask = _tensor_of(model)
    return Classifier(name, ask, contract, modules={"classifier": model}, outputs=outputs or "logits").ready()


def _labels(model: Any) -> tuple[str, ...]:
    """Those that the model carries: transformers' ``id2label``, or ImageNet's for a pretrained timm model."""
    from counterlens.core.classifiers.preprocessing import distinct

    if given := getattr(model, "labels", None):
        return tuple(given)
    if id2label := getattr(getattr(model, "config", None), "id2label", None):
        return distinct(str(id2label[index]) for index in sorted(id2label))
    if hasattr(model, "pretrained_cfg") and hasattr(model, "num_classes"):
        from timm.data import ImageNetInfo, infer_imagenet_subset

        if subset := infer_imagenet_subset(model):
            info = ImageNetInfo(subset)
            return distinct(info.index_to_description(k).split(",")[0] for k in range(info.num_classes()))
    return ()


def _own(model: Any) -> Any:
    """How a timm model wants its images; UsageError for a network that does not say."""
    if hasattr(model, "pretrained_cfg"):
        from timm.data import resolve_model_data_config

        found = resolve_model_data_config(model)
        size = tuple(found["input_size"][-2:])
        resize = "bicubic-antialias" if found["interpolation"] == "bicubic" else "bilinear-antialias"
        return {"size": size, "mean": tuple(found["mean"]), "std": tuple(found["std"]), "resize": resize}
    raise UsageError(UNPREPARED)


def _preprocessing(given: Any, labels: tuple[str, ...]) -> Preprocessing:
    from counterlens.core.classifiers.preprocessing import Preprocessing, square

    if isinstance(given, Preprocessing):
        return given
    if given == "none":
        return Preprocessing(labels)
    if hasattr(given, "transforms"):  # torchvision's weights
        given = given.transforms()
    if hasattr(given, "mean") and hasattr(given, "crop_size"):  # torchvision's preset of transforms
        given = {"size": given.crop_size[0], "mean": tuple(given.mean), "std": tuple(given.std)}
    if not isinstance(given, Mapping):
        raise UsageError(UNPREPARED)
    fields = dict(given)
    if fields.get("size") is not None:
        fields["size"] = square(fields["size"])
    try:
        return Preprocessing(labels, **fields)
    except TypeError as error:
        raise UsageError(f"preprocessing: {error}; it has size, mean, std, resize and channels") from None


def _tensor_of(model: Any) -> Callable[..., Any]:
    """The network's logits, also of transformers' models, which answer with an object that holds them."""

    def ask(pixels: Any) -> Any:
        answer = model(pixels)
        return getattr(answer, "logits", answer)

    return ask
