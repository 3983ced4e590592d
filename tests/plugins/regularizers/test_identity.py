"""The identity loss: nothing for the source itself, more for another picture, with a gradient that leads back."""

from dataclasses import replace

import pytest
import torch

from counterlens.core.errors import UsageError
from counterlens.core.problem.view import View
from counterlens.plugins.regularizers.identity import Identity


def test_it_is_one_minus_the_cosine_of_the_features(problem_of):
    from counterlens.core.classifiers.features import penultimate

    p = problem_of(3, 10, steps=2, model="domain:shapes/ddpm")
    piece = Identity(features="domain:shapes-judge")
    assert piece(View(p.scene.x0, p.scene), None).abs().max() < 1e-5
    other = p.scene.x0.flip(0).clone().requires_grad_()
    loss = piece(View(other, p.scene), None)
    assert (loss > 0.01).all()
    (g,) = torch.autograd.grad(loss.sum(), other)
    assert (piece(View(other.detach() - 20 * g, p.scene), None) < loss).all()
    judge = p.scene.resources.memo["identity", "domain:shapes-judge"].extract
    own, source = judge(other.detach() / 2 + 0.5), judge(p.scene.image / 2 + 0.5)
    assert torch.allclose(loss.detach(), 1 - torch.cosine_similarity(own, source), atol=1e-5)
    assert penultimate(p.scene.resources.classifier)(p.scene.image / 2 + 0.5).shape[0] == 2


def test_another_scheme_is_refused(problem_of):
    p = problem_of(3, steps=2, model="domain:shapes/ddpm")
    with pytest.raises(UsageError, match="nosuch"):
        Identity(features="nosuch:x")(View(p.scene.x0, replace(p.scene)), None)
