"""Kiki and Bouba: bytes from factors, splits, true counterfactuals."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from counterlens.plugins.embedded.content import shapes


def test_rendering_the_factors_gives_the_bytes():
    pictures, labels, drawn = shapes.images("test", 40)
    assert all(np.array_equal(shapes.render(f), p) for f, p in zip(drawn, pictures, strict=True))
    assert pictures.dtype == np.uint8 and pictures.shape == (40, 32, 32, 3)
    assert set(labels) == {0, 1}


def test_splits_are_fixed_and_apart():
    assert shapes.factors("test", 5) == shapes.factors("test", 9)[:5]
    firsts = {split: shapes.factors(split, 1)[0] for split in shapes.SEEDS}
    assert len({f.hue for f in firsts.values()}) == len(firsts)
    digest = hashlib.sha256(shapes.images("test", 20)[0].tobytes()).hexdigest()
    assert digest.startswith(TEST_DIGEST), "the test split changed: the shipped figures would no longer hold"


TEST_DIGEST = "a964c34de6152af2"


def test_spikiness_covers_its_range_but_the_gap():
    s = np.array([f.spikiness for f in shapes.factors("train", 4000)])
    assert s.min() < 0.01 and s.max() > 0.99
    assert np.abs(s - 0.5).min() >= shapes.GAP
    assert 0.45 < np.mean(s > 0.5) < 0.55
    counts, _ = np.histogram(s, bins=10, range=(0, 1))
    assert counts.min() > 200


def test_more_spikiness_is_less_area():
    f = shapes.factors("test", 1)[0]
    areas = [shapes.coverage(replace(f, spikiness=s)).sum() for s in np.linspace(0, 1, 9)]
    assert np.all(np.diff(areas) < 0)


def test_a_turn_by_a_whole_lobe_changes_nothing():
    f = shapes.factors("test", 1)[0]
    assert np.abs(shapes.coverage(f) - shapes.coverage(replace(f, angle=f.angle + 1))).max() < 1e-9


def test_true_counterfactual_changes_the_class_and_nothing_else():
    for i, f in enumerate(shapes.factors("test", 30)):
        other = shapes.opposite(f)
        assert other.label != f.label and abs(other.spikiness - 0.5) >= 0.2 - 1e-9
        assert replace(other, spikiness=f.spikiness) == f
        assert np.array_equal(shapes.true_counterfactual(i), shapes.render(other))
    with pytest.raises(IndexError, match="0 to 999"):
        shapes.true_counterfactual(1000)


def test_shortcut_backgrounds():
    drawn = shapes.with_shortcut(shapes.factors("train", 3000), 0.95, seed=7)
    agree = np.mean([shapes.shortcut_label(f) == f.label for f in drawn])
    assert agree == pytest.approx(0.95, abs=0.015)


def test_factors_are_read_off_pictures():
    import torch

    from counterlens.core.plugin.registry import load_registry
    from counterlens.plugins.metrics.network.factors import changes

    domain = load_registry(third_party=False).domain("shapes")
    samples = [domain.sample(index) for index in range(24)]
    images = torch.stack([torch.from_numpy(s.pixels).permute(2, 0, 1) for s in samples]).float() / 255
    found = domain.read_factors(images)
    assert set(found) == set(domain.widths) == set(samples[0].factors)
    for name, width in domain.widths.items():
        off = (found[name] - torch.tensor([s.factors[name] for s in samples])).abs()
        off = torch.minimum(off, 1 - off) if name in domain.circular else off
        assert off.median() < 0.03 * width, name
    assert all(change.max() == 0 for change in changes(domain, images, images).values())
