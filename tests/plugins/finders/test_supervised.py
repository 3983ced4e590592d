"""Directions out of labelled samples: planted ones are found, one class is refused, projections are honest."""

import pytest
import torch

from counterlens.core.errors import UsageError
from counterlens.plugins.finders.supervised import Supervised, auroc

FORMS = ("mean-difference", "ridge", "logistic", "svm", "covariance")


def planted(n=160, seed=0):
    """Activations [N,2,3,4,4]: one direction a step follows the class, another a nuisance that goes along with it."""
    g = torch.Generator().manual_seed(seed)
    truth, other = (torch.nn.functional.normalize(torch.randn(2, 48, generator=g), dim=1) for _ in range(2))
    y = torch.rand(n, generator=g) > 0.5
    nuisance = torch.where(torch.rand(n, generator=g) < 0.9, y, ~y)
    h = 0.3 * torch.randn(n, 2, 48, generator=g)
    h += (y * 2.0 - 1)[:, None, None] * truth + 1.5 * (nuisance * 2.0 - 1)[:, None, None] * other
    z = 3 * (y * 2.0 - 1) + 0.3 * torch.randn(n, generator=g)
    logits = torch.stack([-z / 2, z / 2], 1)
    return h.view(n, 2, 3, 4, 4), logits, truth, other


@pytest.mark.parametrize("form", FORMS)
def test_a_planted_direction_is_found_and_told_apart_on_held_out_samples(form):
    h, logits, truth, _ = planted()
    shift = Supervised(form=form)._direction(h, logits, ("no", "yes"), "yes")
    v = shift.delta.flatten(1)
    cosine = torch.cosine_similarity(v, truth)
    assert (cosine > 0.4).all() and shift.about["auroc_mean"] > 0.9
    assert shift.about["n"] == [int((logits.argmax(1) == 1).sum()), int((logits.argmax(1) == 0).sum())]
    assert len(shift.about["auroc"]) == 2 and all(0 <= e < 0.1 for e in shift.about["auroc_se"])
    plain = Supervised()._direction(h, logits, ("no", "yes"), "yes").delta.flatten(1)
    if form in ("ridge", "logistic", "svm"):  # a normal sees through what only goes along; the difference of means not
        assert (cosine > torch.cosine_similarity(plain, truth)).all()


def test_chance_is_chance_and_steps_without_signal_can_be_left_out():
    h, logits, *_ = planted(400)
    h[:, 0] = torch.randn(h[:, 0].shape, generator=torch.Generator().manual_seed(5))
    shift = Supervised(least=0.8)._direction(h, logits, ("no", "yes"), "yes")
    assert 0.35 < shift.about["auroc"][0] < 0.65 and shift.about["auroc"][1] > 0.9
    assert shift.norms()[0] == 0 and shift.norms()[1] > 0


def test_conditional_directions_are_solved_for_together():
    _, _, truth, other = planted()
    from counterlens.core.h_space.shifts import Shift

    v = Shift("yes", (truth + other).view(2, 3, 4, 4))
    near = torch.nn.functional.normalize(other + 0.2 * truth, dim=1)
    conditions = [Shift("a", other.view(2, 3, 4, 4)), Shift("b", near.view(2, 3, 4, 4))]
    whole = Supervised()._projected(v, conditions)
    assert max(abs(c) for c in whole.about["cosines_after"].values()) < 1e-6
    assert whole.about["cosines_before"]["a"] > 0.3 and 0 < whole.about["norm_kept"] < 1
    each = Supervised(per_step=True)._projected(v, conditions)
    for t in range(2):
        step = each.delta[t].flatten()
        assert abs(float(torch.cosine_similarity(step, other[t], 0))) < 1e-5 or step.norm() < 1e-5
    longer = Supervised(keep_length=True)._projected(v, conditions)
    assert torch.allclose(longer.delta.norm(), v.delta.norm(), rtol=1e-4)
    damped = Supervised(damping=0.5)._projected(v, conditions)
    assert max(abs(c) for c in damped.about["cosines_after"].values()) > 1e-3


def test_one_class_is_refused():
    h, logits, *_ = planted(20)
    with pytest.raises(UsageError, match="0 of 20 samples are decided as 'no': a direction needs two of each"):
        Supervised(against="no")._direction(h, logits + torch.tensor([-99.0, 99.0]), ("no", "yes"), "yes")


def test_auroc_has_its_standard_error():
    scores, positive = torch.arange(40.0), torch.arange(40) >= 20
    assert auroc(scores, positive)[0] == 1.0 and auroc(-scores, positive)[0] == 0.0
    g = torch.Generator().manual_seed(0)
    rates = [auroc(torch.randn(40, generator=g), positive) for _ in range(300)]
    spread = torch.tensor([rate for rate, _ in rates]).std()
    assert float(spread) == pytest.approx(sum(error for _, error in rates) / 300, rel=0.15)


def test_all_labels_come_out_of_one_pass_over_real_images(found):
    bank = found(
        "supervised without=two classes=two,four,seven",
        data="domain:digits?first=120",
        domain="digits",
        source="images",
        count=40,
        steps=2,
    )
    assert bank.names == ("two", "four", "seven") and bank.provenance["source"] == "images"
    assert sum(bank.provenance["decided"].values()) == bank.provenance["count"]
    for shift in bank.shifts:
        if shift.name != "two":
            assert abs(shift.about["cosines_after"]["two"]) < 1e-5


def test_defects_d11_and_d12_the_classifier_is_in_eval_mode_and_gets_its_own_range(found):
    from contextlib import ExitStack

    from counterlens.core.h_space.job import FindRequest
    from counterlens.core.plugin.registry import load_registry
    from counterlens.core.workflows.find_directions import open_job

    registry = load_registry(third_party=False)
    with ExitStack() as stack:
        job = stack.enter_context(
            open_job(registry, FindRequest(domain="shapes", count=4, steps=2), {"labels": "this test"})
        )
        assert not any(m.training for net in job.explained.modules.values() for m in net.modules())
        g = torch.Generator().manual_seed(0)
        pictures = torch.rand(4, 3, 32, 32, generator=g) * 2 - 1
        together, alone = job.logits(pictures), job.logits(pictures[:1])
        assert torch.allclose(together[:1], alone, atol=1e-4)
        rounded = (((pictures / 2 + 0.5) * 255).round() / 255).clamp(0, 1)
        assert torch.allclose(together.softmax(1), job.explained.evaluate(rounded), atol=1e-5)


def test_defect_d16_images_of_any_mode_and_size_are_read_and_classes_take_turns(tmp_path):
    from contextlib import ExitStack

    from PIL import Image

    from counterlens.core.h_space.job import FindRequest
    from counterlens.core.plugin.registry import load_registry
    from counterlens.core.workflows.find_directions import open_job

    for label, modes in {"bouba": ("P", "L", "RGBA"), "kiki": ("RGB", "1")}.items():
        (tmp_path / label).mkdir()
        for k, mode in enumerate(modes):
            Image.new("RGB", (40 + 9 * k, 50), (200, 30, 90)).convert(mode).save(tmp_path / label / f"{k}.png")
    with ExitStack() as stack:
        quest = FindRequest(domain="shapes", data=str(tmp_path), count=4, steps=2, source="images")
        job = stack.enter_context(open_job(load_registry(third_party=False), quest, {"labels": "this test"}))
        pictures = job.pictures()
    assert [label for label, _ in pictures] == ["bouba", "kiki", "bouba", "kiki"]
    assert all(image.shape == (3, 32, 32) and image.abs().max() <= 1 for _, image in pictures)
