"""The reference page of metrics names every metric, and none that there is not."""

import re
from pathlib import Path

from counterlens.core.plugin.registry import load_registry

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"


def test_every_metric_is_explained():
    registry = load_registry(third_party=False)
    named = set(re.findall(r"`([a-z0-9_]+)`", PAGE.read_text(encoding="utf-8")))
    for name in registry.entries["metric"]:
        assert name in named or name == "factor_change", f"{name} is not in {PAGE.name}"


def test_no_row_explains_what_there_is_not():
    registry = load_registry(third_party=False)
    known = {*registry.entries["metric"], "precision", "recall", "lpips_vgg", "lpips_squeeze", "cd_predicted"}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        first = re.match(r"\| `[^|]*\|", line)
        for name in re.findall(r"`([a-z0-9_]+)`", first[0] if first else ""):
            assert name in known, f"{name} is no metric"
