"""Inside against outside, against dense eigenproblems."""

import pytest
import scipy.linalg
import torch

from counterlens.core.linalg.krylov import Operator, leading
from counterlens.core.linalg.masked_krylov import masked_singular_vectors, without

torch.set_num_threads(1)


def operator(a):
    return Operator(lambda v: v @ a.T, lambda u: u @ a, a.shape[1])


@pytest.fixture
def problem():
    g = torch.Generator().manual_seed(0)
    a = torch.randn(80, 40, generator=g, dtype=torch.float64) * 0.9 ** torch.arange(40, dtype=torch.float64)
    weight = torch.rand(80, generator=g, dtype=torch.float64).round(decimals=1)
    return a, weight


def test_ratios_are_those_of_the_dense_generalised_problem(problem):
    a, m = problem
    floor = 0.05
    inner, outer = (a.T @ (w**2)[:, None].mul(a) for w in (m, 1 - m))
    lam, vectors = scipy.linalg.eigh(inner.numpy(), (outer + floor * torch.eye(40)).numpy())
    found = masked_singular_vectors(operator(a), m, 3, floor, tol=1e-6)
    assert found.converged
    assert (found.values**2 / torch.from_numpy(lam[::-1][:3].copy()) - 1).abs().max() < 1e-8
    dense = torch.from_numpy(vectors[:, ::-1][:, :3].copy()).T
    cosine = torch.cosine_similarity(found.right, dense).abs()
    assert cosine.min() > 1 - 1e-6


def test_nothing_outside_leaves_the_plain_spectrum(problem):
    a, _ = problem
    found = masked_singular_vectors(operator(a), torch.ones(80, dtype=torch.float64), 3, 1.0, tol=1e-7)
    plain = leading(operator(a), 3, tol=1e-7)
    assert torch.allclose(found.values, plain.values, rtol=1e-9)
    assert (found.right * plain.right).sum(1).abs().min() > 1 - 1e-9


def test_a_mask_of_zeros_has_ratio_zero(problem):
    a, _ = problem
    assert masked_singular_vectors(operator(a), torch.zeros(80, dtype=torch.float64), 2, 1.0).values.abs().max() < 1e-12


def test_null_space_directions_are_orthogonal_to_the_outside(problem):
    a, m = problem
    out = leading(operator((1 - m)[:, None] * a), 5, tol=1e-9).right
    found = leading(without(operator(m[:, None] * a), out), 3, tol=1e-7)
    assert (found.right @ out.T).abs().max() < 1e-7
    dense = torch.linalg.svdvals((m[:, None] * a) @ (torch.eye(40) - out.T @ out))
    assert torch.allclose(found.values, dense[:3], rtol=1e-8)


def test_a_floor_of_zero_is_refused(problem):
    a, m = problem
    with pytest.raises(ValueError, match="floor above 0"):
        masked_singular_vectors(operator(a), m, 2, 0.0)
