"""LPIPS against torchmetrics, on random backbones that both share; and what is said when weights are not there."""

import math

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from counterlens.core.errors import UsageError
from counterlens.core.metrics.context import Context
from counterlens.core.metrics.evaluate import unavailable
from counterlens.core.testing.pairs import pair
from counterlens.plugins.metrics.network import lpips


def random(seed, size=64):
    return torch.rand(3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """{net: path} of random weights in torchvision's layout, features only."""
    folder, paths = tmp_path_factory.mktemp("backbones"), {}
    for net, (name, _, _, _) in lpips.BACKBONES.items():
        torch.manual_seed(0)
        model = getattr(torchvision.models, name)(weights=None).features.state_dict()
        paths[net] = folder / f"{net}.safetensors"
        save_file({f"features.{key}": value for key, value in model.items()}, paths[net])
    return paths


def reference(net, path, x, y):
    """torchmetrics' own network with the same backbone and the heads it ships."""
    from safetensors.torch import load_file
    from torchmetrics.functional.image.lpips import _LPIPS

    model = _LPIPS(pretrained=True, net=net, pnet_rand=True).eval()
    tensors = {key.removeprefix("features."): value for key, value in load_file(path).items()}
    # it cuts the backbone into slices: ``slice1.0.weight`` or ``slices.1.0.weight`` is the layer ``0.weight``
    keys = {key: key.removeprefix("slices.").partition(".")[2] for key in model.net.state_dict()}
    model.net.load_state_dict({theirs: tensors[mine] for theirs, mine in keys.items()})
    with torch.no_grad():
        return model(2 * x - 1, 2 * y - 1).flatten()


@pytest.mark.parametrize("net", lpips.BACKBONES)
def test_lpips_is_that_of_torchmetrics(measure, backbones, net):
    pairs = [pair(random(k), random(k + 9), digest=str(k)) for k in range(2)]
    found = measure("lpips", pairs, net=net, weights=str(backbones[net]))
    x, y = (torch.stack([getattr(one, name) for one in pairs]) for name in ("source", "counterfactual"))
    assert found == pytest.approx(reference(net, backbones[net], x, y).tolist(), rel=1e-4)
    assert all(value > 0 for value in found)


def test_equal_pictures_and_small_ones(measure, backbones):
    pairs = [pair(random(1), random(1)), pair(random(1, 30), random(2, 30))]
    same, small = measure("lpips", pairs, weights=str(backbones["alex"]))
    assert same == 0 and math.isnan(small)


def test_columns_say_the_backbone(registry):
    context = Context(registry)
    assert lpips.Lpips().names(context) == ("lpips",)
    assert lpips.Lpips(net="vgg").names(context) == ("lpips_vgg",)


def test_missing_weights_are_named_before_anything_runs(registry, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    context = Context(registry)
    why = unavailable([lpips.Lpips()], context)["lpips"]
    assert "alexnet-owt-7be5be79.pth does not exist" in why and "weights=PATH" in why
    why = unavailable([lpips.Lpips(weights="nowhere.safetensors")], context)["lpips"]
    assert why.startswith("nowhere.safetensors does not exist")


def test_a_path_by_name_serves_all_metrics(registry, backbones):
    context = Context(registry, weights={"lpips-alex": str(backbones["alex"])})
    assert unavailable([lpips.Lpips()], context) == {}


def test_torchs_cache_is_used_and_checked(registry, measure, backbones, monkeypatch, tmp_path):
    import hashlib

    from safetensors.torch import load_file

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(load_file(backbones["alex"]), folder / "alexnet.pth")
    digest = hashlib.sha256((folder / "alexnet.pth").read_bytes()).hexdigest()[:8]
    name, _, layers, least = lpips.BACKBONES["alex"]
    monkeypatch.setitem(lpips.BACKBONES, "alex", (name, f"alexnet-{digest}.pth", layers, least))
    (folder / "alexnet.pth").rename(folder / f"alexnet-{digest}.pth")
    pairs = [pair(random(0), random(1))]
    by_path = measure("lpips", pairs, Context(registry), weights=str(backbones["alex"]))
    assert measure("lpips", pairs, Context(registry)) == by_path
    with (folder / f"alexnet-{digest}.pth").open("ab") as file:
        file.write(b"x")
    with pytest.raises(UsageError, match="is damaged"):
        measure("lpips", pairs, Context(registry))


def test_weights_of_another_backbone_are_refused(measure, backbones):
    with pytest.raises(UsageError, match="is it another architecture"):
        measure("lpips", [pair(random(0), random(1))], net="vgg", weights=str(backbones["alex"]))


def test_diversity_by_lpips(measure, backbones, registry):
    context = Context(registry, several=True, weights={"lpips-vgg": str(backbones["vgg"])})
    one = pair(random(0, 32), random(1, 32), others=(random(2, 32),))
    apart = measure("lpips", [pair(random(1, 32), random(2, 32))], context, net="vgg")
    assert measure("diversity", [one], context, distance="lpips-vgg") == pytest.approx(apart, rel=1e-5)
