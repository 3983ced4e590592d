"""One way to listen to modules."""

from pathlib import Path

import pytest
import torch
from torch import nn

from counterlens.core.diffusion.module_hooks import Listener, captured, fold

ROOT = Path(__file__).parent.parent.parent.parent
# a change of what a module answers is no listening
CHANGES = {
    "core/diffusion/module_hooks.py",
    "core/conditioning/learned_words.py",
    "plugins/metrics/extractors/inception.py",
}


def test_calls_come_in_their_order_as_answers_or_inputs():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(5, 3)
    with captured([net[2], net[0], net[2]]) as calls:
        out = net(x)
    assert [module for module, _ in calls] == [net[0], net[2]]
    assert torch.equal(calls[0][1], net[0](x)) and torch.equal(calls[1][1], out)
    with captured([net[2]], input=True) as calls:
        net(x)
    assert torch.equal(calls[0][1], net[1](net[0](x)))


def test_an_input_given_by_name_is_heard_too():
    layer = nn.Linear(3, 4)
    x = torch.randn(5, 3)
    with captured([layer], input=True) as calls:
        layer(input=x)
    assert calls[0][1] is x


def test_nothing_stays_behind_also_after_an_error():
    layer = nn.Linear(3, 4)
    with pytest.raises(RuntimeError), captured([layer]):
        layer(torch.randn(5, 7))
    with captured([layer]) as calls:
        pass
    layer(torch.randn(5, 3))
    assert not calls and not layer._forward_hooks


def test_a_listener_changes_nothing():
    heard = []
    listener = Listener(lambda h, step: heard.append((h, step)), ("mid.after",))
    h = torch.randn(2, 3)
    assert fold([listener], "on_activation", h, "step") is h and heard == [(h, "step")]


def test_nobody_else_hangs_hooks_into_networks():
    files = [path for room in ("core", "plugins", "cli", "benchmarks") for path in (ROOT / room).rglob("*.py")]
    found = {str(p.relative_to(ROOT)) for p in files if "register_forward" in p.read_text(encoding="utf-8")}
    assert found <= CHANGES
