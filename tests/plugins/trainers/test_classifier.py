"""Selector and judge, trained apart, calibrated, and refused when they are no better than chance."""

import json

import pytest
import torch

from counterlens.core.data.dataset import Example
from counterlens.core.data.splits import split
from counterlens.core.errors import RunFailed, UsageError
from counterlens.core.plugin.registry import load_registry
from counterlens.core.testing.tiny import tiny
from counterlens.plugins.trainers.fitting.classifier import auc, balance, calibration_error, divide, temperature

REGISTRY = load_registry(third_party=False)
QUICK = "classifier arch=small-cnn:4 size=16 epochs=4 lr=0.01 jitter=0.1"


def test_selector_and_judge_open_as_ensembles(run, folder, tmp_path):
    record, _ = run(QUICK, f"{folder}?group=[a-z]+\\d+")
    assert record["selector"]["accuracy"] > 0.9 and record["judge"]["accuracy"] > 0.9
    selector, judge = (REGISTRY.open_classifier(f"ensemble:{tmp_path}/out/{role}") for role in ("selector", "judge"))
    assert selector.labels == judge.labels == ("dark", "light") and selector.digest != judge.digest
    image = torch.full((1, 3, 16, 16), 0.2)
    assert selector.probabilities(image).argmax() == 0
    written = json.loads((tmp_path / "out" / "classifier.json").read_text())
    assert written["parts"] == record["parts"] and sum(record["parts"].values()) == 40


def test_a_probe_stands_on_the_pipelines_encoder(run, folder, tmp_path):
    model = tiny("kandinsky22", tmp_path / "model")
    record, _ = run("classifier arch=probe", folder, model=model)
    assert record["members"][0]["arch"] == "probe"
    opened = REGISTRY.open_classifier(f"ensemble:{tmp_path}/out/judge")
    pixels = torch.from_numpy(REGISTRY.open_dataset(str(folder)).examples[0].read().copy()).permute(2, 0, 1)[None]
    assert opened.probabilities(pixels.float() / 255).shape == (1, 2)


def test_the_same_seed_trains_the_same(run, folder):
    one, two = (run(QUICK, folder, out=name, seed=3)[0] for name in ("a", "b"))
    assert one["members"] == two["members"] and one["judge"] == two["judge"]


def test_chance_is_refused_and_nothing_is_written(run, pictures, tmp_path):
    data = pictures(tmp_path / "same-kind", alike=True)
    with pytest.raises(RunFailed, match="no better than chance"):
        run(QUICK, data)
    assert not list(tmp_path.glob("out*"))
    record, _ = run(QUICK + " force=true", data)
    assert record["selector"]["accuracy"] < 0.9 and (tmp_path / "out").is_dir()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda root: [p.unlink() for p in sorted((root / "dark").iterdir())[1:]], "'dark' has one image"),
        (lambda root: [p.unlink() for p in sorted((root / "dark").iterdir())[3:]], "'dark' has 3 images in 3 groups"),
        (
            lambda root: [p.write_bytes(q.read_bytes()) for p, q in zip(
                sorted((root / "dark").iterdir()), sorted((root / "light").iterdir()), strict=True)],
            "every image of 'dark' is also in another class",
        ),
    ],
)  # fmt: skip
def test_classes_that_cannot_be_trained_on(run, folder, tmp_path, change, words):
    change(folder)
    with pytest.raises(UsageError, match=words):
        run(QUICK, folder)
    assert not list(tmp_path.glob("out*"))


def test_corrupt_images_are_counted_or_stop(run, folder):
    (folder / "dark" / "dark0-0.png").write_bytes(b"\x89PNG broken")
    record, notes = run(QUICK, folder)
    assert record["classes"]["dark"] == 19 and "dark0-0.png" in notes[0] and "1 of 40" in notes[1]
    with pytest.raises(UsageError, match=r"dark0-0\.png"):
        run(QUICK, folder, out="other", strict=True)


def test_what_is_there_is_not_overwritten(run, folder, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="there already"):
        run(QUICK, folder)


def example(k, label, group):
    return Example(f"{label}/{k}", label, group, lambda: None)


def test_a_group_is_in_one_part_only():
    examples = [example(k, "ab"[k % 2], f"p{k // 6}") for k in range(600)]
    parts = split(examples, {"train": 0.7, "test": 0.3}, seed=1)
    groups = [{examples[k].group for k in rows} for rows in parts.values()]
    assert not groups[0] & groups[1] and sum(map(len, parts.values())) == 600
    assert 0.65 < len(parts["train"]) / 600 < 0.75
    assert (
        split(examples, {"train": 0.7, "test": 0.3}, seed=1)
        == parts
        != split(examples, {"train": 0.7, "test": 0.3}, seed=2)
    )


def test_balance_and_temperature_by_hand():
    assert balance(torch.tensor([0, 0, 0, 1]), 2).tolist() == pytest.approx([4 / 6, 2.0])
    g = torch.Generator().manual_seed(0)
    true_logits = torch.randn(4000, 3, generator=g) * 2
    labels = torch.multinomial(true_logits.softmax(1), 1, generator=g)[:, 0]
    assert temperature(3 * true_logits, labels) == pytest.approx(3, rel=0.15)
    sure = torch.tensor([[0.9, 0.1]] * 10)
    assert calibration_error(sure, torch.tensor([0] * 9 + [1])) == pytest.approx(0, abs=1e-6)
    assert calibration_error(sure, torch.tensor([0] * 5 + [1] * 5)) == pytest.approx(0.4, abs=1e-6)


def test_a_temperature_goes_into_the_weights():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    x = torch.randn(5, 4)
    before = net(x).detach()
    divide(net, 2.5)
    torch.testing.assert_close(net(x), before / 2.5)


def test_the_judge_is_of_another_architecture_and_the_test_part_is_the_datas_own(run, folder):
    record, _ = run("classifier arch=small-cnn judge_arch=pool-cnn:4 size=16 epochs=6 lr=0.01 attack=0.02 jitter=0.1",
                    f"{folder}?group=[a-z]+\\d+&split=train")  # fmt: skip
    assert [(m["role"], m["arch"]) for m in record["members"]] == [("selector", "small-cnn"), ("judge", "pool-cnn:4")]
    test = REGISTRY.open_dataset(f"{folder}?group=[a-z]+\\d+&split=test")
    assert record["parts"]["test"] == record["judge"]["images"] == len(test) > 0
    assert record["selector"]["auc"] > 0.9


def test_area_under_the_curve_by_hand():
    p = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]])
    assert auc(p, torch.tensor([0, 0, 1, 1])) == 0.75
    assert auc(p, torch.tensor([0, 0, 0, 0])) is None


def test_labels_that_a_probe_cannot_learn_are_said_first(run, pictures, tmp_path):
    data = pictures(tmp_path / "same-kind", alike=True)
    with pytest.raises(UsageError, match="a quick probe cannot tell the classes apart"):
        run(QUICK, data, strict=True)
    assert "are the labels right?" in run(QUICK + " force=true", data)[1][0]
