"""Change of known factors, and whether the factor that the classifier uses is the one that changed."""

from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from counterlens.core.data.domain import Domain
from counterlens.core.metrics.context import Context
from counterlens.core.metrics.evaluate import unavailable
from counterlens.core.plugin import registry as registries
from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.core.testing.pairs import pair
from counterlens.plugins.embedded.content import data, nets, shapes, store
from counterlens.plugins.metrics.network.factors import FactorChange, Faithfulness


class Drawn(Domain):
    """Shapes whose factors are read by the regressor that comes with them."""

    name: ClassVar[str] = "drawn"
    labels: ClassVar[tuple[str, ...]] = ("bouba", "kiki")
    widths: ClassVar = {"spikiness": 1.0, "background": 1.0, "hue": 1.0, "size": 0.13}
    circular: ClassVar = ("background", "hue")
    causes: ClassVar = {"domain:shapes-shortcut": "background", "domain:shapes": "spikiness"}
    guesses: ClassVar = {"domain:shapes-shortcut": "spikiness", "domain:shapes": "background"}

    @classmethod
    def read_factors(cls, images):
        said = nets.load_net(store.WEIGHTS / "shapes" / "nets" / "regressor.safetensors")[0](images)
        column = dict(zip(data.TARGETS, said.T, strict=True))
        plain = {n: column[n] * s + m for n, (m, s) in data.RANGES.items()}
        turns = {n: torch.atan2(column[f"{n}_sin"], column[f"{n}_cos"]) / (2 * torch.pi) % 1 for n in data.CIRCULAR}
        return plain | turns


class Plugin:
    @hookimpl
    def counterlens_domains(self):
        return [Drawn]


@pytest.fixture(scope="module")
def drawn():
    found = registries.load_registry(third_party=False, extra={"drawn": Plugin()})
    return Context(found, domain_name="drawn", classifier_uri="domain:shapes-shortcut")


def picture(factors):
    return data.tensor(shapes.render(factors)[None])[0]


def edits(count=8):
    """Pairs of three kinds: another shape, another background, both pictures alike."""
    found = {"shape": [], "background": [], "nothing": []}
    for at, f in enumerate(shapes.factors("test", count)):
        other = {
            "shape": shapes.opposite(f),
            "background": replace(f, background=(f.background + 0.5) % 1),
            "nothing": f,
        }
        for kind, edited in other.items():
            found[kind].append(pair(picture(f), picture(edited), f"{at}"))
    return found


def mean(values):
    return sum(values) / len(values)


def test_changes_are_those_that_were_drawn(measure, drawn):
    found = {kind: measure("factor_change", pairs, drawn) for kind, pairs in edits().items()}
    wanted = mean([abs(shapes.opposite(f).spikiness - f.spikiness) for f in shapes.factors("test", 8)])
    assert mean(found["shape"]["factor_spikiness"]) == pytest.approx(wanted, abs=0.1)
    assert mean(found["shape"]["factor_background"]) < 0.1
    assert mean(found["background"]["factor_background"]) > 0.85  # half a turn is 1
    assert mean(found["background"]["factor_spikiness"]) < 0.1
    assert all(value == 0 for values in found["nothing"].values() for value in values)


def test_a_turn_past_the_end_is_short(measure, drawn):
    f = replace(shapes.factors("test", 1)[0], background=0.95)
    pairs = [pair(picture(f), picture(replace(f, background=0.05)))]
    assert measure("factor_change", pairs, drawn)["factor_background"][0] == pytest.approx(0.2, abs=0.06)


def test_faithfulness_exposes_edits_that_ignore_the_classifier(measure, drawn):
    found = edits()
    assert mean(measure("faithfulness", found["background"], drawn)) > 0.75  # what the shortcut uses
    assert mean(measure("faithfulness", found["shape"], drawn)) < -0.4  # a class's typical look
    assert measure("faithfulness", found["nothing"], drawn) == [0] * 8
    honest = replace_uri(drawn, "domain:shapes")
    assert mean(measure("faithfulness", found["shape"], honest)) > 0.4


def replace_uri(context, uri):
    return Context(context.catalogue, domain_name="drawn", classifier_uri=uri)


def test_only_flips_are_asked(measure, drawn):
    one = edits(1)["shape"][0]
    assert measure("faithfulness", [pair(one.source, one.counterfactual, flipped=False)], drawn) == [None]


def test_what_is_missing(registry, drawn):
    digits = Context(registry, domain_name="digits", classifier_uri="domain:digits")
    assert "factor regressor" in unavailable([FactorChange()], digits)["factor_change"]
    other = replace_uri(drawn, "timm:resnet18")
    assert "decides by is not known" in unavailable([Faithfulness()], other)["faithfulness"]
    assert unavailable([Faithfulness(used="size", guessed="hue")], other) == {}
