"""What a descent moves."""

import torch

from counterlens.core.search.descent import factor
from counterlens.core.search.descent_variables import DescentSettings, Variables


def test_the_start_keeps_each_images_norm_c_batched():
    """The reference keeps one norm of one image; here each has its own."""
    x = torch.stack([torch.ones(4, 2, 2), 3 * torch.ones(4, 2, 2)])
    for row in range(2):
        v = Variables(torch.full((1, 4, 2, 2), 0.5, requires_grad=True), {}, x[row : row + 1])
        v.start.data[0, 0] = 2.0
        v.keep_norm()
        assert abs(float((v.x + v.start).detach().norm()) - float(x[row].norm())) < 1e-4


def test_cosine_falls_to_a_tenth_of_every_rate():
    how = DescentSettings(torch.optim.Adam, schedule="cosine", iterations=10)
    assert factor(0, how) == 1.0 and abs(factor(10, how) - 0.1) < 1e-9 and abs(factor(5, how) - 0.55) < 1e-9
