"""Lists and shows: data on stdout, tables for people, JSON lines for programs."""

import json

import pytest

NOUNS = ("methods", "pieces", "plugins", "models", "domains", "runs")


@pytest.mark.parametrize("noun", NOUNS)
def test_a_noun_lists_by_default(cli, noun):
    short, long = cli(noun), cli(noun, "list")
    assert (short.code, short.out) == (long.code, long.out)
    assert cli(noun, "--json").rows == cli(noun, "list", "--json").rows


@pytest.mark.parametrize("noun", ("methods", "pieces", "plugins", "domains"))
def test_lists_have_names_and_origins(cli, noun):
    rows = cli(noun, "list", "--json").rows
    assert rows
    for row in rows:
        assert row["name"]
        assert row.get("origin", row.get("distribution")) == "counterlens"
        assert row["name"] in cli(noun, "list").out


def test_pieces_show_explains_options(cli):
    (piece,) = cli("pieces", "show", "l2", "--kind", "regularizer", "--json").rows
    weight = next(option for option in piece["options"] if option["name"] == "weight")
    assert weight == {
        "name": "weight",
        "type": "float",
        "default": "1.0",
        "required": False,
        "range": "≥ 0",
        "help": "factor in the sum of energies",
    }
    text = cli("pieces", "show", "l2").out
    assert "pixel|latent" in text and "factor in the sum of energies" in text


def test_metrics_say_how_they_are_read(cli):
    (one,) = cli("pieces", "show", "flip_rate", "--json").rows
    assert (one["direction"], one["bounds"], one["population"]) == ("higher is better", "0 to 1", "all")
    text = cli("pieces", "list", "--kind", "metric").out
    assert "lower is better" in text and "linf" in text


def test_pieces_of_a_kind(cli):
    assert {row["kind"] for row in cli("pieces", "list", "--kind", "search", "--json").rows} == {"search"}
    assert cli("pieces", "list", "--kind", "metric").code == 0


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["pieces", "show", "l22"], "did you mean 'l2'?"),
        (["pieces", "list", "--kind", "editr"], "did you mean 'editor'?"),
        (["methods", "show", "guidde"], "did you mean 'guided'?"),
        (["plugins", "show", "counterlens.plugins.editor"], "did you mean 'counterlens.plugins.editors'?"),
        (["domains", "show", "shape"], "did you mean 'shapes'?"),
        (["domains", "sample", "shapes", "--first", "99999999", "--count", "1"], "99999999"),
        (["domains", "train", "shape"], "did you mean 'shapes'?"),
        (["models", "show", "domain:shapes/nothing"], "unknown pipeline"),
        (["runs", "show", "gone"], "unknown run in runs 'gone'"),
        (["runs", "report", "gone"], "unknown run in runs 'gone'"),
    ],
)
def test_unknown_names_are_usage_errors(cli, args, hint):
    end = cli(*args)
    assert end.code == 2
    assert hint in end.err
    assert len(end.err.strip().splitlines()) == 1


def test_methods_show_says_which_families_serve(cli):
    (method,) = cli("methods", "show", "guided", "--json").rows
    assert method["search"].startswith("newton")
    for answer in method["families"].values():
        assert answer == "yes" or answer.startswith("no: ")


def test_plugins_show_what_they_bring(cli):
    (plugin,) = cli("plugins", "show", "counterlens.plugins.regularizers", "--json").rows
    assert plugin["hooks"] == ["regularizers"]
    assert "regularizer l2" in plugin["distribution_brings"]


def test_models_show_a_folder(cli, tmp_path):
    folder = tmp_path / "m"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "X", "unet": ["diffusers", "UNet2DModel"]}))
    (found,) = cli("models", "show", folder, "--json").rows
    assert found["parts"][0]["part"] == "unet"
    assert "unet" in cli("models", "show", folder).out
    assert cli("models", "show", tmp_path / "gone").code == 4
    assert cli("models", "show", tmp_path).code == 2


def test_domains_sample_saves_pictures(cli, tmp_path):
    from PIL import Image

    end = cli("domains", "sample", "shapes", "--count", "2", "--first", "3", "--out", tmp_path / "s", "--json")
    assert [row["image"] for row in end.rows] == ["shapes:3", "shapes:4"]
    with Image.open(end.rows[0]["path"]) as image:
        assert image.size == (32, 32)
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["shapes-test-3.png", "shapes-test-4.png"]


def test_domains_show_has_the_training_record(cli):
    (found,) = cli("domains", "show", "shapes", "--json").rows
    assert found["labels"] == ["bouba", "kiki"]
    assert found["training"]["classifier"]["seed"] == 0
    assert "classifier" in cli("domains", "show", "shapes").out


def test_doctor_says_what_mends(cli):
    end = cli("doctor", "--json")
    assert end.code == 0
    assert {row["status"] for row in end.rows} <= {"ok", "missing", "broken"}
    assert {"python", "torch", "cpu", "memory", "cache"} <= {row["name"] for row in end.rows}
    assert all(set(row) == {"name", "status", "detail", "fix"} for row in end.rows)


def test_doctor_of_a_broken_machine(cli, monkeypatch):
    monkeypatch.setattr("counterlens.cli.commands.doctor.NEEDED", ("counterlens-has-no-such-package",))
    end = cli("doctor", "--json")
    assert end.code == 4
    broken = next(row for row in end.rows if row["status"] == "broken")
    assert broken["fix"] == "python -m pip install counterlens-has-no-such-package"


def test_the_reference_pages_are_fresh():
    from pathlib import Path

    from counterlens.cli.reference import pages

    folder = Path(__file__).parents[3] / "docs" / "reference"
    for name, text in pages().items():
        assert (folder / name).read_text(encoding="utf-8") == text, f"{name} is stale: run make docs"
