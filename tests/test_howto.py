"""The code of the how-to pages runs as it is printed."""

import re
import types
from pathlib import Path

from counterlens.core import registry as registries
from counterlens.core.methods import compose
from counterlens.core.plan import plan

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "write-a-plugin.md"


def written(page: Path) -> types.ModuleType:
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    module = types.ModuleType("smooth")
    exec(compile(code, str(page), "exec"), module.__dict__)
    return module


def test_the_plugin_of_the_page_is_found_and_plans():
    registry = registries.load(third_party=False, extra={"smooth": written(PAGE)})
    (mine,) = [p for p in registry.plugins if p.name == "smooth"]
    assert not mine.error and len(mine.hooks) == 3
    composition = compose(registry, registry.method("smooth-guided"))
    rows = plan(composition, registry, "ddpm", {"labels", "gradient", "unconditional"})
    assert [row.name for row in rows if row.kind in ("editor", "regularizer")] == ["fade", "smooth"]
