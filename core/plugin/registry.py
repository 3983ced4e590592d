"""What exists: pieces, methods, families and domains, brought by plugins through the hooks of hookspecs.py."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from counterlens.core.conditioning.captioner import Captioner
from counterlens.core.conditioning.directions import Direction
from counterlens.core.data.dataset import PARTS
from counterlens.core.data.domain import open_domain_images
from counterlens.core.errors import UsageError, unknown
from counterlens.core.h_space.finder import Finder
from counterlens.core.metrics.metric import Metric
from counterlens.core.pieces.options import build
from counterlens.core.pieces.spec import parse_spec
from counterlens.core.plugin import hookspecs
from counterlens.core.problem.masker import Masker
from counterlens.core.problem.method_pieces import Combiner, Editor, Guidance, Inverter, Regularizer, Search
from counterlens.core.training.trainer import Trainer
from counterlens.core.utils.uri import parse_uri

if TYPE_CHECKING:
    from counterlens.core.classifiers.classifier import Classifier
    from counterlens.core.data.dataset import Dataset
    from counterlens.core.data.domain import Domain
    from counterlens.core.models.family import Family
    from counterlens.core.pieces.base import Piece
    from counterlens.core.problem.method import Method


KINDS: dict[str, type[Piece]] = {
    cls.kind: cls
    for cls in (
        Editor,
        Guidance,
        Regularizer,
        Inverter,
        Combiner,
        Direction,
        Finder,
        Trainer,
        Search,
        Masker,
        Captioner,
        Metric,
    )
}

BUILT_IN = tuple(
    f"counterlens.plugins.{name}"
    for name in (
        "families",
        "inverters",
        "combiners",
        "editors",
        "guidance",
        "regularizers",
        "directions",
        "finders",
        "trainers",
        "searches",
        "captioners",
        "maskers",
        "metrics",
        "classifiers",
        "datasets",
        "methods",
        "embedded",
    )
)

HOOK_OF = {kind: f"counterlens_{kind if kind == 'guidance' else kind + 's'}" for kind in KINDS}
HOOK_OF["search"] = "counterlens_searches"


HOOK_OF |= {"family": "counterlens_families", "domain": "counterlens_domains", "method": "counterlens_methods"}


@dataclass(frozen=True)
class Plugin:
    """Proof of discovery: where a plugin comes from, the hooks it implements, or why it is broken."""

    name: str
    distribution: str
    version: str
    hooks: tuple[str, ...] = ()
    error: str = ""


@dataclass
class Registry:
    """Everything the plugins brought. ``entries[kind][name]`` is the class (or Method); ``origins`` who brought it."""

    pm: pluggy.PluginManager
    plugins: list[Plugin] = field(default_factory=list)
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    origins: dict[tuple[str, str], str] = field(default_factory=dict)

    def entries_of(self, kind: str) -> Mapping[str, Any]:
        """Classes (or methods) of a kind by their names."""
        return self.entries[kind]

    def get(self, kind: str, name: str) -> Any:
        """The entry of that name; unknown names get a suggestion and the list."""
        try:
            return self.entries[kind][name]
        except KeyError:
            raise unknown(kind, name, self.entries[kind]) from None

    def make(self, kind: str, text: str) -> Any:
        """A piece out of ``NAME key=value``; wrong options name the option, what is wrong and those that exist."""
        name, options = parse_spec(text)
        return build(self.get(kind, name), options, self.make)

    def family(self, name: str) -> type[Family]:
        return self.get("family", name)

    def recognise(self, model_index: Mapping[str, Any]) -> str:
        """The family of a ``model_index.json``: a plugin's word first, else the pipeline classes of the families."""
        if (name := self.pm.hook.counterlens_recognise(model_index=model_index)) is not None:
            return name
        families = self.entries["family"]
        for name, family in families.items():
            if family.recognises(model_index):
                return name
        known = sorted(cls for family in families.values() for cls in family.pipelines)
        raise unknown("pipeline class", str(model_index.get("_class_name")), known)

    def method(self, name: str) -> Method:
        """The method of that name, or of a YAML file."""
        if name.endswith((".yaml", ".yml")):
            from counterlens.core.problem.method import Method

            return Method.read(name)
        return self.get("method", name)

    def domain(self, name: str) -> type[Domain]:
        return self.get("domain", name)

    def add(self, name: str, plugin: Any, distribution: str = "this process") -> Plugin:
        """Register one more plugin; what went wrong is its ``error``."""
        _admit(self, name, lambda: plugin, distribution, "")
        return self.plugins[-1]

    def schemes(self, kind: str) -> dict[str, str]:
        """What a URI of ``data``, ``classifier`` or ``features`` may begin with, and what it says."""
        brought = [found.get(kind, {}) for found in self.pm.hook.counterlens_schemes()]
        return {scheme: what for schemes in brought for scheme, what in schemes.items()}

    def is_data(self, text: str) -> bool:
        """Whether an argument names labelled images and not one picture: a data scheme, or a folder. Pictures of
        a domain are named one by one (``NAME:INDEX``)."""
        scheme = parse_uri(text).scheme
        return scheme in self.schemes("data").keys() - {"domain"} or (not scheme and Path(text).expanduser().is_dir())

    def open_dataset(self, uri: str) -> Dataset:
        """The data behind a URI, from the first plugin that knows its scheme, else a domain.

        Options of ``domain:NAME``: ``split`` (train, validation, test; train if not given) and ``first`` (how many
        images). Of the others: those of ``core/data/selection.py``. A plugin that does not divide its images has them
        divided by their groups when a part is asked for.
        """
        parts = parse_uri(uri)
        found: Dataset | None = self.pm.hook.counterlens_open_dataset(uri=uri)
        if found is not None:
            asked = parts.text("split")
            if asked not in ("", "all", *PARTS):
                raise unknown(f"{uri}: split", asked, (*sorted(set(PARTS.values())), "all"))
            wanted = PARTS.get(asked, "")
            return found if not wanted or found.part == wanted else found.divided(wanted)
        if parts.scheme == "domain":
            return open_domain_images(self.domain(parts.path), parts)
        raise unknown("data scheme", parts.scheme, self.schemes("data"))

    def open_classifier(self, uri: str, device: str = "cpu") -> Classifier:
        """The classifier behind a URI, from the first plugin that knows its scheme; UsageError when none does."""
        found = self.pm.hook.counterlens_open_classifier(uri=uri, device=device)
        if found is not None:
            return found
        known, scheme = self.schemes("classifier"), parse_uri(uri).scheme
        if not scheme:
            listed = ", ".join(sorted(known))
            raise UsageError(f"classifier {uri!r} has no scheme: write file:{uri}, or one of {listed}")
        raise unknown("classifier scheme", scheme, known)

    def architecture(self, name: str, classes: int) -> Any:
        """The untrained network of a name such as ``timm:NAME``, with ``classes`` outputs."""
        return self.pm.hook.counterlens_architecture(name=name, classes=classes)

    def open_features(self, uri: str, context: Any) -> Any:
        """The extractor of a plugin's scheme (``core/classifiers/features.py``), None when nobody knows it."""
        return self.pm.hook.counterlens_open_features(uri=uri, context=context)

    def features_missing(self, uri: str, context: Any) -> str | None:
        """What is missing to open these features, in one line; empty when nothing is, None when nobody knows them."""
        return self.pm.hook.counterlens_features_missing(uri=uri, context=context)


def load_registry(third_party: bool = True, extra: Mapping[str, Any] | None = None) -> Registry:
    """Load the built-ins, ``extra`` plugin objects by name, and (unless told not to) entry points.

    Each plugin loads in its own try: a broken one is recorded in ``plugins``, never fatal.
    """
    pm = pluggy.PluginManager(hookspecs.PROJECT)
    pm.add_hookspecs(hookspecs)
    registry = Registry(pm, entries={kind: {} for kind in HOOK_OF})
    version = _version("counterlens")
    for module in BUILT_IN:
        _admit(registry, module, lambda module=module: importlib.import_module(module), "counterlens", version)
    for name, plugin in (extra or {}).items():
        _admit(registry, name, lambda plugin=plugin: plugin, name, "")
    if third_party:
        for point in metadata.entry_points(group=hookspecs.PROJECT):
            dist = point.dist
            _admit(registry, point.name, point.load, dist.name if dist else "?", dist.version if dist else "")
    return registry


def _admit(registry: Registry, name: str, load_it: Any, distribution: str, version: str) -> None:
    """Register one plugin and collect what it brings; whatever goes wrong is written beside its name."""
    pm = registry.pm
    hooks: tuple[str, ...] = ()
    try:
        plugin = load_it()
        pm.register(plugin, name)
        pm.check_pending()
        hooks = tuple(sorted(caller.name for caller in pm.get_hookcallers(plugin) or ()))
        _collect(registry, plugin, hooks, distribution)
        registry.plugins.append(Plugin(name, distribution, version, hooks))
    except Exception as error:
        if pm.has_plugin(name):
            pm.unregister(name=name)
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        registry.plugins.append(
            Plugin(name=name, distribution=distribution, version=version, hooks=hooks, error=message)
        )


def _collect(registry: Registry, plugin: Any, hooks: tuple[str, ...], distribution: str) -> None:
    found = []
    for kind, hook in HOOK_OF.items():
        if hook in hooks:
            found += [(kind, entry) for entry in getattr(plugin, hook)()]
    for kind, entry in found:
        if entry.name in registry.entries[kind]:
            owner = registry.origins[kind, entry.name]
            raise UsageError(f"{kind} {entry.name!r} is brought by both {owner} and {distribution}: remove one")
        expected = KINDS.get(kind)
        if expected and not (isinstance(entry, type) and issubclass(entry, expected)):
            raise TypeError(f"{entry!r} is not a {expected.__name__}")
    for kind, entry in found:
        registry.entries[kind][entry.name] = entry
        registry.origins[kind, entry.name] = distribution


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"
