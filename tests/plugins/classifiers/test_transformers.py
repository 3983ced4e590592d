"""hf: and clip: on tiny models saved as transformers saves them."""

import json
import shutil

import pytest
import torch
import transformers as tf

from counterlens.core.errors import MissingError, UsageError
from counterlens.plugins.classifiers import open_classifier

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    config = tf.ViTConfig(image_size=16, patch_size=8, id2label={0: "cat", 1: "dog", 2: "owl"}, **SMALL)
    tf.ViTForImageClassification(config).save_pretrained(folder)
    tf.ViTImageProcessor(size={"height": 16, "width": 16}, image_mean=[0.4] * 3, image_std=[0.2] * 3).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    words = {w: i for i, w in enumerate([*letters, *(f"{x}</w>" for x in letters), "<|startoftext|>", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tf.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=20).save_pretrained(
        folder
    )
    text = SMALL | {"vocab_size": 54, "max_position_embeddings": 20, "bos_token_id": 52, "eos_token_id": 53}
    vision = SMALL | {"image_size": 16, "patch_size": 8}
    config = tf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    tf.CLIPModel(config).save_pretrained(folder)
    tf.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("scheme", ["hf", "file"])
def test_a_saved_model(vit, scheme):
    classifier = open_classifier(f"{scheme}:{vit}")
    assert classifier.labels == ("cat", "dog", "owl")
    assert classifier.contract.size == (16, 16) and classifier.contract.mean == pytest.approx((0.4,) * 3)
    x = torch.rand(2, 3, 16, 16, requires_grad=True)
    model = tf.ViTForImageClassification.from_pretrained(vit)
    torch.testing.assert_close(classifier.logits(x), model((x - 0.4) / 0.2).logits)
    classifier.logits(x)[:, 1].sum().backward()
    assert x.grad.abs().sum() > 0


def test_the_contract_equals_the_processor(vit):
    processor = tf.AutoImageProcessor.from_pretrained(vit)
    pixels = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    expected = processor(images=pixels, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(open_classifier(f"hf:{vit}").contract.prepare(pixels / 255), expected, atol=1e-5, rtol=0)


def test_a_single_logit(tmp_path):
    tf.ViTForImageClassification(tf.ViTConfig(image_size=16, patch_size=8, num_labels=1, **SMALL)).save_pretrained(
        tmp_path
    )
    classifier = open_classifier(f"hf:{tmp_path}?mean=0.5&std=0.5&labels=no,yes")
    assert classifier.probabilities(torch.rand(2, 3, 16, 16)).shape == (2, 2)
    refused(f"hf:{tmp_path}", "no preprocessor_config.json")


def test_zero_shot(clip):
    classifier = open_classifier(f"clip:{clip}?labels=a cat,a dog,owl&template=photo of {{}}")
    assert classifier.labels == ("a cat", "a dog", "owl") and classifier.contract.size == (16, 16)
    x = torch.rand(2, 3, 16, 16, requires_grad=True)
    model, tokenizer = tf.CLIPModel.from_pretrained(clip), tf.AutoTokenizer.from_pretrained(clip)
    tokens = tokenizer(["photo of a cat", "photo of a dog", "photo of owl"], padding=True, return_tensors="pt")
    expected = model(pixel_values=classifier.contract.prepare(x), **tokens).logits_per_image
    torch.testing.assert_close(classifier.logits(x), expected, atol=1e-4, rtol=1e-4)
    classifier.logits(x)[:, 0].sum().backward()
    assert x.grad.abs().sum() > 0
    other = open_classifier(f"clip:{clip}?labels=a cat,a dog,owl")
    assert other.digest != classifier.digest


@pytest.mark.parametrize("scheme", ["hf", "clip"])
def test_damaged_and_missing_parts(vit, clip, scheme, tmp_path):
    labels = "?labels=a,b" if scheme == "clip" else ""
    folder = tmp_path / "m"
    shutil.copytree(vit if scheme == "hf" else clip, folder)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    refused(f"{scheme}:{folder}{labels}", "damaged|cannot be read")
    weights.unlink()
    refused(f"{scheme}:{folder}{labels}", "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    refused(f"{scheme}:{folder}{labels}", r"is a pickle.*model\.safetensors")
    (folder / "config.json").unlink()
    refused(f"{scheme}:{folder}{labels}", "config.json|is a pickle")
    refused(f"{scheme}:{tmp_path}/nothing/here{labels}", "does not exist|give a folder", MissingError)
    refused(f"{scheme}:nobody/nothing-of-that-name{labels}", "once with a connection", MissingError)


def test_weights_without_a_trained_head(vit, tmp_path):
    shutil.copytree(vit, tmp_path / "m")
    tf.ViTModel.from_pretrained(vit).save_pretrained(tmp_path / "body")
    shutil.copy(tmp_path / "body" / "model.safetensors", tmp_path / "m")
    refused(f"hf:{tmp_path / 'm'}", "the weights lack 'classifier.bias'")


def test_clip_needs_labels_and_a_place_for_them(clip):
    refused(f"clip:{clip}", "add \\?labels=a cat,a dog")
    refused(f"clip:{clip}?labels=a,b&template=photo", "where the label goes")


def refused(uri, words, kind=UsageError):
    with pytest.raises(kind, match=words) as caught:
        open_classifier(uri)
    assert "\n" not in str(caught.value)
