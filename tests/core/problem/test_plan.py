"""A method is walked top to bottom before anything is loaded."""

import pytest

from counterlens.core.errors import PlanError
from counterlens.core.plugin.registry import load_registry
from counterlens.core.problem.method import Method, compose
from counterlens.core.problem.plan import plan

REGISTRY = load_registry(third_party=False)
GIVEN = frozenset({"latents", "text", "null-branch", "labels", "gradient"})


def of(**fields):
    return compose(REGISTRY.make, Method(name="m", summary="s", **fields))


def test_rows_say_what_is_needed_and_given():
    rows = plan(of(guidance=("target",)), REGISTRY, "stable-diffusion", GIVEN)
    assert [row.kind for row in rows] == ["inverter", "combiner", "guidance", "search"]
    assert "trajectory" in rows[0].gives and "gradient" in rows[2].needs


def test_what_lacks_is_named_with_who_would_give_it():
    with pytest.raises(PlanError, match=r"needs 'gradient'.*black box"):
        plan(of(guidance=("target",)), REGISTRY, "stable-diffusion", GIVEN - {"gradient"})
    with pytest.raises(PlanError, match=r"'image-embedding'.*families that do: .*kandinsky22"):
        plan(of(editors=("arithmetic",)), REGISTRY, "ddpm", GIVEN | {"examples"})
