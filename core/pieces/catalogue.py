"""What lower rooms may ask of the registry, which they are handed and never import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.data.dataset import Dataset
    from counterlens.core.data.domain import Domain


class Catalogue(Protocol):
    """What exists, by kind and name, and what is behind a URI."""

    def entries_of(self, kind: str) -> Mapping[str, Any]:
        """Classes (or methods) of a kind by their names."""

    def make(self, kind: str, text: str) -> Any:
        """A piece out of ``NAME key=value``."""

    def domain(self, name: str) -> type[Domain]:
        """An embedded domain; UsageError with a suggestion for an unknown name."""

    def schemes(self, kind: str) -> Mapping[str, str]:
        """What a URI of ``data``, ``classifier`` or ``features`` may begin with, and what it says."""

    def open_dataset(self, uri: str) -> Dataset:
        """The labelled images behind a URI; nothing but names is read."""

    def open_classifier(self, uri: str, device: str = "cpu") -> Classifier:
        """The classifier behind a URI."""

    def architecture(self, name: str, classes: int) -> Any:
        """An untrained network with ``classes`` outputs."""

    def open_features(self, uri: str, context: Any) -> Any:
        """The extractor of a plugin's scheme, None when nobody knows it."""

    def features_missing(self, uri: str, context: Any) -> str | None:
        """What is missing to open these features, None when nobody knows the scheme."""
