"""A run that is killed and resumed takes the same steps as one that is not."""

import pytest
import torch
from torch import nn

from counterlens.core.errors import UsageError
from counterlens.core.training.fit import Fit, learning_rate
from counterlens.plugins.embedded.content import data, nets
from counterlens.plugins.embedded.make import nets as train_nets
from counterlens.plugins.embedded.make.train import PARTS, train

torch.set_num_threads(1)


class Killed(Exception):
    pass


def small() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))


def loss_of(model):
    x = torch.randn(16, 4)
    return (model(x).float() - x.sum(1, keepdim=True)).square().mean()


def test_resuming_after_a_kill_equals_an_uninterrupted_run(tmp_path, monkeypatch):
    whole = Fit(small(), tmp_path / "a", 20, 1e-2)
    whole.run(loss_of, "whole")
    monkeypatch.setattr("counterlens.core.training.fit.EVERY_S", 0.0)
    calls = 0

    def dies(model):
        nonlocal calls
        calls += 1
        if calls == 8:
            raise Killed
        return loss_of(model)

    with pytest.raises(Killed):
        Fit(small(), tmp_path / "b", 20, 1e-2).run(dies, "killed")
    again = Fit(small(), tmp_path / "b", 20, 1e-2)
    again.run(loss_of, "again")
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not list(tmp_path.rglob("*.tmp-*"))


def test_a_stop_by_hand_loses_no_step(tmp_path):
    def stopped(model):
        if fit.step == 5:
            raise KeyboardInterrupt
        return loss_of(model)

    fit = Fit(small(), tmp_path, 20, 1e-2)
    with pytest.raises(KeyboardInterrupt):
        fit.run(stopped, "stopped")
    again = Fit(small(), tmp_path, 20, 1e-2)
    assert again.resume() and again.step == 5


def test_learning_rate_rises_and_falls():
    rates = [learning_rate(k, 1000, 1.0) for k in range(1000)]
    assert rates[0] < rates[50] < rates[99] and rates[100] > rates[500] > rates[999] == pytest.approx(0.02)


def test_train_writes_a_net_that_loads(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "load", lambda domain, split: (torch.rand(64, 3, 32, 32), torch.arange(64) % 10, None))
    train("digits", "classifier", tmp_path, steps=2)
    net, meta = nets.load_net(tmp_path / "nets" / "classifier.safetensors")
    assert meta["labels"] == list(data.classes("digits")) and meta["size"] == 32
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert (tmp_path / "nets" / "classifier.json").exists()


def test_every_small_net_has_a_recipe():
    for (domain, part), recipe in train_nets.RECIPES.items():
        assert part in PARTS[domain] and recipe.architecture in nets.ARCHITECTURES
    with pytest.raises(UsageError, match="did you mean 'shapes'"):
        train("shape", "ddpm", None)
    with pytest.raises(UsageError, match="stable-diffusion"):
        train("shapes", "sd", None)
