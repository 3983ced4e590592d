"""What metrics may ask for: classifier, judge, attributes, domain, features; each is opened when first used."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from counterlens.core.classifiers.features import ROLES, SPATIAL, Features, penultimate, spatial
from counterlens.core.errors import PlanError, unknown
from counterlens.core.utils.memo import Made, Memo
from counterlens.core.utils.uri import parse_uri

if TYPE_CHECKING:
    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.data.domain import Domain
    from counterlens.core.pieces.catalogue import Catalogue


def open_features(uri: str, context: Context) -> Features:
    """The extractor behind ``judge``, ``classifier``, ``attributes``, a scheme of a plugin, or a classifier URI."""
    if (found := context.catalogue.open_features(uri, context)) is not None:
        return found
    name = uri.removesuffix(SPATIAL)
    classifier = getattr(context, name) if name in ROLES else context.open("judge", name)
    look = spatial if uri.endswith(SPATIAL) else penultimate
    return Features(uri, look(classifier), context.device, context.batch)


def features_missing(uri: str, context: Context) -> str:
    """What is missing to open these features, in one line; empty when nothing is. Loads nothing.

    UsageError with a suggestion when nobody knows the scheme.
    """
    name = uri.removesuffix(SPATIAL)
    if name in ROLES:
        return "" if name in context.gives else context.advice(name)
    if (why := context.catalogue.features_missing(uri, context)) is not None:
        return why
    known = {**context.catalogue.schemes("classifier"), **context.catalogue.schemes("features")}
    if parse_uri(name).scheme not in known:
        raise unknown("features", name, {*ROLES, *known})
    return ""


ADVICE = {
    "classifier": "no explained classifier: give its URI",
    "judge": "no judge: give the URI of an independent classifier",
    "attributes": "no attribute classifier: give its URI",
    "truth": "the true counterfactuals are not known: only domains drawn from factors have them, for their classifier",
    "factors": "the factors of an image cannot be read: only domains with a factor regressor have that",
    "region": "no region is given: the data set has to say which part may change",
    "several": "needs several counterfactuals of each image: bench --draws 3",
    "weights": "weights are not given",
    "examples": "no labelled images: give --data URI",
}


@dataclass(eq=False)
class Context:
    """Everything that metrics share. URIs name what is opened when a metric first asks; empty: there is none.

    ``data_uri``: labelled images to compare with, those of the domain if empty.
    ``weights``: paths by name (``inception``, ``lpips-alex``, …), used where a metric's own option is empty.
    ``regions``/``several``: whether the pairs will have ``region``/``others``. ``opened``: classifiers by URI that
    are loaded already; whatever is opened joins them.
    """

    catalogue: Catalogue
    classifier_uri: str = ""
    judge_uri: str = ""
    attributes_uri: str = ""
    domain_name: str = ""
    data_uri: str = ""
    device: str = "cpu"
    batch: int = 32
    seed: int = 0
    weights: Mapping[str, str] = field(default_factory=dict)
    regions: bool = False
    several: bool = False
    opened: dict[str, Classifier] = field(default_factory=dict)
    kept: Memo = field(default_factory=Memo)  # extractors, and whatever else a metric wants to load once

    @property
    def classifier(self) -> Classifier:
        """The explained classifier; PlanError when none was given."""
        return self.open("classifier", self.classifier_uri)

    @property
    def judge(self) -> Classifier:
        """The independent judge; PlanError when none was given."""
        return self.open("judge", self.judge_uri)

    @property
    def attributes(self) -> Classifier:
        """The attribute classifier; PlanError when none was given."""
        return self.open("attributes", self.attributes_uri)

    def open(self, word: str, uri: str) -> Classifier:
        if not uri:
            raise PlanError(ADVICE[word])
        if uri not in self.opened:
            self.opened[uri] = self.catalogue.open_classifier(uri, self.device)
        return self.opened[uri]

    @property
    def domain(self) -> type[Domain] | None:
        return self.catalogue.domain(self.domain_name) if self.domain_name else None

    @property
    def examples_uri(self) -> str:
        """Real images by class: the training part of the data, or of the domain; empty where there are none."""
        return self.data_uri or (f"domain:{self.domain_name}?split=train" if self.domain_name else "")

    @property
    def gives(self) -> frozenset[str]:
        """Words of capabilities.py that metrics can count on."""
        from counterlens.core.data.domain import Domain

        domain = self.domain

        def knows(method: str) -> bool:
            """The domain has its own method, not that of the base, which knows nothing."""
            own = getattr(domain, method, None)
            return own is not None and own.__func__ is not getattr(Domain, method).__func__

        known = {
            "classifier": bool(self.classifier_uri),
            "judge": bool(self.judge_uri),
            "attributes": bool(self.attributes_uri),
            "truth": knows("truth") and self.classifier_uri in ("", domain.classifier if domain else ""),
            "factors": knows("read_factors"),
            "region": self.regions,
            "several": self.several,
            "weights": True,  # each metric looks for its own files,
            "features": True,  # and for its own extractor
            "examples": bool(self.examples_uri),
        }
        return frozenset(word for word, there in known.items() if there)

    def advice(self, word: str) -> str:
        """What to do when a word is not given."""
        return ADVICE.get(word, f"needs {word}")

    def features(self, uri: str) -> Features:
        """A feature extractor (core/classifiers/features.py), opened once."""
        return self.once(("features", uri), lambda: open_features(uri, self))

    def path(self, given: str, name: str) -> Path | None:
        """The weights' path: a metric's own option, else ``weights[name]``; None when neither was given."""
        text = given or self.weights.get(name, "")
        return Path(text).expanduser() if text else None

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """``make()``, called once for a key."""
        return self.kept.once(key, make)
