"""PCA of activations against scikit-learn, and a reading that is stopped and goes on."""

from contextlib import ExitStack

import pytest
import torch
from sklearn.decomposition import PCA

from counterlens.core.errors import UsageError
from counterlens.core.h_space.job import FindJob, FindRequest
from counterlens.core.plugin.registry import load_registry
from counterlens.core.testing.tiny import tiny
from counterlens.core.workflows.find_directions import open_job

torch.set_num_threads(1)
REGISTRY = load_registry(third_party=False)
COUNT = 14


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny("ddpm", tmp_path_factory.mktemp("tiny") / "ddpm"))


@pytest.fixture
def job(model, tmp_path, monkeypatch):
    monkeypatch.setenv("COUNTERLENS_CACHE", str(tmp_path / "cache"))
    with ExitStack() as stack:

        def make(text="pca components=3", **how):
            quest = FindRequest(**{"model": model, "count": COUNT, "steps": 3, "batch": 4, **how})
            job = stack.enter_context(open_job(REGISTRY, quest, {"mid-block": "this test"}))
            made = []
            object.__setattr__(job, "progress", lambda _what, done, _of: made.append(done))
            return REGISTRY.make("finder", text), job, made

        yield make


def activations(job):
    """[N,T,d] of all samples."""
    parts = [batch.h["mid.after"].flatten(2).transpose(0, 1) for batch in job.recorded()]
    return torch.cat(parts).double()


def of_sklearn(x, k):
    found = PCA(k, svd_solver="full").fit(x.numpy())
    return torch.from_numpy(found.components_), torch.from_numpy(found.explained_variance_).sqrt()


def test_directions_are_scikit_learns_components_a_standard_deviation_long(job):
    finder, one, _ = job("pca components=3 extra=0")
    bank = finder.find(one)
    h = activations(one)
    assert bank.names == ("pc-0", "pc-1", "pc-2")
    for t in range(3):
        rows, sigma = of_sklearn(h[:, t], 3)
        own = torch.stack([shift.delta[t].flatten().double() for shift in bank.shifts])
        cosines = (own @ rows.T).abs() / own.norm(dim=1)[:, None]
        assert (cosines.max(1).values - 1).abs().max() < 1e-5
        assert (own.norm(dim=1).sort(descending=True).values / sigma - 1).abs().max() < 1e-5
    assert torch.allclose(bank.norms.double(), h.norm(dim=2).mean(0), rtol=1e-5)
    about = bank.shifts[0].about
    assert len(about["explained"]) == len(about["stability"]) == len(about["link"]) == 3
    assert 0 < about["explained_mean"] < 1


def test_global_components_are_those_of_whole_trajectories(job):
    finder, one, _ = job("pca components=2 form=global")
    bank = finder.find(one)
    rows, sigma = of_sklearn(activations(one).flatten(1), 2)
    own = torch.stack([shift.delta.flatten().double() for shift in bank.shifts])
    assert (own.norm(dim=1) / sigma - 1).abs().max() < 1e-5
    assert ((own * rows).sum(1).abs() / sigma - 1).abs().max() < 1e-5


@pytest.mark.parametrize("form", ["step", "global"])
def test_the_sketch_finds_the_same(job, form):
    exact, sketch = (job(f"pca components=2 extra=2 width=12 form={form} by={by}") for by in ("gram", "sketch"))
    one, other = (finder.find(made) for finder, made, _ in (exact, sketch))
    for a, b in zip(one.shifts, other.shifts, strict=True):
        assert torch.cosine_similarity(a.delta.flatten(), b.delta.flatten(), 0) > 0.999
    assert torch.allclose(one.norms, other.norms, rtol=1e-5)


def test_d1_every_sample_is_another_one_and_the_users_random_state_is_left_alone(job):
    """Re-seeding the global generator with its own draws gives the reference 142 different images among 500."""
    _, one, _ = job(count=40)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    h = activations(one)[:, 0]
    assert torch.equal(torch.get_rng_state(), before)
    assert int(torch.linalg.matrix_rank(h - h.mean(0))) == 39


@pytest.mark.parametrize("by", ["gram", "sketch"])
def test_a_reading_that_is_killed_goes_on_with_the_same_bits(job, by, tmp_path, monkeypatch):
    from counterlens.plugins.finders import pca_samples

    monkeypatch.setattr(pca_samples, "SAVE_EVERY", 0.0)
    text = f"pca components=2 width=8 by={by}"
    finder, one, _ = job(f"{text} folder={tmp_path / 'whole'}")
    whole = finder.find(one)
    finder, one, made = job(f"{text} folder={tmp_path / 'parts'}")
    recorded = FindJob.recorded

    def stops(self, *args, **how):
        for k, batch in enumerate(recorded(self, *args, **how)):
            if k == 2:
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FindJob, "recorded", stops)
        finder.find(one)
    finder, one, made = job(f"{text} folder={tmp_path / 'parts'}")
    bank = finder.find(one)
    assert [n for n in made if n > 3] == [12, 14]
    assert all(torch.equal(a.delta, b.delta) for a, b in zip(whole.shifts, bank.shifts, strict=True))


def test_more_samples_add_to_what_is_there_and_a_torn_file_is_made_again(job, tmp_path):
    text = f"pca components=2 folder={tmp_path / 'kept'}"
    finder, one, _ = job(text, count=8)
    finder.find(one)
    finder, one, made = job(text, count=12)
    first = finder.find(one)
    assert [n for n in made if n > 3] == [12]
    (torn,) = (tmp_path / "kept").glob("*/0000004-4.safetensors")
    torn.write_bytes(torn.read_bytes()[:100])
    finder, one, made = job(text, count=12)
    again = finder.find(one)
    assert [n for n in made if n > 3] == [8, 12]
    assert torch.equal(first.shifts[0].delta, again.shifts[0].delta)


def test_the_cache_is_empty_afterwards(job, tmp_path):
    finder, one, _ = job()
    finder.find(one)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_real_images_can_take_the_place_of_samples(job):
    finder, one, _ = job("pca components=2", source="images", data="domain:shapes?first=6", count=6)
    assert finder.find(one).provenance["source"] == "images"


def test_fewer_samples_than_components_are_refused_before_any_is_made(job):
    finder, one, made = job("pca components=14")
    with pytest.raises(UsageError, match="14 samples have at most 13 components: give --count 15"):
        finder.find(one)
    assert not made
