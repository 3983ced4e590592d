"""A method is data: pieces are made of its text, and changes put in their place."""

import pytest

from counterlens.core.errors import UsageError
from counterlens.core.problem.method import Method, compose

METHOD = Method(name="m", summary="s", editors=("blur size=1", "shift"), guidance=("target",))


def made(**changes):
    return compose(lambda kind, text: f"{kind}:{text}", METHOD, **changes)


def test_pieces_come_top_to_bottom():
    kinds = [piece.partition(":")[0] for piece in made().pieces()]
    assert kinds == ["inverter", "combiner", "editor", "editor", "guidance", "search"]


def test_a_piece_that_is_there_is_replaced_in_its_place_and_another_comes_after():
    assert made(editors=("shift by=2", "clamp")).editors == ("editor:blur size=1", "editor:shift by=2", "editor:clamp")
    assert made(inverter="ddim", steps=None).inverter == "inverter:ddim"
    assert made(steps=7).method.steps == 7


def test_what_is_wrong_is_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"method 'm': steps: .* \(given 0\)"):
        made(steps=0)
    with pytest.raises(UsageError, match=r"none.yaml: No such file"):
        Method.read(tmp_path / "none.yaml")
    (tmp_path / "m.yaml").write_text("name: m\nsummary: s\ncolour: red\n")
    with pytest.raises(UsageError, match="colour: Extra inputs"):
        Method.read(tmp_path / "m.yaml")
    (tmp_path / "m.yaml").write_text("name: [")
    with pytest.raises(UsageError, match="method file"):
        Method.read(tmp_path / "m.yaml")


def test_a_file_is_read_as_it_was_written(tmp_path):
    import yaml

    (tmp_path / "m.yaml").write_text(yaml.safe_dump(METHOD.model_dump(mode="json")))
    assert Method.read(tmp_path / "m.yaml") == METHOD
