"""counterlens neurons on the embedded classifier: any layer, any unit, both ways."""

import pytest
from PIL import Image

DATA = "domain:shapes?first=40"


def test_top_images_and_where_a_unit_looks(cli, tmp_path):
    done = cli("neurons", "activations", DATA, "--unit", 48, "--unit", 59, "--top", 3, "--json")
    assert done.code == 0
    bouba, kiki = done.rows
    assert (bouba["class"], kiki["class"]) == ("bouba", "kiki") and len(kiki["top"]) == 3
    assert Image.open(tmp_path / kiki["sheet"]).width > 100
    assert (tmp_path / "neurons" / "activations.safetensors").is_file()
    conv = cli("neurons", "activations", DATA, "--layer", "body.3", "--json")
    assert [row["unit"] for row in conv.rows] == list(range(len(conv.rows))) and len(conv.rows) > 8, "channels"


def test_what_is_wrong_is_said(cli):
    layer = cli("neurons", "activations", DATA, "--layer", "boddy")
    assert layer.code == 2 and "did you mean 'body'? known: body, body.0" in layer.err
    unit = cli("neurons", "counterfactual", "shapes:0", "--unit", 999)
    assert unit.code == 2 and "has units 0 to 63, not 999" in unit.err
    assert cli("neurons", "compare", DATA, "--unit", 1).code == 2
    nothing = cli("neurons", "visualise", "--unit", 1, "--domain", "shapes")
    assert nothing.code == 2 and "--prompt" in nothing.err
    assert cli("neurons", "visualise", "--unit", 1, "--prompt", "a kiki").code == 2
    black = cli("neurons", "activations", "nowhere")
    assert black.code == 2 and "no such folder" in black.err


def test_a_unit_is_named_by_pictures_of_words(cli):
    how = ("--images", 2, "--steps", 8, "--top", 4)
    done = cli("neurons", "name", DATA, "--unit", 59, "--words", "Kiki, bouba,", *how, "--json")
    assert done.code == 0
    rows = {row["word"]: row for row in done.rows}
    assert set(rows) == {"kiki", "bouba", "(no words)"}
    assert rows["kiki"]["rank"] == 1 and rows["kiki"]["activation"] > rows["bouba"]["activation"]
    captions = cli("neurons", "name", DATA, "--unit", 59, "--most", 2, *how, "--json")
    assert "kiki" in {row["word"] for row in captions.rows}
    none = cli("neurons", "name", DATA, "--unit", 59, "--least", 99, *how)
    assert none.code == 2 and "no word is in 99 captions" in none.err


def test_a_unit_without_words_is_an_error_of_its_own(cli):
    """C13: a unit whose answers had no word was left out, and missed later as a KeyError."""
    done = cli("neurons", "name", DATA, "--unit", 59, "--captioner", "template text='a photo of'", "--words", " , ")
    assert done.code == 2 and "no word" in done.err


def test_more_and_less_of_a_unit(cli, tmp_path):
    how = ("--iterations", 2, "--steps", 4)
    done = cli("neurons", "counterfactual", "shapes:2", "--unit", 59, *how, "--json")
    assert done.code == 0, done.err
    less, more = done.rows
    assert (less["sign"], more["sign"]) == ("minus", "plus")
    assert less["before"] == more["before"] and less["after"] < more["after"]
    assert Image.open(tmp_path / "neurons" / "unit-59-minus-plus.png").width > 100


def test_visualised_from_words(cli, tmp_path):
    made = ("--steps", 4, "--domain", "shapes", "--prompt", "a round bouba", "--layer", "hidden", "--unit", 59)
    free = cli("neurons", "visualise", *made, "--count", 2, "--iterations", 4, "--keep", "none", "--json")
    assert free.code == 0 and len(free.rows) == 2, free.err
    assert sum(row["after"] - row["before"] for row in free.rows) > 0
    assert (tmp_path / "neurons" / "unit-59-plus.png").is_file()
    kept = cli("neurons", "visualise", *made, "--count", 1, "--iterations", 1, "--json")
    assert kept.code == 0 and kept.rows[0]["image"] == free.rows[0]["image"], "the same noise, the same picture"


def test_units_side_by_side(cli, tmp_path):
    done = cli("neurons", "compare", DATA, "--unit", 59, "--unit", 48, "--top", 3, "--json")
    own, other, *together = done.rows
    assert own["unit 59"] > other["unit 59"] and other["unit 48"] > own["unit 48"]
    assert together[0]["unit 59"] == pytest.approx(1) and together[0]["unit 48"] < 0
    assert (tmp_path / "neurons" / "compare.png").is_file()
