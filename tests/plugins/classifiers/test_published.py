"""Classifiers in the shapes in which people save and publish them; every file is a real one, made by its library."""

import json
import sys

import numpy as np
import pytest
import timm
import torch
import transformers as tf
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from counterlens.core.errors import MissingError, UsageError
from counterlens.core.utils.uri import parse_uri
from counterlens.plugins.classifiers import open_classifier
from counterlens.plugins.classifiers.loaders.processors import contract_of

ABOUT = {"arch": "timm:resnet10t", "labels": "a,b", "size": "64"}


def pictures(n=2, size=64):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return timm.create_model("resnet10t", num_classes=2).eval()


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "model._orig_mod.", "net.encoder."])
def test_names_of_a_wrapper_are_taken_off_and_said(resnet, tmp_path, prefix):
    weights = {prefix + name: value.clone() for name, value in resnet.state_dict().items()}
    save_file({**weights, "loss.weight": torch.ones(2)}, tmp_path / "net.safetensors", metadata=ABOUT)
    found = open_classifier(f"file:{tmp_path}/net.safetensors")
    torch.testing.assert_close(found.logits(pictures()), resnet(pictures()))
    assert any(prefix in note for note in found.notes)


def test_weights_and_their_average_are_two_networks(resnet, tmp_path):
    own, average = resnet.state_dict(), {k: v * 0 + 1 for k, v in resnet.state_dict().items()}
    both = {**{f"model.{k}": v.clone() for k, v in own.items()}, **{f"ema.{k}": v for k, v in average.items()}}
    save_file(both, tmp_path / "net.safetensors", metadata=ABOUT)
    with pytest.raises(UsageError, match=r"2 times, under 'ema\.' and 'model\.'.*prefix="):
        open_classifier(f"file:{tmp_path}/net.safetensors")
    found = open_classifier(f"file:{tmp_path}/net.safetensors?prefix=model")
    torch.testing.assert_close(found.logits(pictures()), resnet(pictures()))
    with pytest.raises(UsageError, match=r"no whole network under 'teacher\.'"):
        open_classifier(f"file:{tmp_path}/net.safetensors?prefix=teacher")


@pytest.mark.parametrize("way", ["file", "timm", "python"])
def test_a_grey_network_gets_grey_pictures(tmp_path, way, monkeypatch):
    torch.manual_seed(0)
    grey = timm.create_model("resnet10t", num_classes=2, in_chans=1).eval()
    save_file(grey.state_dict(), tmp_path / "net.safetensors", metadata={**ABOUT, "mean": "0.5", "std": "0.25"})
    (tmp_path / "mine.py").write_text(
        "import timm\nfrom safetensors.torch import load_file\ndef make():\n"
        "    net = timm.create_model('resnet10t', num_classes=2, in_chans=1)\n"
        "    net.load_state_dict(load_file('net.safetensors'))\n    return net\n"
        "make.labels, make.size, make.mean, make.std = 'ab', 64, 0.5, (0.25,)\n"
    )
    monkeypatch.chdir(tmp_path)
    uri = {
        "file": "file:net.safetensors",
        "timm": "timm:resnet10t?weights=net.safetensors&labels=a,b&size=64&mean=0.5&std=0.25",
        "python": "python:mine.py:make",
    }
    found = open_classifier(uri[way])
    assert found.contract.channels == 1
    flat = pictures()[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(found.logits(flat), grey((flat[:, :1] - 0.5) / 0.25), atol=1e-4, rtol=1e-4)


CODE = """
import torch
from collections import namedtuple
from dataclasses import dataclass
from torch import nn
Two = namedtuple("Two", "features logits")
@dataclass
class Out:
    logits: torch.Tensor
    features: torch.Tensor
class Base(nn.Module):
    labels = ("a", "b")
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.h = nn.Linear(3, 2)
    def forward(self, x):
        f = x.mean((2, 3))
        return self.answer(self.h(f), f)
class Tuple(Base):
    def answer(self, z, f): return z, f
class Dict(Base):
    def answer(self, z, f): return {"features": f, "logits": z}
class Data(Base):
    def answer(self, z, f): return Out(z, f)
class Named(Base):
    def answer(self, z, f): return Two(f, z)
class Deep(Base):
    def answer(self, z, f): return {"features": f, "all": [z, f]}
class Square(Base):
    def answer(self, z, f): return z[:, :, None, None]
class Unsure(Base):
    def answer(self, z, f): return z, z.exp()
class Neither(Base):
    def answer(self, z, f): return f, f
class Probabilities(Base):
    def answer(self, z, f): return z.softmax(1)
class LogProbabilities(Base):
    def answer(self, z, f): return z.log_softmax(1)
class Chance(Base):
    "Logits of which some rows sum to 1."
    def answer(self, z, f): return torch.stack([f[:, 0], 1 - f[:, 0] + (f[:, 1] - 0.5)], 1)
class One(Base):
    def answer(self, z, f): return (z[:, 1] - z[:, 0]).sigmoid()[:, None]
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    torch.manual_seed(0)
    return nn.Linear(3, 2)


@pytest.mark.parametrize("kind", ["Tuple", "Dict", "Data", "Named", "Deep", "Square"])
def test_the_scores_are_found_in_an_answer_with_parts(mine, kind):
    found = open_classifier(f"python:mine.py:{kind}")
    torch.testing.assert_close(found.logits(pictures()), mine(pictures().mean((2, 3))))
    torch.testing.assert_close(found.logits(pictures(1)), mine(pictures(1).mean((2, 3))))


def test_an_answer_whose_scores_are_uncertain_is_refused_with_its_parts(mine):
    with pytest.raises(UsageError, match=r"2 parts \(0 \[4, 2\], 1 \[4, 2\]\), several could be .*output=NAME"):
        open_classifier("python:mine.py:Unsure")
    found = open_classifier("python:mine.py:Unsure?output=0")
    torch.testing.assert_close(found.logits(pictures()), mine(pictures().mean((2, 3))))
    with pytest.raises(UsageError, match="none has 2 columns"):
        open_classifier("python:mine.py:Neither")
    with pytest.raises(UsageError, match="unknown output"):
        open_classifier("python:mine.py:Tuple?output=scores")


@pytest.mark.parametrize("kind", ["Probabilities", "LogProbabilities", "One"])
def test_probabilities_are_noticed(mine, kind):
    outputs = "?outputs=probabilities" if kind == "One" else ""
    found = open_classifier(f"python:mine.py:{kind}{outputs}")
    torch.testing.assert_close(found.probabilities(pictures()), mine(pictures().mean((2, 3))).softmax(1))
    assert kind == "One" or any("probabilities" in note for note in found.notes)


def test_a_sum_of_one_by_chance_makes_no_probabilities(mine):
    assert open_classifier("python:mine.py:Chance").outputs == "logits"


def test_one_answer_between_0_and_1_is_asked_about(mine):
    assert any("outputs=probabilities" in note for note in open_classifier("python:mine.py:One").notes)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    names = ["effusion", "mass", "nodule", "edema"]
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = tf.ViTConfig(image_size=16, patch_size=8, id2label=dict(enumerate(names)), label2id={}, **small)
    config.problem_type = "multi_label_classification"
    net = tf.ViTForImageClassification(config)
    with torch.no_grad():
        net.classifier.bias.copy_(torch.tensor([3.0, 3, -3, -3]))
    net.save_pretrained(folder)
    tf.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder, net.eval()


def test_independent_labels_are_no_softmax(many):
    folder, net = many
    with pytest.raises(UsageError, match=r"independent labels .*label=effusion"):
        open_classifier(f"hf:{folder}")
    found = open_classifier(f"hf:{folder}?label=nodule")
    assert found.labels == ("not nodule", "nodule")
    x = pictures(2, 16)
    own = net((x - 0.5) / 0.5).logits.sigmoid()
    torch.testing.assert_close(found.probabilities(x)[:, 1], own[:, 2])
    assert found.digest != open_classifier(f"hf:{folder}?label=mass").digest
    assert open_classifier(f"hf:{folder}?outputs=logits").probabilities(x).sum(1) == pytest.approx(1)
    with pytest.raises(UsageError, match="unknown label"):
        open_classifier(f"hf:{folder}?label=nodul")


def test_a_label_of_classes_that_exclude_each_other_cannot_be_picked(resnet, tmp_path):
    save_file(resnet.state_dict(), tmp_path / "net.safetensors", metadata=ABOUT)
    with pytest.raises(UsageError, match="outputs=sigmoid"):
        open_classifier(f"file:{tmp_path}/net.safetensors?label=a")


def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8, 2)).eval()


@pytest.mark.parametrize("how", ["scripted", "traced"])
def test_a_torchscript_program_gives_gradients(tmp_path, how):
    net = network()
    program = torch.jit.script(net) if how == "scripted" else torch.jit.trace(net, torch.rand(1, 3, 32, 32))
    program.save(str(tmp_path / "net.pt"))
    found = open_classifier(f"torchscript:{tmp_path}/net.pt?labels=a,b&size=32")
    x = pictures(3, 32).requires_grad_()
    torch.testing.assert_close(found.logits(x), net(x))
    found.logits(x)[:, 0].sum().backward()
    assert x.grad.abs().sum() > 0
    with pytest.raises(UsageError, match=r"a program \(torchscript\).*torchscript:.*labels="):
        open_classifier(f"file:{tmp_path}/net.pt")


@pytest.mark.parametrize("batch", [1, 4])
def test_an_exported_program_keeps_its_batch(tmp_path, batch):
    net = network()
    torch.export.save(torch.export.export(net, (torch.rand(batch, 3, 32, 32),)), str(tmp_path / "net.pt2"))
    found = open_classifier(f"export:{tmp_path}/net.pt2?labels=a,b")
    assert found.contract.size == (32, 32)
    x = pictures(3, 40).requires_grad_()
    torch.testing.assert_close(found.logits(x), net(found.contract.prepare(x)))
    found.logits(x)[:, 0].sum().backward()
    assert x.grad.abs().sum() > 0


def test_an_onnx_program_can_only_be_asked(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])
    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)
    model = helper.make_model(
        helper.make_graph([node], "g", [image], [answer]), opset_imports=[helper.make_opsetid("", 13)]
    )
    model.ir_version = 8
    onnx.save(model, tmp_path / "net.onnx")
    found = open_classifier(f"onnx:{tmp_path}/net.onnx?labels=a,b,c")
    x = pictures(3, 8)
    torch.testing.assert_close(found.logits(x), x.mean((2, 3)))
    assert not found.differentiable and found.contract.size == (8, 8)


def test_programs_that_are_none(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"no program")
    for scheme, name in (("torchscript", "a.pt"), ("export", "a.pt")):
        with pytest.raises(UsageError, match="cannot be read as"):
            open_classifier(f"{scheme}:{tmp_path}/{name}?labels=a,b")
    with pytest.raises(UsageError, match=r"add \?labels="):
        open_classifier(f"torchscript:{tmp_path}/a.pt")
    with pytest.raises(MissingError, match="no such file"):
        open_classifier(f"torchscript:{tmp_path}/none.pt?labels=a,b")


def test_a_whole_network_in_a_pickle_is_named(resnet, tmp_path):
    torch.save(resnet, tmp_path / "entire.pth")
    with pytest.raises(UsageError, match=r"whole network, saved with its class \(timm\.models\.resnet\.ResNet\)"):
        open_classifier(f"file:{tmp_path}/entire.pth")


USUAL = {
    "plain.pth": lambda w: w,
    "lightning.ckpt": lambda w: {"state_dict": w, "epoch": 3},
    "net.pth": lambda w: {"net": w, "acc": 91.2},
    "model.pt": lambda w: {"model": w, "optimizer": {"lr": 0.1}, "args": None},
    "scalar.pt": lambda w: {"model_state_dict": w, "loss": np.float64(0.3), "n": np.int64(3)},
    "parallel.pth": lambda w: {"module." + k: v for k, v in w.items()},
}


@pytest.mark.parametrize("name", USUAL)
def test_the_command_of_the_refusal_converts_what_training_programs_save(resnet, tmp_path, name, monkeypatch):
    torch.save(USUAL[name](resnet.state_dict()), tmp_path / name)
    with pytest.raises(UsageError) as refusal:
        open_classifier(f"file:{tmp_path}/{name}")
    monkeypatch.chdir(tmp_path)
    exec(str(refusal.value).partition('python -c "')[2].rpartition('"')[0], {})
    made = f"file:{name.partition('.')[0]}.safetensors?arch=timm:resnet10t&labels=a,b&size=64"
    torch.testing.assert_close(open_classifier(made).logits(pictures()), resnet(pictures()))


SIDE = {"height": 64, "width": 64}
PROCESSORS = {
    "plain": lambda: tf.ViTImageProcessor(size=SIDE),
    "nearest": lambda: tf.ViTImageProcessor(size=SIDE, resample=0),
    "bgr": lambda: tf.MobileViTImageProcessor(size={"shortest_edge": 64}, crop_size=SIDE),
    "std twice": lambda: tf.EfficientNetImageProcessor(size=SIDE, crop_size=SIDE),
    "offset": lambda: tf.EfficientNetImageProcessor(
        size=SIDE, crop_size=SIDE, rescale_factor=1 / 127.5, rescale_offset=True, include_top=False
    ),
    "nothing": lambda: tf.ViTImageProcessor(size=SIDE, do_rescale=False, do_normalize=False),
    "255 twice": lambda: tf.ViTImageProcessor(size=SIDE, rescale_factor=1 / 255**2),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_the_contract_is_what_the_processor_does(name):
    processor = PROCESSORS[name]()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    contract = contract_of(parse_uri("hf:x"), ("a", "b"), processor)
    found = contract.prepare(torch.from_numpy(noise).permute(2, 0, 1)[None].float() / 255)
    expected = processor(Image.fromarray(noise), return_tensors="pt").pixel_values.float()
    torch.testing.assert_close(found, expected, atol=1e-3 * float(expected.std()) + 1e-6, rtol=2e-3)


def test_a_folder_that_timm_saved_for_the_hub(resnet, tmp_path):
    config = {
        "architecture": "resnet10t",
        "num_classes": 2,
        "pretrained_cfg": {
            "mean": [0.5, 0.4, 0.3],
            "std": [0.2, 0.2, 0.2],
            "input_size": [3, 64, 64],
            "interpolation": "bicubic",
        },
        "label_names": ["cat", "dog, small"],
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(resnet.state_dict(), tmp_path / "model.safetensors")
    found = open_classifier(f"timm:{tmp_path}")
    assert found.labels == ("cat", "dog, small") and found.contract.size == (64, 64)
    assert found.contract.mean == (0.5, 0.4, 0.3)
    x = pictures()
    torch.testing.assert_close(found.logits(x), resnet(found.contract.prepare(x)))


@pytest.mark.parametrize("name", ["timm/resnet18.a1_in1k", "hf-hub:timm/resnet18.a1_in1k", "hf_hub:timm/resnet18"])
def test_names_of_the_hub_are_known(name, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingError, match="resnet18"):
        open_classifier(f"timm:{name}")


def test_a_size_that_was_not_given_is_found_for_the_user(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\ndef make():\n"
        "    return nn.Sequential(nn.Conv2d(3, 6, 5), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 12 * 12, 2))\n"
        "make.labels = ('a', 'b')\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"size was not given, and it works with 28x28: add \?size=28"):
        open_classifier("python:mine.py:make")
    assert open_classifier("python:mine.py:make?size=28").labels == ("a", "b")
