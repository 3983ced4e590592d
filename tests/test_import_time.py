"""What answers at once imports no torch. Nothing is timed here: what is not imported takes no time."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "diffusers", "matplotlib", "sklearn", "scipy", "captum", "timm", "spacy")
SCRIPT = """
import sys
{body}
print("LOADED", *[name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
"""
RUN = """
from counterlens.cli.main import entry
try:
    entry({args!r})
except SystemExit as end:
    assert end.code == 0, end.code
"""


def loaded(body):
    script = SCRIPT.format(body=body, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stderr.split("LOADED")[-1].split()


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["--version"],
        ["explain", "--help"],
        ["plugins", "list"],
        ["pieces", "list"],
        ["pieces", "show", "l2"],
        ["methods", "show", "guided", "--json"],
        ["runs", "list"],
    ],
    ids=" ".join,
)
def test_commands_that_import_nothing_heavy(args):
    assert loaded(RUN.format(args=args)) == []


def test_help_imports_no_rich_and_no_pydantic():
    body = RUN.format(args=["--help"]) + "\nassert 'rich' not in sys.modules and 'numpy' not in sys.modules"
    assert loaded(body) == []


def test_the_pieces_import_no_numpy():
    body = "from counterlens.core.plugin.registry import load_registry; load_registry(third_party=False)"
    assert loaded(f"{body}; assert 'numpy' not in sys.modules") == []


@pytest.mark.parametrize(
    "body",
    [
        "import counterlens; counterlens.__version__",
        "from counterlens.core.plugin.registry import load_registry; load_registry(third_party=False)",
        "from counterlens import Editor, Guidance, Method, Regularizer, hookimpl",
    ],
)
def test_imports_that_bring_nothing_heavy(body):
    assert loaded(body) == []
