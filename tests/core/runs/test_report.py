"""The report: one file that opens offline and hides nothing."""

import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from counterlens.core.engine.session import sections_of
from counterlens.core.plugin.hookspecs import hookimpl
from counterlens.core.plugin.registry import load_registry
from counterlens.core.runs import report

MANIFEST = {
    "method": {"name": "guided", "summary": "Guidance.", "steps": 50, "tau": 0.9},
    "plan": [{"kind": "search", "name": "sweep", "options": {"strengths": (1, 2)}, "needs": ["pull"], "gives": []}],
    "model": "M",
    "family": "ddpm",
    "classifier": "C",
    "judge": None,
    "seeds": {"user": 0},
    "device": "cpu",
    "dtype": "float32",
    "versions": {"counterlens": "0.1.0"},
    "platform": "Linux",
}


def a_record(digest="a1", **changes):
    return {
        "digest": digest,
        "image": "<b>x</b>.png",
        "source": "cat",
        "target": "dog",
        "method": "guided",
        "flipped": True,
        "p_target_before": 0.1,
        "p_target_after": 0.9,
        "probabilities_before": {"cat": 0.8, "dog": 0.1, **{f"c{i}": 0.01 for i in range(10)}},
        "probabilities_after": {"cat": 0.05, "dog": 0.9, **{f"c{i}": 0.005 for i in range(10)}},
        "judge_flipped": None,
        "judge_before": None,
        "judge_after": None,
        "l1": 0.1,
        "tried": [{"strength": 1.0, "p_target": 0.9}],
        "strength": 1.0,
        "changed_area": 0.2,
        "unet_evaluations": 10,
        "seconds": 0.5,
        "notes": ["cropped to the middle 8 x 8 of 10 x 8"],
        "failure": None,
        "label": None,
        **changes,
    }


def failed(digest="f1"):
    keys = ("digest", "image", "source", "target", "method", "probabilities_before", "label", "unet_evaluations")
    kept = {key: value for key, value in a_record(digest).items() if key in keys}
    return {**kept, "flipped": False, "l1": None, "seconds": 0.0, "notes": [], "failure": "already decided as <dog>"}


def write(tmp_path, *records, size=8, sections=()):
    for record in records:
        if not record["failure"]:
            place = tmp_path / "items" / record["digest"]
            place.mkdir(parents=True)
            for name, grey in (("source", 10), ("counterfactual", 60)):
                Image.fromarray(np.full((size, size, 3), grey, np.uint8)).save(place / f"{name}.png")
    return report.write_report(tmp_path, MANIFEST, records, sections).read_text(encoding="utf-8")


class Checker(HTMLParser):
    VOID = {"meta", "img", "br", "link", "input"}

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for key, value in attrs if key in ("src", "href")]
        if tag == "img":
            assert dict(attrs)["alt"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(page):
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return checker


def test_the_page_is_whole_and_fetches_nothing(tmp_path):
    checker = checked(write(tmp_path, a_record(), failed()))
    assert checker.sources and all(source.startswith("data:image/png;base64,") for source in checker.sources)
    assert "script" not in checker.tags and "link" not in checker.tags


def test_names_are_escaped(tmp_path):
    page = write(tmp_path, a_record(), failed())
    assert "<b>x</b>" not in page and "&lt;b&gt;x&lt;/b&gt;.png" in page
    assert "already decided as &lt;dog&gt;" in page


def test_failures_and_notes_are_visible(tmp_path):
    page = write(tmp_path, a_record(), failed())
    assert "1 failed" in page and "1 of 2 images flipped" in page
    assert "cropped to the middle" in page
    assert "What was tried (1)" in page


def test_small_pictures_are_enlarged_pixels_and_large_ones_reduced(tmp_path):
    assert 'class="pixels"' in write(tmp_path / "a", a_record())
    assert 'class="pixels"' not in write(tmp_path / "b", a_record(), size=200)
    assert report.picture(Image.new("RGB", (2000, 1000)), "x")["size"] == "2000×1000"


def test_the_difference_says_its_scale():
    before, after = (Image.fromarray(np.full((4, 4, 3), grey, np.uint8)) for grey in (10, 61))
    image, note = report.difference(before, after)
    assert note == "signed, grey is no change; full scale ±0.20"
    assert np.asarray(image).max() == 255
    same, note = report.difference(before, before)
    assert note == "no pixel differs" and set(np.asarray(same).ravel()) == {128}


def test_bars_start_with_source_and_target_and_end():
    bars = report.bars(a_record(), "probabilities")
    assert [bar["name"] for bar in bars[:2]] == ["cat", "dog"]
    assert len(bars) == report.CLASSES
    assert report.bars(a_record(), "judge") == []


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "flipped"),
        ({"judge_flipped": True}, "flipped"),
        ({"judge_flipped": False}, "doubted"),
        ({"flipped": False}, "stayed"),
        ({"failure": "x", "flipped": False}, "failed"),
    ],
)
def test_verdicts(changes, kind):
    assert report.verdict(a_record(**changes))[0] == kind


def test_a_run_with_nothing_and_one_with_missing_files(tmp_path):
    assert "No image was finished" in write(tmp_path)
    page = report.write_report(tmp_path, MANIFEST, [a_record("gone")]).read_text(encoding="utf-8")
    assert "&lt;b&gt;x" in page
    checked(page)


def test_the_records_are_written_too(tmp_path):
    write(tmp_path, a_record(l1=float("nan")))
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["records"][0]["l1"] is None
    assert found["manifest"]["method"]["name"] == "guided"
    assert not list(tmp_path.glob("*.tmp-*"))


def test_plugins_add_sections(tmp_path):
    class Good:
        @hookimpl
        def counterlens_report_sections(self, report):
            return [("Neurons", f"<p id='n'>{len(report['records'])}</p>")]

    class Bad:
        @hookimpl
        def counterlens_report_sections(self, report):
            raise RuntimeError("<boom>")

    registry = load_registry(third_party=False, extra={"good": Good(), "bad": Bad()})
    sections = sections_of(registry, MANIFEST, [a_record()])
    page = write(tmp_path, a_record(), sections=sections)
    assert "<h2>Neurons</h2><p id='n'>1</p>" in page
    assert "RuntimeError: &lt;boom&gt;" in page


def test_methods_side_by_side(tmp_path):
    place = tmp_path / "counterfactual.png"
    Image.new("RGB", (8, 8)).save(place)
    cells = [a_record(counterfactual=str(place)), {"method": "other", "failure": "needs <x>", "flipped": False}]
    pixels = np.zeros((8, 8, 3), np.uint8)
    row = {"image": "shapes:0", "source": "a", "target": "b", "pixels": pixels, "cells": cells}
    table = [{"method": "guided", "flip": "1 of 1", "L1": 0.123456}]
    block = {"name": "shapes", "methods": ["guided", "other"], "rows": [row], "table": table}
    page = report.write_comparison(tmp_path / "sub" / "report.html", "Side <by> side", [block]).read_text()
    checker = checked(page)
    assert len([source for source in checker.sources if source.startswith("data:")]) == 2
    assert "needs &lt;x&gt;" in page and "Side &lt;by&gt; side" in page and "0.123" in page
    assert re.search("not run", page)


def test_no_space_is_one_line(tmp_path, monkeypatch):
    from counterlens.core.errors import MissingError

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report, "write_atomic", full)
    with pytest.raises(MissingError, match="no space left"):
        report.write_report(tmp_path, MANIFEST, [])


def test_numbers():
    assert [report.number(value) for value in (None, 0.123456, 3, "x")] == ["–", "0.123", "3", "x"]
    assert [report.share(value) for value in (None, 0.5, 2.0)] == ["0.0000", "0.5000", "1.0000"]
    assert report.totals([])["asked"] == 0
    assert SimpleNamespace(**report.totals([a_record(judge_flipped=True), failed()])).confirmed == 1
