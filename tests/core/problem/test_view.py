"""What guidance and regularizers look at."""

import torch

from counterlens.core.problem.scene import Scene
from counterlens.core.problem.view import View
from counterlens.plugins.guidance.target import Target
from counterlens.plugins.regularizers.distance import L1Penalty, L2Penalty
from counterlens.plugins.regularizers.regions import BACKGROUND, regional


def view(problem, **changes) -> View:
    scene: Scene = problem(batch=2).scene
    x0 = scene.x0.clone()
    x0[0, 0, 0, 0] += 0.5
    from dataclasses import replace

    return View(x0, replace(scene, **changes))


def test_distances_by_hand(problem):
    n = 3 * 8 * 8
    assert torch.allclose(L1Penalty()(view(problem), None), torch.tensor([0.5 / n, 0]), atol=1e-7)
    assert torch.allclose(L2Penalty()(view(problem), None), torch.tensor([0.25 / n, 0]), atol=1e-7)
    assert torch.allclose(L2Penalty(space="latent")(view(problem), None), torch.tensor([0.25 / n, 0]), atol=1e-7)


def test_background_distances_are_means_over_the_background(problem):
    change = torch.ones(2, 1, 8, 8)
    change[:, :, 0] = 0  # only the first row may not change: 8 pixels of 3 channels
    seen = view(problem, change_map=change)
    assert torch.allclose(regional(L1Penalty, BACKGROUND)()(seen, None), torch.tensor([0.5 / 24, 0]), atol=1e-6)
    assert torch.allclose(regional(L2Penalty, BACKGROUND)()(seen, None), torch.tensor([0.25 / 24, 0]), atol=1e-6)
    assert torch.allclose(
        regional(L1Penalty, BACKGROUND)()(view(problem, change_map=1 - change), None), torch.zeros(2), atol=1e-7
    )


def test_target_by_hand(problem):
    seen = view(problem)
    seen.__dict__["logits"] = torch.tensor([[2.0, -1.0], [0.5, 0.0]])
    seen.scene.target.copy_(torch.tensor([1, 0]))
    p = torch.tensor([torch.sigmoid(torch.tensor(-3.0)), torch.sigmoid(torch.tensor(0.5))])
    torch.testing.assert_close(Target()(seen, None), -p.log())
    torch.testing.assert_close(Target(loss="confidence")(seen, None), 1 - p)
    torch.testing.assert_close(Target(loss="margin")(seen, None), torch.tensor([3.0, -0.5]))
    torch.testing.assert_close(Target(loss="margin", floor=0.2)(seen, None), torch.tensor([3.0, -0.2]))
