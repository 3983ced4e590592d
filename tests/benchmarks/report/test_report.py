"""The report: everything inside, everything shown, small enough; and the user study."""

import json
import re

import pytest

from counterlens.benchmarks.report import report, user_study
from counterlens.benchmarks.report.summary import conclude
from counterlens.core.errors import UsageError


@pytest.fixture
def concluded(begin, work, suite, registry):
    def make(limit=4, rows=("identity", "pgd"), **changes):
        bench = begin(suite(limit=limit, **changes), rows)
        work(bench)
        return bench, conclude(bench, registry)

    return make


def page_of(bench):
    return (bench.run.path / "report.html").read_text()


def test_nothing_is_fetched_and_everything_is_shown(concluded):
    bench, _ = concluded()
    page = page_of(bench)
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert page.count('alt="source shapes:') == 4
    assert page.count('alt="difference"') == 8
    assert bench.protocol.hash in page and "flipped, the judge disagrees" in page


def test_failures_are_visible(concluded, touchy):
    hurts = touchy("if noisy.any(): raise ValueError('<b>this</b> hurts')")
    bench, summary = concluded(2, ("identity", "random"), **hurts)
    page = page_of(bench)
    assert summary["failed"] == 2
    assert page.count("&lt;b&gt;this&lt;/b&gt; hurts") == 4 and "<b>this" not in page
    assert 'id="failures"' in page and 'data-v="failed"' in page


def test_pictures_stay_within_their_budget():
    from PIL import Image

    noise = Image.effect_noise((512, 512), 90).convert("RGB")
    sizes = [len(report.Shrink(*setting)(noise)[0]) for setting in report.SETTINGS]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] * (1 + 1.4 * 12) < report.BUDGET  # noise is the worst that there is
    tiny = Image.effect_noise((32, 32), 90).convert("RGB")
    uri, css = report.Shrink(64, 40)(tiny)
    assert css == ' class="pixels"' and decoded(uri).tobytes() == tiny.tobytes()  # without loss


def decoded(uri):
    import base64
    import io

    from PIL import Image

    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")


def test_tables_say_the_same(concluded):
    import csv

    bench, summary = concluded()
    with (bench.run.path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["method"], r["metric"]) for r in rows] == [(r["method"], r["metric"]) for r in summary["rows"]]
    assert float(rows[0]["value"]) == summary["rows"][0]["value"]
    latex = (bench.run.path / "table.tex").read_text()
    assert latex.count(r"\\") == 3 and r"flip\_rate $\uparrow$" in latex
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(bench.run.path / "items.parquet").to_pylist()
    assert len(table) == 8 and {row["method"] for row in table} == {"identity", "pgd"}


def test_a_study_hides_its_key_and_balances_sides(concluded, tmp_path, monkeypatch):
    bench, _ = concluded(8)
    with pytest.raises(UsageError, match="nothing to ask"):
        user_study.export(bench, tmp_path / "study")  # controls are no explanations
    found = {record["image"]: {"a": record, "b": record} for record in bench.records()["pgd"]}
    monkeypatch.setattr(user_study, "_flipped", lambda bench: found)
    said = user_study.export(bench, tmp_path / "study", questions=12, seed=3)
    key = json.loads((tmp_path / "study" / "key.json").read_text())
    page = (tmp_path / "study" / "study.html").read_text()
    assert said["questions"] == len(key["questions"]) == 12 == page.count('class="question" data-id=')
    assert "digest" not in page and '"method"' not in page and 'answer": "left' not in page
    kinds = {question["kind"] for question in key["questions"]}
    assert kinds == {"choice", "quiz"}
    assert {q["answer"] for q in key["questions"] if q["kind"] == "quiz"} == {"left", "right"}
    user_study.export(bench, tmp_path / "again", questions=12, seed=3)
    assert json.loads((tmp_path / "again" / "key.json").read_text()) == key
