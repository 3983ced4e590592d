"""The code of the how-to pages runs as it is printed."""

import math
import re
import types
from pathlib import Path

from counterlens.core.h_space.job import FindRequest
from counterlens.core.metrics.context import Context
from counterlens.core.metrics.evaluate import evaluate
from counterlens.core.plugin import registry as registries
from counterlens.core.problem.method import compose
from counterlens.core.problem.plan import plan
from counterlens.core.testing.pairs import failed_pair, grey, pair
from counterlens.core.testing.tiny import tiny
from counterlens.core.workflows.find_directions import find_directions

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "write-a-plugin.md"


def written(page: Path, name: str) -> types.ModuleType:
    """The module that the page prints under ``# NAME.py``."""
    (code,) = re.findall(rf"```python\n(# {name}\.py\n.*?)```", page.read_text(), re.S)
    module = types.ModuleType(name)
    exec(compile(code, str(page), "exec"), module.__dict__)
    return module


def test_the_plugin_of_the_page_is_found_and_plans():
    registry = registries.load_registry(third_party=False, extra={"smooth": written(PAGE, "smooth")})
    (mine,) = [p for p in registry.plugins if p.name == "smooth"]
    assert not mine.error and len(mine.hooks) == 3
    composition = compose(registry.make, registry.method("smooth-guided"))
    rows = plan(composition, registry, "ddpm", {"labels", "gradient", "unconditional"})
    assert [row.name for row in rows if row.kind in ("editor", "regularizer")] == ["fade", "smooth"]


def test_the_metric_of_the_page_measures():
    registry = registries.load_registry(third_party=False, extra={"warmth": written(PAGE, "warmth")})
    metric = registry.make("metric", "warmth")
    redder = grey(0.5)
    redder[0] += 0.25
    rows = evaluate([metric], [pair(grey(0.5), redder), failed_pair()], Context(registry))
    assert rows[0]["warmth"] == 0.25
    assert math.isnan(rows[1]["warmth"])


def test_the_finder_of_the_page_finds(tmp_path):
    registry = registries.load_registry(third_party=False, extra={"brighter": written(PAGE, "brighter")})
    quest = FindRequest(model=str(tiny("ddpm", tmp_path / "ddpm")), count=4, steps=2)
    bank = find_directions(registry, registry.make("finder", "brighter"), quest)
    assert bank.names == ("brighter",) and bank.shape[0] == 2 and bank.shifts[0].delta.abs().max() > 0


def test_the_data_of_the_page_is_opened_and_divided():
    registry = registries.load_registry(third_party=False, extra={"stripes": written(PAGE, "stripes")})
    assert registry.is_data("stripes:40") and "stripes" in registry.schemes("data")
    whole, test = registry.open_dataset("stripes:40"), registry.open_dataset("stripes:40?split=test")
    assert whole.counts() == {"down": 20, "across": 20} and whole.examples[1].read().shape == (32, 32, 3)
    names = {example.id for example in test.examples}
    assert 0 < len(names) < 20
    train = registry.open_dataset("stripes:40?split=train")
    assert not names & {example.id for example in train.examples}
