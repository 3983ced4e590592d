"""Singular vectors by products against dense matrices."""

import pytest
import torch

from counterlens.core.linalg.krylov import Operator, leading, outside, starting_rows

torch.set_num_threads(1)


def matrix(m=60, d=40, decay=0.85, seed=0):
    g = torch.Generator().manual_seed(seed)
    u = torch.linalg.qr(torch.randn(m, d, generator=g, dtype=torch.float64)).Q
    v = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64)).Q
    return (u * decay ** torch.arange(d, dtype=torch.float64)) @ v.T


def operator(a):
    return Operator(lambda v: v @ a.T, lambda u: u @ a, a.shape[1])


def test_values_and_vectors_are_those_of_a_dense_svd():
    a = matrix()
    _, s, vh = torch.linalg.svd(a, full_matrices=False)
    found = leading(operator(a), 3, tol=1e-6)
    assert found.converged
    assert (found.values / s[:3] - 1).abs().max() < 1e-10
    assert (found.right * vh[:3]).sum(1).abs().min() > 1 - 1e-9


def test_right_vectors_are_orthonormal_and_the_residual_is_the_true_one():
    a = matrix(decay=0.98)
    found = leading(operator(a), 4, tol=1e-2)
    assert (found.right @ found.right.T - torch.eye(4)).abs().max() < 1e-12
    u = found.right @ a.T / found.values[:, None]
    true = (u @ a - found.values[:, None] * found.right).norm(dim=1) / found.values[0]
    assert (true - found.residual).abs().max() < 1e-9
    assert 0 < found.residual.max() <= 1e-2


def test_the_seed_of_the_probes_does_not_change_the_space():
    a = matrix()
    one, other = (leading(operator(a), 3, tol=1e-7, seed=seed).right for seed in (0, 1))
    assert (one.T @ one - other.T @ other).abs().max() < 1e-6


def test_d10_values_that_are_equal_and_ranks_below_k_stay_finite():
    """A second vector started from the first lies in the space that is projected out: 0/0 in the reference."""
    twin = leading(operator(torch.eye(10, dtype=torch.float64)), 3)
    assert torch.allclose(twin.values, torch.ones(3, dtype=torch.float64))
    low = matrix(d=12, decay=0.5)
    u, s, vh = torch.linalg.svd(low, full_matrices=False)
    s[2:] = 0
    found = leading(operator((u * s) @ vh), 4, tol=1e-8)
    assert torch.isfinite(found.right).all()
    assert torch.allclose(found.values, torch.tensor([1.0, 0.5, 0, 0], dtype=torch.float64), atol=1e-7)
    assert (found.right @ found.right.T - torch.eye(4)).abs().max() < 1e-9


def test_a_map_of_zeros_has_zero_values():
    found = leading(operator(torch.zeros(5, 8, dtype=torch.float64)), 2)
    assert found.values.tolist() == [0, 0]
    assert found.converged


def test_a_good_guess_spares_rounds():
    a = matrix(decay=0.97)
    cold = leading(operator(a), 3, tol=1e-4)
    near = a + 1e-3 * torch.randn(a.shape, generator=torch.Generator().manual_seed(2), dtype=a.dtype)
    warm = leading(operator(near), 3, tol=1e-4, start=cold.block)
    again = leading(operator(near), 3, tol=1e-4)
    assert warm.rounds < again.rounds
    assert (warm.right * again.right).sum(1).abs().min() > 0.9999


def test_a_limit_of_rounds_is_kept_and_said():
    a = matrix(decay=0.999)
    found = leading(operator(a), 3, tol=1e-12, limit=4)
    assert found.rounds == 4
    assert not found.converged


def test_counts_are_those_of_the_map():
    a = matrix()
    asked = []
    op = Operator(lambda v: asked.append(len(v)) or v @ a.T, lambda u: asked.append(len(u)) or u @ a, 40)
    found = leading(op, 2, block=3)
    assert (found.products, found.rounds) == (sum(asked), len(asked))


def test_more_vectors_than_numbers_are_refused():
    with pytest.raises(ValueError, match="ask for 1 to 8"):
        leading(operator(torch.zeros(5, 8, dtype=torch.float64)), 9)


def test_rows_outside_drop_what_is_inside():
    rows = starting_rows(20, 5, None, 0)
    assert len(outside(rows[:2] + 1e-14, rows, 1.0)) == 0
    mixed = outside(torch.cat([rows[:2], torch.randn(2, 20, dtype=torch.float64)]), rows, 1.0)
    assert len(mixed) == 2
    assert (mixed @ rows.T).abs().max() < 1e-12
