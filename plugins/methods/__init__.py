"""Methods that come with counterlens, each a YAML file in this folder."""

from pathlib import Path

from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.core.problem.method import Method


@hookimpl
def counterlens_methods():
    return [Method.from_yaml(path) for path in sorted(Path(__file__).parent.glob("*.yaml"))]
