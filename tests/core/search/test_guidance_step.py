"""Guidance along a walk."""

from counterlens.plugins.guidance.target import Target
from counterlens.plugins.searches.per_step import PerStep


def test_guidance_moves_toward_the_target_and_more_strength_moves_more(problem):
    p = problem(batch=4, guidance=(Target(),))
    before = p.target_of(p.score(p.scene.x0))
    weak, firm = (PerStep(strength=s).run(p).x0 for s in (0.05, 0.5))
    assert (p.target_of(p.score(weak)) > before).all()
    assert (p.target_of(p.score(firm)) > p.target_of(p.score(weak))).all()
    assert p.scene.net.meter.gradient[0] == 16


def test_guidance_through_the_network_differs_and_moves_too(problem):
    p = problem(batch=2, guidance=(Target(),))
    before = p.target_of(p.score(p.scene.x0))
    at, through = (PerStep(strength=0.2, through=how).run(p).x0 for how in ("estimate", "network"))
    assert (p.target_of(p.score(through)) > before).all() and (at - through).abs().max() > 1e-4
    assert not through.requires_grad
