"""timm and torchvision: metadata of the published weights, own weights, offline."""

import pytest
import timm as timm_package
import torch
from safetensors.torch import save_file
from torchvision.models import get_model

from counterlens.core.errors import MissingError, UsageError
from counterlens.core.utils.uri import parse_uri
from counterlens.plugins.classifiers import open_classifier, timm, torchvision


@pytest.fixture(autouse=True)
def no_cache(monkeypatch, tmp_path):
    """Whatever lies in the caches of this machine is not seen; the network is not asked."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def test_own_timm_weights(tmp_path):
    torch.manual_seed(0)
    module = timm_package.create_model("test_resnet", num_classes=2).eval()
    save_file(module.state_dict(), tmp_path / "w.safetensors")
    classifier = open_classifier(f"timm:test_resnet?weights={tmp_path}/w.safetensors&labels=cat,dog")
    assert classifier.contract.mean == pytest.approx(module.pretrained_cfg["mean"])
    x = torch.rand(1, 3, *classifier.contract.size, requires_grad=True)
    mean, std = (torch.tensor(module.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    torch.testing.assert_close(classifier.logits(x), module((x - mean) / std))
    classifier.logits(x)[0, 1].backward()
    assert x.grad.abs().sum() > 0


def test_own_torchvision_weights_whose_metadata_has_the_labels(tmp_path):
    module = get_model("squeezenet1_1", weights=None, num_classes=2)
    save_file(module.state_dict(), tmp_path / "w.safetensors", metadata={"labels": '["cat", "dog"]'})
    classifier = open_classifier(f"torchvision:squeezenet1_1?weights={tmp_path}/w.safetensors&size=64")
    assert classifier.labels == ("cat", "dog") and classifier.contract.size == (64, 64)
    assert classifier.contract.mean == (0.485, 0.456, 0.406)


def test_published_labels_are_distinct():
    model = timm_package.create_model("resnet18")
    labels = timm._labels(parse_uri("timm:resnet18"), model)
    assert len(set(labels)) == 1000 and labels[0] == "tench"
    contract = torchvision._contract(
        torchvision._published("resnet18").DEFAULT, ["a", "a"], parse_uri("torchvision:resnet18")
    )
    assert contract.labels == ("a", "a (1)") and contract.size == (224, 224)


def test_published_torchvision_weights_in_the_cache(tmp_path, monkeypatch):
    entry = torchvision._published("squeezenet1_1").DEFAULT
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(get_model("squeezenet1_1", weights=None).state_dict(), folder / entry.url.rpartition("/")[2])
    classifier = open_classifier("torchvision:squeezenet1_1?size=64")
    assert len(classifier.labels) == 1000 and classifier.label_index("tench") == 0


@pytest.mark.parametrize(
    "uri", ["timm:test_resnet", "torchvision:resnet18", "torchvision:resnet50?weights=IMAGENET1K_V2"]
)
def test_offline_without_weights(uri, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingError, match="once with a connection") as caught:
        open_classifier(uri)
    assert caught.value.exit_code == 4 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("timm:resnet188", "unknown timm model 'resnet188'"),
        ("torchvision:resnet188", "unknown torchvision model 'resnet188'"),
        ("timm:test_resnet?wieghts=a", "did you mean 'weights'"),
        ("timm:test_resnet?weights={}", "need their labels"),
        ("timm:test_resnet?weights={}&labels=a,b,c", "number of labels"),
        ("torchvision:resnet18?weights={}&labels=a,b", "another architecture"),
        ("torchvision:resnet18?weights=a.pth&labels=a,b", "is a pickle"),
    ],
)
def test_bad_input(uri, words, tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(timm_package.create_model("test_resnet", num_classes=2).state_dict(), path)
    with pytest.raises(UsageError, match=words) as caught:
        open_classifier(uri.format(path))
    assert len(str(caught.value)) < 1000
