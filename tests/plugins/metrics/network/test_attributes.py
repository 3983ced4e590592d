"""MNAC and CD with an attribute classifier that reads brightness of quadrants."""

import numpy as np
import pytest
import torch

from counterlens.core.classifiers.classifier import Classifier
from counterlens.core.classifiers.preprocessing import Preprocessing
from counterlens.core.errors import UsageError
from counterlens.core.metrics.context import Context
from counterlens.core.metrics.evaluate import evaluate_sets, unavailable
from counterlens.core.testing.pairs import failed_pair as failed
from counterlens.core.testing.pairs import pair
from counterlens.plugins.metrics.network.attributes import CorrelationDifference, Mnac, correlations

NAMES = ("north", "south", "west")


def quadrants(images):
    """[B,3] logits: how bright the upper, lower and left half are; 0 is one half."""
    halves = images[..., :2, :], images[..., 2:, :], images[..., :2]
    return torch.stack([h.mean((1, 2, 3)) * 8 - 4 for h in halves], 1)


def context(registry):
    net = Classifier.black_box(quadrants, Preprocessing(labels=NAMES, size=(4, 4)), "q", outputs="logits")
    return Context(registry, attributes_uri="q", opened={"q": net})


def picture(north, south):
    made = torch.zeros(3, 4, 4)
    made[:, :2], made[:, 2:] = north, south
    return made


def test_mnac(measure, registry):
    pairs = [
        pair(picture(0, 0), picture(1, 0)),  # north alone; west stays at one half, which is not above it
        pair(picture(0, 0), picture(1, 1)),
        pair(picture(0, 0), picture(0.4, 0.4)),
        pair(picture(0, 0), picture(1, 1), flipped=False),
        failed(),
    ]
    assert measure("mnac", pairs, context(registry)) == [1, 3, 0, None, None]


def test_correlations_are_those_of_numpy():
    table = np.random.default_rng(0).normal(size=(50, 4))
    assert correlations(table) == pytest.approx(np.corrcoef(table.T))
    table[:, 2] = 1.0  # never varies: 0, not nan
    assert np.all(correlations(table)[2] == 0)


def test_cd_by_hand(registry, tmp_path):
    """Labels: north and south are opposites, west is unrelated; the edits change north and south alike."""
    rows = ["north,south,west", "1,0,0", "0,1,0", "1,0,1", "0,1,1"]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    reals = [(str(k), picture(0.1 * k, 0.5)) for k in range(5)]
    fakes = [(str(k), picture(0.1 * k + 0.02 * k, 0.5 + 0.01 * k)) for k in range(5)]
    fakes.append(("lost", None))
    metric = CorrelationDifference(query="north", labels=str(tmp_path / "labels.csv"))
    (row,) = evaluate_sets([metric], [*reals, ("lost", picture(0, 0))], fakes, context(registry))
    answered = np.array([torch.sigmoid(quadrants(p[None]))[0].numpy() for _, p in reals])
    changed = np.array([torch.sigmoid(quadrants(p[None]))[0].numpy() for _, p in fakes[:-1]]) - answered
    by_hand = sum(abs(np.corrcoef(changed.T)[0, a] - expected) for a, expected in enumerate((1, -1, 0)))
    assert row["value"] == pytest.approx(by_hand, rel=1e-4)
    assert (row["metric"], row["n"], row["failed"]) == ("cd", 5, 1)


def test_cd_without_labels_says_so_in_its_name(registry):
    reals = [(str(k), picture(0.1 * k, 1 - 0.1 * k)) for k in range(5)]
    fakes = [(str(k), picture(0.12 * k, 1 - 0.12 * k)) for k in range(5)]
    (row,) = evaluate_sets([CorrelationDifference(query="north")], reals, fakes, context(registry))
    assert row["metric"] == "cd_predicted"
    assert row["value"] == pytest.approx(0, abs=0.2)  # edits follow the correlations of the data


def test_parts_merge(registry):
    reals = [(str(k), picture(0.1 * k, 0.3)) for k in range(6)]
    fakes = [(str(k), picture(0.12 * k, 0.3 + 0.05 * (k % 3))) for k in range(6)]
    metric, about = CorrelationDifference(query="north"), context(registry)
    whole = metric.result(metric.gather(reals, fakes, about))
    parts = [metric.gather(reals[k::2], fakes[k::2], about) for k in (1, 0)]
    assert metric.result(parts[0].merge(parts[1])) == whole


def test_what_is_missing(registry, tmp_path):
    assert "attribute classifier" in unavailable([Mnac()], Context(registry))["mnac"]
    about = context(registry)
    assert "query=" in unavailable([CorrelationDifference()], about)["cd"]
    assert "does not exist" in unavailable([CorrelationDifference(query="north", labels="no.csv")], about)["cd"]
    (tmp_path / "labels.csv").write_text("north,south\n1,0\n")
    metric = CorrelationDifference(query="north", labels=str(tmp_path / "labels.csv"))
    with pytest.raises(UsageError, match="no column 'west'"):
        evaluate_sets([metric], [], [], about)
    with pytest.raises(UsageError, match="unknown target"):
        evaluate_sets([CorrelationDifference(query="east")], [], [], about)


def test_every_attribute_has_a_column(measure, registry):
    found = measure("attribute_change", [pair(picture(0.5, 0.5), picture(1, 0.5)), failed()], context(registry))
    assert found["attribute_north"][0] == pytest.approx(1 / (1 + np.exp(-4)) - 0.5)
    assert found["attribute_south"][0] == 0
    assert np.isnan(found["attribute_north"][1])


def test_disentanglement_is_the_change_meant_less_the_largest_other(measure, registry):
    pairs = [pair(picture(0.5, 0.5), picture(1, 0.5)), pair(picture(0.5, 0.5), picture(1, 1))]
    alone, both = measure("disentanglement", pairs, context(registry), query="north")
    whole, side = 1 / (1 + np.exp(-4)) - 0.5, 1 / (1 + np.exp(-2)) - 0.5
    assert alone == pytest.approx(whole - side)  # west is half of north
    assert both == pytest.approx(0)
