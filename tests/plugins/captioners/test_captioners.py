"""Captioners on tiny random models that are built here, and what is said when something is missing."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from counterlens.core.errors import MissingError, UsageError
from counterlens.core.plugin.registry import load_registry
from counterlens.core.utils.digest import image_digest

torch.set_num_threads(1)
REGISTRY = load_registry(third_party=False)
WORDS = ["a", "an", "photo", "of", "image", "the", "cat", "dog", "on", "mat", "with", "red", ".", ",", "St.", "Bernard"]


def make(text):
    return REGISTRY.make("captioner", text)


@pytest.fixture(scope="module")
def pictures():
    return list(np.random.default_rng(0).integers(0, 256, (3, 40, 32, 3), dtype=np.uint8))


def test_template_names_any_class(pictures):
    labels = ["kiki", "orange, Citrus_sinensis", "Ram C/V"]
    found = make("template").caption(pictures, labels)
    assert found == [("a photo of a kiki", ""), ("a photo of an orange", ""), ("a photo of a Ram C/V", "")]
    assert make("template text='{a} {label} on grass'").said(pictures[:1], ["{x}"]) == ["a {x} on grass"]
    assert make("template text='a thing'").caption(pictures[:1], ["kiki"])[0][0] == "a kiki, a thing"
    with pytest.raises(UsageError, match=r"placeholder that does not exist.*\{label\}"):
        make("template text='{name}'")
    with pytest.raises(UsageError, match="does not name its class 'kiki'"):
        make("template text='a thing' missing=refuse").caption(pictures[:1], ["kiki"])


def test_captions_of_a_file(pictures, tmp_path):
    path = tmp_path / "captions.jsonl"
    path.write_text(json.dumps({"digest": image_digest(pictures[0]), "caption": "a red kiki"}) + "\n")
    assert make(f"file path={path}").caption(pictures[:1], ["kiki"]) == [("a red kiki", "")]
    with pytest.raises(UsageError, match="no caption for 1 of 2 pictures"):
        make(f"file path={path}").caption(pictures[:2], ["kiki", "kiki"])
    with pytest.raises(UsageError, match="counterlens caption --out"):
        make("file path=nowhere.jsonl").check(())
    path.write_text("{}\n")
    with pytest.raises(UsageError, match="line 1: not a JSON object with digest and caption"):
        make(f"file path={path}").check(())


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    """A tiny random BLIP, in the layout of save_pretrained."""
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
        BlipTextConfig,
        BlipVisionConfig,
    )

    folder = tmp_path_factory.mktemp("blip")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]
    letters = [*"abcdefghijklmnopqrstuvwxyz./", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz./")]
    vocab = [*special, *dict.fromkeys([*(word.lower() for word in WORDS), *letters])]
    (folder / "vocab.txt").write_text("\n".join(vocab))
    tokenizer = BertTokenizer.from_pretrained(folder, bos_token="[DEC]")
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = BlipTextConfig(
        **sizes, vocab_size=len(vocab), encoder_hidden_size=8, bos_token_id=5, sep_token_id=3, pad_token_id=0
    )
    config = BlipConfig(
        text_config=text.to_dict(),
        vision_config=BlipVisionConfig(**sizes, image_size=16, patch_size=8).to_dict(),
        projection_dim=8,
    )
    torch.manual_seed(1)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": 16, "width": 16}), tokenizer).save_pretrained(folder)
    return str(folder)


def test_a_model_of_transformers_in_batches(blip, pictures):
    captioner = make(f"hf-vlm model={blip} beams=2 words=4 start='a photo of {{a}} {{label}}'")
    labels = ["cat", "dog", "cat"]
    together = captioner.caption(pictures, labels)
    for k, (caption, note) in enumerate(together):
        assert caption.startswith(f"a photo of a {labels[k]}") and note == ""
        assert "[" not in caption, "special tokens are gone"
        assert captioner.caption([pictures[k]], [labels[k]])[0] == (caption, note), "neighbours do not matter"


def test_missing_weights_are_one_line(tmp_path):
    with pytest.raises(MissingError, match=r"local cache.*hf download no/such-model"):
        make("hf-vlm model=no/such-model").caption([np.zeros((8, 8, 3), np.uint8)], ["cat"])
    with pytest.raises(UsageError, match="neither a folder that exists nor a hub id"):
        make("hf-vlm model=./nowhere").check(())
    with pytest.raises(UsageError, match=r"has no config\.json"):
        make(f"hf-vlm model={tmp_path}").check(())


def test_what_openflamingo_lacks_comes_with_the_command(monkeypatch, tmp_path):
    from counterlens.plugins.captioners import openflamingo

    monkeypatch.setattr(openflamingo, "lacking", lambda: ["open_flamingo"])
    with pytest.raises(MissingError, match=r"needs open_flamingo: pip install .*--no-deps open_flamingo==2\.0\.1"):
        make("openflamingo checkpoint=nowhere.pt").check(())
    monkeypatch.setattr(openflamingo, "lacking", list)
    with pytest.raises(MissingError, match="does not exist: hf download"):
        make("openflamingo checkpoint=nowhere.pt").check(())


def test_a_demonstration_with_two_captions_is_refused(pictures, tmp_path):
    """C11: the list of demonstrations had one image twice, with two different captions."""
    from counterlens.plugins.captioners.openflamingo import demonstrations

    for k, picture in enumerate(pictures[:2]):
        Image.fromarray(picture).save(tmp_path / f"{k}.png")
    path = tmp_path / "demos.jsonl"

    def write(*pairs):
        path.write_text("".join(json.dumps({"image": f"{k}.png", "caption": text}) + "\n" for k, text in pairs))

    write((0, "a cat"), (1, "a dog"), (0, "a  cat"))
    assert [caption for _, caption in demonstrations(str(path))] == ["a cat", "a dog"]
    write((0, "a cat"), (0, "a dog"))
    with pytest.raises(UsageError, match=r"0\.png is there twice, with two captions"):
        demonstrations(str(path))


def test_doctor_says_what_is_there_and_what_brings_the_rest():
    from counterlens.plugins.captioners.requirements import checks

    rows = {row["name"]: row for row in checks()}
    assert set(rows) == {"openflamingo", "spaCy en_core_web_sm"}
    for row in rows.values():
        assert row["status"] == "ok" or row["fix"], row
