"""Metrics of two pictures against values made by hand and other implementations."""

import math

import pytest
import torch

from counterlens.core.testing.pairs import failed_pair as failed
from counterlens.core.testing.pairs import grey, pair


def dotted(*places, size=4, value=1.0):
    """Black, with ``value`` in every channel at these places."""
    picture = grey(0, size)
    for y, x in places:
        picture[:, y, x] = value
    return picture


def random(seed, size=24):
    return torch.rand(3, size, size, generator=torch.Generator().manual_seed(seed))


def test_distances(measure):
    pairs = [pair(grey(0), dotted((0, 0), value=0.5)), pair(grey(0.25), grey(0.25)), failed()]
    for name, expected in (("l1", 0.5 / 16), ("l2", (0.25 / 16) ** 0.5), ("linf", 0.5)):
        found = measure(name, pairs)
        assert found[:2] == pytest.approx([expected, 0]) and math.isnan(found[2])


def test_a_distance_does_not_depend_on_the_batch(measure, context):
    pairs = [pair(random(k), random(k + 50), digest=str(k)) for k in range(5)]
    whole = measure("l2", pairs)
    assert [measure("l2", [one])[0] for one in pairs] == whole


def test_psnr(measure):
    found = measure("psnr", [pair(grey(0), grey(0.1)), pair(grey(0.3), grey(0.3))])
    assert found == pytest.approx([20, 100])
    assert measure("psnr", [pair(grey(0.3), grey(0.3))], cap=80) == [80]


def test_ssim_is_that_of_scikit_image(measure):
    from skimage.metrics import structural_similarity

    pairs = [pair(random(k), (random(k) * 0.8 + random(k + 9) * 0.2), digest=str(k)) for k in range(3)]
    reference = [
        structural_similarity(
            one.source.double().numpy(),
            one.counterfactual.double().numpy(),
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for one in pairs
    ]
    assert measure("ssim", pairs) == pytest.approx(reference, abs=1e-5)
    assert math.isnan(measure("ssim", [pair(grey(0, 10), grey(1, 10))])[0])


def test_extent(measure):
    pairs = [
        pair(grey(0), dotted((0, 0), (1, 1), (3, 3))),  # the first two touch at a corner
        pair(grey(0), grey(0)),
        pair(grey(0), dotted((0, 0), value=0.1)),  # not above the threshold
        failed(),
    ]
    assert measure("changed_area", pairs)[:3] == [3 / 16, 0, 0]
    assert measure("components", pairs)[:3] == [2, 0, 0]
    assert measure("changed_area", pairs, threshold=0.05)[2] == 1 / 16
    sparsity = measure("sparsity", pairs)
    assert sparsity[0] == pytest.approx(1 - 2 / 15) and sparsity[2] == pytest.approx(1)
    assert math.isnan(sparsity[1]) and math.isnan(sparsity[3])


def test_total_variation_of_the_difference(measure):
    speckle, patch = dotted((1, 1), (1, 3), (3, 1), (3, 3)), dotted((2, 2), (2, 3), (3, 2), (3, 3))
    found = measure("total_variation", [pair(grey(0), speckle), pair(grey(0), patch), pair(grey(0.2), grey(0.9))])
    # 12 steps each way: three at every inner dot's sides; the patch has two
    assert found == pytest.approx([(3 + 3) / 12 * 2, (1 + 1) / 12 * 2, 0], abs=1e-7)


def half():
    """The left half may change."""
    region = torch.zeros(1, 4, 4)
    region[..., :2] = 1
    return region


def test_leakage(measure):
    edited = dotted((0, 0), (0, 3), value=0.8)  # one inside, one outside
    pairs = [
        pair(grey(0), edited, region=half()),
        pair(grey(0), edited, region=torch.ones(1, 4, 4)),
        pair(grey(0), edited),
    ]
    found = measure("leakage", pairs)
    assert found[0] == pytest.approx(0.8 / 8)
    assert math.isnan(found[1]) and math.isnan(found[2])  # no outside; no region
    assert measure("leakage", pairs, legacy=True)[0] == pytest.approx(0.8 / 16)


@pytest.mark.parametrize(("share", "gain"), [(0.75, 1.2494), (0.5, 3.0103), (0.25, 6.0206)])
def test_legacy_psnr_is_off_by_the_share_of_the_outside(measure, share, gain):
    region = torch.zeros(1, 4, 4)
    region[..., : round(4 * (1 - share))] = 1
    one = pair(grey(0), grey(0.1), region=region)
    correct, legacy = (measure("psnr_outside", [one], legacy=on)[0] for on in (False, True))
    assert correct == pytest.approx(20)
    assert legacy - correct == pytest.approx(-10 * math.log10(share)) == pytest.approx(gain, abs=1e-4)


def test_against_the_true_counterfactual(measure):
    truth = dotted((0, 0), (0, 1), (0, 2), (0, 3))
    pairs = [
        pair(grey(0), truth, truth=truth),
        pair(grey(0), dotted((0, 0), (0, 1), (2, 2)), truth=truth),
        pair(grey(0), grey(0), truth=truth),
        pair(grey(0), truth),
    ]
    assert measure("truth_l1", pairs)[:3] == pytest.approx([0, 3 / 16, 4 / 16])
    assert measure("truth_gain", pairs)[:3] == pytest.approx([1, 1 / 4, 0])
    precision, recall = measure("edit_precision", pairs), measure("edit_recall", pairs)
    assert precision[:2] == pytest.approx([1, 2 / 3]) and recall[:3] == pytest.approx([1, 2 / 4, 0])
    assert math.isnan(precision[2])  # nothing was changed
    assert all(math.isnan(measure(name, pairs)[3]) for name in ("truth_l1", "edit_precision", "edit_recall"))
