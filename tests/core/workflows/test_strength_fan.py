"""Fans and releases on a tiny network."""

import torch

from counterlens.core.plugin.registry import load_registry
from counterlens.core.problem.masker import Sources
from counterlens.core.workflows.strength_fan import fan, released
from counterlens.plugins.editors.change_map import ChangeMap
from counterlens.plugins.inverters.noise import Noise

REGISTRY = load_registry(third_party=False)


def test_a_place_is_released_when_the_weights_say_so(problem):
    from counterlens.core.diffusion.step import Step

    made = problem(2, steps=7)
    grid = made.scene.grid
    for clock in ("noise", "timestep", "step"):
        lock = (
            ChangeMap(clock=clock).lock(made.scene, torch.linspace(0, 1, 64).view(1, 1, 8, 8).expand(2, 1, 8, 8)).lock
        )
        steps = released(lock, grid)
        for i in range(7):
            is_locked = lock.weight(Step(i, 7, grid[i], grid[i + 1], lock.x0, {})) >= 1
            assert torch.equal(is_locked, steps > i + 1)
        assert steps[0, 0, 0, 0] == 8 and steps[0, 0, 7, 7] == 1


def test_a_fan_is_the_single_runs(problem):
    """Each row, and each strip while it is alone, is what one run at that strength gives."""
    editor = REGISTRY.make("editor", "change-map source='strips strengths=1'")
    search = REGISTRY.make("search", "once")
    made = problem(1, steps=5, inverter=Noise(), editors=(editor,), search=search)
    found = fan(made, (0.0, 0.4, 1.0))
    assert found.pictures.shape == (4, 3, 8, 8) and len(found.rows) == 3
    for k, strength in enumerate((0.0, 0.4, 1.0)):
        one = made.with_(scene=editor.lock(made.scene, torch.full((1, 1, 8, 8), strength)))
        alone = one.scene.picture(search.run(one).x0)[0] / 2 + 0.5
        torch.testing.assert_close(found.pictures[k], alone.clamp(0, 1), atol=1 / 255, rtol=0)
    assert torch.equal(found.pictures[0], ((found.source * 255).round() / 255))
    assert found.maps[3, 0, 0].tolist() == [0.0] * 3 + [torch.tensor(0.4).item()] * 3 + [1.0] * 2
    assert torch.equal(found.pictures[3][:, :, :3], found.pictures[0][:, :, :3])
    assert found.rows[0]["l1"] == 0 == found.rows[0]["l1_strip"] and found.rows[2]["l1"] > 0


def test_only_a_region_is_varied(problem):
    editor = REGISTRY.make("editor", "change-map source='strips strengths=0.5'")
    made = problem(1, steps=4, editors=(editor,), search=REGISTRY.make("search", "once"))
    vary = Sources.read("strips strengths=0,1", REGISTRY.make)
    found = fan(made, (0.0, 0.2), vary)
    assert found.maps[0, 0, 0].tolist() == [0.5] * 4 + [0.0] * 4
    assert torch.allclose(found.maps[1, 0, 0], torch.tensor([0.5] * 4 + [0.2] * 4))
