"""Progress and tables."""

import pytest

from counterlens.cli import render


@pytest.fixture
def meter(monkeypatch):
    def make(patience, quiet=False):
        monkeypatch.setattr("counterlens.cli.render.PATIENCE", patience)
        return render.ProgressMeter(quiet)

    return make


def test_short_work_says_nothing(meter, capsys):
    with render.progress(False) as shown:
        shown("guided", 1, 2)
    assert capsys.readouterr().err == ""


def test_long_work_says_where_it_is_now_and_then(meter, capsys):
    shown = meter(0.0)
    shown.timer.join()
    shown("guided", 1, 2)
    shown("guided", 2, 2)
    shown.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(("loading: 0 of 1", "guided: 1 of 2"))


def test_quiet_says_nothing(meter, capsys):
    shown = meter(0.0, quiet=True)
    shown("guided", 1, 2)
    shown.note("accuracy 0.5")
    shown.close()
    assert capsys.readouterr().err == ""


def test_long_lists_are_counted(capsys):
    render.fields({"losses": list(range(100)), "few": [1, 2], "deep": {"x": None}, "rows": [{"a": 1.23456}]}, False)
    out = capsys.readouterr().out
    assert "100 values" in out and "1, 2" in out and "x  –" in out and "a 1.23" in out


def test_markup_in_data_is_shown_as_it_is(capsys):
    render.table([{"name": "[bold]x[/bold]", "n": float("nan"), "on": True}], ("name", "n", "on"))
    out = capsys.readouterr().out
    assert "[bold]x[/bold]" in out and "–" in out and "yes" in out
