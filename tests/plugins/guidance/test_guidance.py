"""Guidance pieces against values computed by hand."""

import math
from types import SimpleNamespace

import pytest
import torch

from counterlens.core.classifiers.classifier import Classifier
from counterlens.core.classifiers.preprocessing import Preprocessing
from counterlens.core.errors import UsageError
from counterlens.core.images.random_crops import crops
from counterlens.core.problem.view import View
from counterlens.plugins.guidance.disagreement import Disagreement
from counterlens.plugins.guidance.neuron import Neuron
from counterlens.plugins.guidance.target import Target

LABELS = ("red", "green", "blue")


def classifier(weight, labels=LABELS, uri="python:test"):
    """Logits are ``weight`` [K,3] times the mean of each colour."""
    head = torch.nn.Linear(3, len(labels), bias=False)
    head.weight.data = torch.tensor(weight)
    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), head)
    return Classifier.of(net, Preprocessing(size=(4, 4), mean=(0, 0, 0), std=(1, 1, 1), labels=labels), uri)


FIRST = [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]]
SECOND = [[0.0, 0.0, 2.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]


def view_of(image, target=(0,), others=None, draw=None):
    """A view whose decoder is the identity; ``image`` [B,3,h,w] in [0,1]."""
    resources = SimpleNamespace(classifier=classifier(FIRST), others=others or {})
    scene = SimpleNamespace(
        resources=resources, target=torch.tensor(target), seeds=tuple(range(len(image))), picture=lambda x: x
    )
    return View((2 * image - 1).requires_grad_(), scene, draw)


def flat(r, g, b, side=4):
    return torch.tensor([r, g, b]).view(1, 3, 1, 1).expand(1, 3, side, side).clone()


def test_disagreement_by_hand():
    view = view_of(flat(1.0, 0.5, 0.0), others={"x": classifier(SECOND)})
    l1, l2 = torch.tensor([2.0, 1.0, 0.0]), torch.tensor([0.0, 0.5, 1.0])
    p1, p2 = (float(torch.softmax(v, 0)[0]) for v in (l1, l2))
    assert float(Disagreement(other="x", loss="confidence")(view, None)) == pytest.approx(p2 - p1, abs=1e-6)
    log = float(Disagreement(other="x", loss="log-confidence")(view, None))
    assert log == pytest.approx(math.log(p2) - math.log(p1), abs=1e-5)
    assert float(Disagreement(other="x", loss="logits")(view, None)) == pytest.approx((0 - 1.0) - (2 - 1.0), abs=1e-6)
    joint = float(Disagreement(other="x", loss="joint")(view, None))
    assert joint == pytest.approx(-math.log(p1) - math.log(1 - p2), abs=1e-5)


def test_joint_disagreement_pulls_where_both_classifiers_are_sure():
    """Two sure classifiers leave every difference of (log) confidences flat, and descent where it began."""
    sure = torch.tensor([[60.0, 0.0, 0.0]])
    pulls = {}
    for loss in ("joint", "confidence", "log-confidence"):
        second = sure.clone().requires_grad_()
        value = Disagreement(other="x", loss=loss).value(sure, second, torch.tensor([0]))
        (pulls[loss],) = torch.autograd.grad(value.sum(), second)
    assert pulls["joint"][0, 0] == pytest.approx(1.0) and torch.isfinite(pulls["joint"]).all()
    assert pulls["confidence"].abs().max() < 1e-6 and pulls["log-confidence"].abs().max() < 1e-6


def test_logits_disagreement_has_a_gradient_c6():
    """Defect C6: the mask that leaves the target out of the maximum had the wrong sign, and the loss was constant."""
    view = view_of(flat(0.6, 0.5, 0.4), others={"x": classifier(SECOND)})
    (g,) = torch.autograd.grad(Disagreement(other="x", loss="logits")(view, None).sum(), view.x0)
    assert g[0, 0].sum() < 0 and g.abs().max() > 0  # more red: the first says red more, the second less


def test_disagreement_orders_the_other_classifiers_labels_by_name():
    turned = classifier([SECOND[2], SECOND[0], SECOND[1]], ("blue", "red", "green"))
    one = view_of(flat(1.0, 0.5, 0.0), others={"x": classifier(SECOND)})
    other = view_of(flat(1.0, 0.5, 0.0), others={"x": turned})
    for loss in ("joint", "confidence", "log-confidence", "logits"):
        piece = Disagreement(other="x", loss=loss)
        assert torch.allclose(piece(one, None), piece(other, None), atol=1e-6)


def test_classifiers_with_different_labels_are_refused():
    other = classifier(SECOND, ("red", "green", "grey"))
    with pytest.raises(UsageError, match=r"different labels.*blue, grey"):
        Disagreement(other="x").meet(classifier(FIRST), {"x": other})


def test_neuron_by_hand():
    view = view_of(flat(0.9, 0.5, 0.1), target=(1,))
    assert float(Neuron(unit=0)(view, None)) == pytest.approx(-0.9, abs=1e-6)
    assert float(Neuron(unit=2, sign="minus", scale=10)(view, None)) == pytest.approx(1.0, abs=1e-5)
    p = float(torch.softmax(torch.tensor([1.8, 1.0, 0.2]), 0)[1])
    both = float(Neuron(unit=0, scale=10, confidence=0.5)(view, None))
    assert both == pytest.approx(-9.0 - 0.5 * math.log(p), abs=1e-5)
    assert float(Neuron(unit=1, layer="2")(view_of(flat(0.9, 0.5, 0.1)), None)) == pytest.approx(-1.0, abs=1e-6)


def test_neuron_shares_the_pass_with_the_logits():
    view = view_of(flat(0.9, 0.5, 0.1))
    calls = []
    handle = view.scene.resources.classifier.modules["classifier"].register_forward_hook(lambda *_: calls.append(1))
    Neuron(unit=0, confidence=1.0)(view, None)
    handle.remove()
    assert len(calls) == 1


def test_neuron_refuses_unknown_layers_and_units_before_a_pipeline_is_loaded():
    with pytest.raises(UsageError, match="unknown layer 'head'"):
        Neuron(unit=0, layer="head").meet(classifier(FIRST), {})
    with pytest.raises(UsageError, match="units 0 to 2, not 3"):
        Neuron(unit=3).meet(classifier(FIRST), {})


def test_saturated_pixels_keep_a_gradient():
    view = view_of(flat(1.5, 0.5, -0.5))
    (g,) = torch.autograd.grad(Target()(view, None).sum(), view.x0)
    assert g[0, 0].abs().min() > 0
    assert float(view.shown.max()) <= 1 and float(view.shown.min()) >= 0


def test_crops_are_squares_of_the_picture_averaged_down_and_drawn_by_the_images_own_seed():
    image = torch.rand(2, 3, 12, 12)
    found = crops(image, 4, 6, 0.3, 0.0, (7, 8))
    assert found.shape == (8, 3, 6, 6)
    assert torch.equal(found[4:], crops(image[1:], 4, 6, 0.3, 0.0, (8,)))
    assert not torch.equal(found[0], found[1])
    ramp = torch.arange(12.0).view(1, 1, 1, 12).expand(1, 3, 12, 12)
    steps = crops(ramp, 50, 6, 0.3, 0.0, (1,)).diff(dim=-1)
    assert steps.min() >= 1 - 1e-5 and steps.max() <= 2 + 1e-5  # sides of 6 to 12 pixels, onto 6
    sides = steps.mean((1, 2, 3)) * 6
    assert 9 < float(sides.mean()) < 11.5  # E[U**0.3] = 0.77: large crops are more frequent


def test_noise_has_its_standard_deviation():
    found = crops(torch.full((1, 3, 16, 16), 0.5), 20, 16, 0.3, 0.05, (3,))
    assert abs(float(found.std()) - 0.05) < 0.002


def test_target_over_crops_is_their_mean_and_a_plain_view_draws_nothing():
    image = torch.rand(2, 3, 12, 12)
    piece = Target(crops=5, noise=0.01)
    view = view_of(image, (0, 2), draw=3)
    per = classifier(FIRST).logits(view.cropped(5, 4, 0.3, 0.01)).log_softmax(1)
    want = -per.unflatten(0, (2, 5))[torch.arange(2), :, torch.tensor([0, 2])].mean(1)
    assert torch.allclose(piece(view, None), want, atol=1e-6)
    assert torch.equal(piece(view_of(image, (0, 2)), None), Target()(view_of(image, (0, 2)), None))
    assert not torch.equal(piece(view_of(image, (0, 2), draw=4), None), piece(view, None))
    assert piece.draws and not Target().draws
