"""The shipped weights: whole, small, loadable, and as good as said."""

import shutil

import numpy as np
import pytest
import torch

from counterlens.core.errors import MissingError, UsageError
from counterlens.core.plugin import registry
from counterlens.plugins.embedded import classifiers
from counterlens.plugins.embedded.content import data, nets, shapes, store

torch.set_num_threads(1)
FOUND = [(d, p) for d in ("shapes", "digits") for p in store.pipelines(d)]


@pytest.fixture(scope="module")
def plugins():
    return registry.load_registry(third_party=False)


def test_all_weights_are_noted_whole_and_under_25_megabytes():
    files = list(store.WEIGHTS.rglob("*.safetensors"))
    assert {f.relative_to(store.WEIGHTS).as_posix() for f in files} == set(store.hashes())
    assert sum(f.stat().st_size for f in files) < 25_000_000
    for file in files:
        store.checked(file)


@pytest.mark.parametrize(("domain", "least"), [("shapes", 0.98), ("digits", 0.96)])
def test_classifier_and_judge_are_right(plugins, domain, least):
    images, labels, _ = data.load(domain, "test")
    for uri in (plugins.domain(domain).classifier, plugins.domain(domain).judge):
        said = plugins.open_classifier(uri).evaluate(images[:300], 100).argmax(1)
        assert float((said == labels[:300]).float().mean()) >= least


def test_true_counterfactuals_are_confirmed(plugins):
    drawn = shapes.factors("test", 200)
    truth = data.tensor(np.stack([shapes.true_counterfactual(i) for i in range(200)]))
    wanted = torch.tensor([1 - f.label for f in drawn])
    for uri in ("domain:shapes", "domain:shapes-judge"):
        assert float((plugins.open_classifier(uri).evaluate(truth).argmax(1) == wanted).float().mean()) >= 0.98


def test_the_shortcut_classifier_follows_the_background(plugins):
    images, labels, drawn = data.load("shapes", "test")
    said = torch.tensor([shapes.shortcut_label(f) for f in drawn])
    apart = said != labels
    answer = plugins.open_classifier("domain:shapes-shortcut").evaluate(images[apart]).argmax(1)
    assert float((answer == said[apart]).float().mean()) >= 0.8


@pytest.mark.parametrize(("domain", "part"), FOUND)
def test_pipelines_load_with_diffusers_and_make_images(domain, part):
    from counterlens.plugins.embedded.make import generate

    root = store.WEIGHTS / domain
    if part == "ddpm":
        made = generate.ddpm(root, 2, steps=2)
    elif part == "kandinsky22":
        made = generate.kandinsky22(root, data.load(domain, "test")[0][:2], steps=2)
    else:
        made = generate.stable_diffusion(root, ["a round bouba", "a seven"], steps=2)
    assert made.shape == (2, 3, 32, 32) and torch.isfinite(made).all() and made.min() >= 0 and made.max() <= 1


def test_damaged_weights_are_named(tmp_path):
    shutil.copytree(store.WEIGHTS / "digits" / "nets", tmp_path / "digits" / "nets")
    shutil.copy(store.WEIGHTS / "hashes.json", tmp_path)
    file = tmp_path / "digits" / "nets" / "judge.safetensors"
    assert store.checked(file, tmp_path) == file
    store.checked.cache_clear()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(MissingError, match=r"judge\.safetensors is damaged"):
        store.checked(file, tmp_path)
    with pytest.raises(MissingError, match="missing"):
        store.checked(tmp_path / "none", tmp_path)


def test_bad_names_and_indices(plugins):
    with pytest.raises(UsageError, match="shapes-judge"):
        classifiers.open_domain("domain:shapes-juge", "cpu")
    with pytest.raises(UsageError, match="0 to 358"):
        plugins.domain("digits").sample(359)
    with pytest.raises(UsageError, match="0 to 999"):
        plugins.domain("shapes").sample(-1)
    with pytest.raises(UsageError, match="validation"):
        plugins.domain("shapes").sample(0, "valid")
    with pytest.raises(UsageError, match="kiki"):
        plugins.domain("shapes").truth(0, "kikki")


def test_samples_and_truth(plugins):
    domain = plugins.domain("shapes")
    sample = domain.sample(7)
    other = domain.target_for(sample.label)
    assert sample.label in sample.caption and domain.truth(7, sample.label) is None
    assert np.array_equal(domain.truth(7, other), shapes.true_counterfactual(7))
    digit = plugins.domain("digits").sample(0)
    assert digit.label in digit.caption and digit.pixels.shape == (32, 32, 3)
    assert all(plugins.domain("digits").target_for(label) != label for label in plugins.domain("digits").labels)


def test_the_difference_of_means_asks_for_a_class_of_the_image_embedding_pipeline():
    from counterlens.plugins.embedded.make import generate

    root, labels = store.WEIGHTS / "shapes", torch.arange(8) % 2
    images = data.load("shapes", "test")[0][:8]
    made = generate.kandinsky22(root, images, steps=20, moves=generate.toward(root, "shapes", labels))
    judge = nets.load_net(root / "nets" / "judge.safetensors")[0]
    assert (judge(made).argmax(1) == labels).sum() >= 7
