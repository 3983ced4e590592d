"""Counts, shares and costs against tables made by hand."""

import math

import pytest
import torch

from counterlens.core.metrics.context import Context
from counterlens.core.testing.pairs import failed_pair as failed
from counterlens.core.testing.pairs import grey, pair

NAN = math.nan


def answer(edited=0.5, **record):
    return pair(edited=grey(edited), **record)


def test_flips(measure):
    pairs = [
        answer(flipped=True, label="x"),
        answer(flipped=True, label="z"),  # the explained classifier had it wrong
        answer(flipped=False, label="x"),
        failed(label="x"),
        answer(flipped=True, label=None),
    ]
    assert measure("flip_rate", pairs) == [1, 1, 0, 0, 1]
    assert measure("flip_rate_correct", pairs) == [1, None, 0, 0, None]


def test_tau_and_flip_out(measure):
    pairs = [
        answer(reached=True, probabilities_after={"x": 0.1, "y": 0.9, "z": 0.0}),
        answer(reached=False, probabilities_after={"x": 0.2, "y": 0.3, "z": 0.5}),
        answer(reached=False, probabilities_after={"x": 0.8, "y": 0.1, "z": 0.1}),
        failed(),
    ]
    assert measure("target_at_tau", pairs) == [1, 0, 0, 0]
    assert measure("flip_out", pairs) == [0, 1, 0, 0]
    assert math.isnan(measure("target_at_tau", [answer()])[0]) and math.isnan(measure("flip_out", [answer()])[0])


def test_confidence_in_bits(measure):
    pairs = [answer(p_target_before=0.125, p_target_after=0.5), answer(p_target_before=0.0, p_target_after=1.0)]
    assert measure("confidence", pairs) == [0.5, 1.0]
    assert measure("confidence_change", pairs) == [0.375, 1.0]
    assert measure("bits", pairs) == pytest.approx([2, 6 * math.log2(10)])  # records have six digits
    assert math.isnan(measure("bits", [failed(p_target_before=0.1)])[0])


def test_entropy(measure):
    pairs = [answer(probabilities_after=dict.fromkeys("wxyz", 0.25)), answer(probabilities_after={"x": 0.0, "y": 1.0})]
    assert measure("entropy", pairs) == [2, 0]


def test_costs(measure):
    pairs = [
        answer(seconds=2.5, unet_evaluations=40, gradient_evaluations=0, peak_bytes=3 * 2**20),
        failed(seconds=0.0, unet_evaluations=0),
        failed(seconds=7.0, unet_evaluations=12),
    ]
    seconds = measure("seconds", pairs)
    assert (seconds[0], seconds[2]) == (2.5, 7.0) and math.isnan(seconds[1])  # a failure is not free
    assert measure("unet_evaluations", pairs)[0] == 40
    assert measure("gradient_evaluations", pairs)[0] == 0
    assert measure("peak_memory", pairs)[0] == 3
    assert math.isnan(measure("peak_memory", pairs)[2])


def test_the_judge_of_the_record_is_believed_when_it_is_the_same(measure, registry):
    context = Context(registry, judge_uri="some:judge")
    pairs = [
        answer(judge="some:judge", judge_flipped=True),
        answer(judge="some:judge", judge_flipped=False),
        answer(judge="some:judge", judge_flipped=True, flipped=False),
        failed(judge="some:judge"),
    ]
    assert measure("judge_agreement", pairs, context) == [1, 0, None, None]
    assert measure("judge_flip_rate", pairs, context) == [1, 0, 1, 0]


def test_the_judge_is_asked_when_the_record_does_not_say(measure, registry):
    context = Context(registry, judge_uri="domain:shapes-judge")
    shapes = registry.domain("shapes")
    picture = torch.from_numpy(shapes.sample(0).pixels.copy()).permute(2, 0, 1) / 255
    label = shapes.sample(0).label
    other = shapes.target_for(label)
    pairs = [pair(picture, picture, target=t, judge="other", judge_flipped=False) for t in (label, other, "cat")]
    found = measure("judge_agreement", pairs, context)
    assert found[:2] == [1, 0] and math.isnan(found[2])


def test_several_counterfactuals_of_an_image(measure):
    one = pair(grey(0), grey(0.2), others=(grey(0.4), grey(0.8)))
    lost = pair(grey(0), grey(0.2), others=(None, None))
    found = measure("diversity", [one, lost, pair(grey(0), grey(0.2))])
    assert found[0] == pytest.approx((0.2 + 0.6 + 0.4) / 3)
    assert math.isnan(found[1]), "the other draws failed"
    assert found[2] is None, "a row of one draw"


def test_what_the_judge_said_already_converts_nobody(measure, registry):
    context = Context(registry, judge_uri="some:judge")
    judged = {"judge": "some:judge"}
    pairs = [
        answer(**judged, judge_flipped=True, judge_before={"x": 0.9, "y": 0.1}),
        answer(**judged, judge_flipped=False, judge_before={"x": 0.9, "y": 0.1}),
        answer(**judged, judge_flipped=True, judge_before={"x": 0.2, "y": 0.8}),  # it said y of the source
        answer(**judged, judge_flipped=True, judge_before={"x": 0.9, "y": 0.1}, flipped=False),
    ]
    assert measure("judge_converted", pairs, context) == [1, 0, None, None]


def test_the_judge_is_asked_about_the_source_too(measure, registry):
    context = Context(registry, judge_uri="domain:shapes-judge")
    shapes = registry.domain("shapes")
    label = shapes.sample(0).label
    target = shapes.target_for(label)
    source, truth = (
        torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255
        for pixels in (shapes.sample(0).pixels, shapes.truth(0, target))
    )
    pairs = [pair(source, truth, own=label, target=target), pair(source, source, own=target, target=label)]
    assert measure("judge_converted", pairs, context) == [1, None]
