"""PCA by Gram matrix and by sketch, against scikit-learn and planted data."""

import pytest
import torch
from sklearn.decomposition import PCA

from counterlens.core.linalg.pca import Sketch, by_gram, chained, gram, shared

torch.set_num_threads(1)


def samples(n=60, d=500, rank=8, noise=0.02, seed=0, mean=3.0):
    g = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(d, rank, generator=g, dtype=torch.float64)).Q
    scores = torch.randn(n, rank, generator=g, dtype=torch.float64) * 3 * 0.7 ** torch.arange(rank)
    return scores @ basis.T + noise * torch.randn(n, d, generator=g, dtype=torch.float64) + mean, basis, scores


def sketch(x, r, parts=7, seed=0):
    found = Sketch(x.shape[1], r, seed)
    for part in x.split(parts):
        found.add(part)
    return found


def test_gram_is_scikit_learns_pca():
    x, _, _ = samples()
    found, known = by_gram(x.float(), 5), PCA(5, svd_solver="full").fit(x.float().double().numpy())
    assert (found.rows * torch.from_numpy(known.components_)).sum(1).abs().min() > 1 - 1e-10
    assert (found.sigma**2 / torch.from_numpy(known.explained_variance_) - 1).abs().max() < 1e-5
    assert (found.explained / torch.from_numpy(known.explained_variance_ratio_) - 1).abs().max() < 1e-5
    assert (found.mean - torch.from_numpy(known.mean_)).abs().max() < 1e-6


def test_gram_is_the_dense_svd_in_float64():
    x, _, _ = samples()
    found = by_gram(x, 5)
    _, s, vh = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    assert (found.sigma * 59**0.5 / s[:5] - 1).abs().max() < 1e-8
    assert (found.rows - vh[:5] * (found.rows * vh[:5]).sum(1, keepdim=True).sign()).abs().max() < 1e-8
    assert (found.scores.var(0) / found.sigma**2 - 1).abs().max() < 1e-8
    assert (found.rows @ found.rows.T - torch.eye(5)).abs().max() < 1e-9
    assert torch.equal(gram(x), gram(x).T)


def test_planted_directions_are_found():
    x, basis, _ = samples(n=200)
    space = by_gram(x, 8).rows
    assert torch.linalg.svdvals(space @ basis).min() > 0.99


def test_one_pass_sketch_agrees_with_the_gram_matrix():
    x, _, _ = samples()
    whole, once = by_gram(x, 5), sketch(x, 20).components(5, x[:20])
    assert (once.sigma / whole.sigma - 1).abs().max() < 0.02  # noise outside of the sketch
    assert (once.rows * whole.rows).sum(1).abs().min() > 0.999
    assert (once.explained / whole.explained - 1).abs().max() < 0.04
    assert (once.stability - whole.stability).abs().max() < 0.05
    exact, _, _ = samples(noise=0.0)
    assert (sketch(exact, 20).components(5, exact).sigma / by_gram(exact, 5).sigma - 1).abs().max() < 1e-7


def test_a_sketch_does_not_depend_on_how_its_samples_come_and_can_go_on():
    x, _, _ = samples()
    whole, parts = sketch(x, 12, 60), sketch(x, 12, 3)
    a, b = (s.components(4, x[:10]) for s in (whole, parts))
    assert (a.rows - b.rows).abs().max() < 1e-9
    state = {k: v.clone() for k, v in sketch(x[:21], 12, 3).state.items()}
    later = Sketch(x.shape[1], 12, 0, state)
    for part in x[21:].split(3):
        later.add(part)
    assert all(torch.equal(later.state[name], parts.state[name]) for name in parts.state)


def test_memory_of_a_sketch_does_not_grow_with_the_samples():
    few, many = (sketch(samples(n=n)[0], 12).state for n in (20, 200))
    assert {k: v.shape for k, v in few.items()} == {k: v.shape for k, v in many.items()}


def test_stability_is_high_for_planted_components_and_low_for_noise():
    x, _, _ = samples(n=400, rank=2)
    stability = by_gram(x, 6).stability
    assert stability[:2].min() > 0.98
    assert stability[2:].max() < 0.5


def test_centring_leaves_no_component_of_rounding():
    x, _, _ = samples(n=6)
    assert len(by_gram(x, 6).rows) == 5
    twice = torch.cat([x[:3], x[:3]])
    assert len(by_gram(twice, 5).rows) == 2


def test_components_of_a_whole_trajectory_are_those_of_its_concatenation():
    first, second = samples(d=100)[0], samples(d=150, seed=1)[0]
    one, other = shared([first, second], 4)
    known = by_gram(torch.cat([first, second], 1), 4)
    assert torch.allclose(torch.cat([one.rows, other.rows], 1), known.rows, atol=1e-9)
    assert torch.allclose(one.sigma, known.sigma)


def test_d13_components_that_change_places_are_matched_by_their_scores():
    """Two factors whose variances cross: the reference takes number j at every timestep, and mixes them."""
    g = torch.Generator().manual_seed(0)
    factors = torch.linalg.qr(torch.randn(80, 2, generator=g, dtype=torch.float64)).Q * 9
    found = []
    for t in range(5):
        basis = torch.linalg.qr(torch.randn(300, 2, generator=g, dtype=torch.float64)).Q * (-1) ** t
        size = torch.tensor([3.0 - t * 0.7, 1.0 + t * 0.7], dtype=torch.float64)
        found.append(by_gram(factors * size @ basis.T, 2))
    chains = chained([f.scores for f in found], [f.explained for f in found], 2)
    orders = chains.order.tolist()
    assert orders[0] != orders[-1]
    for j in (0, 1):
        followed = [f.scores[:, at[j]] * s[j] for f, at, s in zip(found, chains.order, chains.sign, strict=True)]
        same = [float(torch.corrcoef(torch.stack([followed[0], now]))[0, 1]) for now in followed]
        assert min(same) > 0.99
    assert chains.link.min() > 0.99


def test_d13_a_permutation_of_the_coordinates_changes_nothing():
    """The reference's sign is that of the first coordinate, and of an inner product with another timestep's vector."""
    x, _, _ = samples()
    order = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(1))
    assert torch.allclose(by_gram(x[:, order], 4).rows, by_gram(x, 4).rows[:, order], atol=1e-9)


@pytest.mark.parametrize("k", [1, 3])
def test_chains_are_ordered_by_their_share_of_the_variance(k):
    scores = [torch.eye(4, 3, dtype=torch.float64)] * 2
    chains = chained(scores, [torch.tensor([0.1, 0.3, 0.6])] * 2, k)
    assert chains.order.tolist() == [[2, 1, 0][:k]] * 2
