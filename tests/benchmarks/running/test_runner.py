"""Work that is interrupted, shared, killed: nothing is lost, nothing is done twice, and everybody gets the same."""

import os
import shutil
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from counterlens.benchmarks.report.summary import conclude
from counterlens.benchmarks.running import runner
from counterlens.benchmarks.running.claims import Claims
from counterlens.benchmarks.running.launch import LaunchRank
from counterlens.core.errors import MissingError

SMOOTH = "pass"


def hashes(records):
    return {record["digest"]: record["hash"] for rows in records.values() for record in rows}


def test_records_do_not_depend_on_workers_order_or_what_was_done_before(begin, work, suite):
    rows = ("identity", "random", "pgd", "nearest-real", "real")
    alone = hashes(work(begin(suite(), rows, "one")))
    together = hashes(work(begin(suite(), rows, "two"), workers=2))
    bench = begin(suite(), rows, "three")
    work(bench)
    for digest in list(alone)[::3]:
        shutil.rmtree(bench.run.path / "items" / digest)
    assert hashes(work(bench)) == alone == together
    assert len(alone) == 5 * 6


def test_methods_share_inversions_and_are_charged_all_the_same(begin, work, suite, tmp_path, monkeypatch):
    how = {"model": "domain:shapes/ddpm", "steps": 4, "controls": ()}
    small = suite(limit=2)
    rows = ("reconstruct", "guided")
    monkeypatch.setenv("COUNTERLENS_CACHE", str(tmp_path / "cold"))
    first = work(begin(small, rows, "one", **how))
    again = work(begin(small, rows, "two", **how))
    monkeypatch.setenv("COUNTERLENS_CACHE", str(tmp_path / "other"))
    reverse = work(begin(small, tuple(reversed(rows)), "three", **how))
    assert hashes(first) == hashes(again) == hashes(reverse)
    for row in rows:
        for a, b in zip(first[row], again[row], strict=True):
            assert a["unet_evaluations"] == b["unet_evaluations"] > 0
            assert b["unet_evaluations_reused"] > a["unet_evaluations_reused"]
    # reconstruct inverts from pure noise and walks as many steps: half of its cost is the inversion
    assert [r["unet_evaluations_reused"] / r["unet_evaluations"] for r in again["reconstruct"]] == [0.5, 0.5]


def test_several_draws_of_an_image_say_how_diverse_a_method_is(begin, work, suite, registry):
    """Further draws are rows of their own seed while they run; tables show the method once, with its diversity."""
    how = {"model": "domain:shapes/ddpm", "steps": 3}
    bench = begin(suite(limit=2, draws=3, resamples=100), ("guided", "identity"), **how)
    records = work(bench)
    assert list(records) == ["guided", "guided#2", "guided#3", "identity"]
    summary = conclude(bench, registry)
    cells = {(row["method"], row["metric"]): row for row in summary["rows"]}
    assert {method for method, _ in cells} == {"guided", "identity"} and summary["empty"] == []

    def picture(row, k):
        folder = bench.run.path / "items" / records[row][k]["digest"]
        with Image.open(folder / "counterfactual.png") as image:
            return np.asarray(image, dtype=float) / 255

    apart = [
        abs(picture(a, k) - picture(b, k)).mean()
        for k in range(2)
        for a, b in combinations(["guided", "guided#2", "guided#3"], 2)
    ]
    assert cells["guided", "diversity"]["value"] == pytest.approx(np.mean(apart), rel=1e-5)
    assert np.mean(apart) > 0, "other seeds are other noises"
    assert cells["identity", "diversity"]["n"] == 0, "a control is drawn once"
    assert (bench.run.path / "report.html").read_text().count("guided#2") == 0


def test_an_item_that_raises_is_a_record_with_the_reason(begin, work, suite, touchy):
    hurts = touchy("if noisy.any() and int(x.sum() * 255) % 2: raise ValueError('this picture hurts')")
    records = work(begin(suite(limit=8, **hurts), ("identity", "random")))
    reasons = [record["failure"] for record in records["random"]]
    assert set(reasons) == {None, "ValueError: this picture hurts"}
    assert all(record["failure"] is None for record in records["identity"])


def test_failed_items_are_kept_until_they_are_retried(begin, work, suite, touchy):
    hurts = touchy("if noisy.any() and not (HERE / 'healed').exists(): raise RuntimeError('it hurts')")
    bench = begin(suite(limit=2, **hurts), ("random",))
    assert [r["failure"] for r in work(bench)["random"]] == ["it hurts"] * 2
    (bench.run.path.parents[1] / "healed").touch()
    assert [r["failure"] for r in work(bench)["random"]] == ["it hurts"] * 2
    assert runner.retry(bench) == 2
    assert [r["failure"] for r in work(bench)["random"]] == [None] * 2


def test_workers_that_are_killed_are_replaced(begin, work, suite, touchy):
    """The first worker to see a noisy picture kills itself, and so does the next: the third gets on with it."""
    dies = touchy(
        """
        if noisy.any():
            deaths = [name for name in ("one", "two") if not (HERE / name).exists()]
            if deaths:
                (HERE / deaths[0]).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    bench = begin(suite(limit=4, **dies), ("identity", "random"))
    records = work(bench, workers=2)
    assert all(record["failure"] is None for rows in records.values() for record in rows)
    assert sum(event["event"] == "died" for event in bench.run.events()) == 2
    assert hashes(records) == hashes(work(begin(suite(limit=4, **dies), ("identity", "random"), "calm")))


def test_an_item_that_kills_every_worker_is_a_failure(begin, work, suite, touchy):
    dies = touchy("if noisy.any() and int(x.sum() * 255) % 3 == 0: os.kill(os.getpid(), signal.SIGKILL)")
    bench = begin(suite(limit=2, batch=1, **dies), ("random",))
    reasons = {record["failure"] for record in work(bench, workers=2)["random"]}
    assert reasons <= {None, "the worker died (signal 9), 3 times in a row"}


def test_a_full_disk_ends_the_run_and_what_is_finished_stays(begin, work, suite, monkeypatch):
    bench = begin(suite(limit=6), ("identity",))
    written = []
    real = os.write

    def full(fd, data):
        written.append(1)
        if len(written) > 12:
            raise OSError(28, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(MissingError, match="no space left"):
        work(bench)
    monkeypatch.setattr(os, "write", real)
    kept = [record for record in bench.records()["identity"] if record]
    assert 0 < len(kept) < 6
    records = work(bench)["identity"]
    assert all(records) and {record["digest"] for record in kept} <= {record["digest"] for record in records}


def test_two_drivers_share_a_run(begin, suite, registry):
    """The second finds a unit claimed by the first, leaves it, and the first comes back to nothing that is done."""
    from counterlens.benchmarks.running import local

    bench = begin(suite(limit=4), ("identity",))
    held = bench.run.path / "claims"
    crew = local.crew(bench.run.manifest, bench.run, ["cpu"], 1, registry)
    with Claims(held) as other:
        from counterlens.benchmarks.running.units import units

        first = units(bench.entries, 4, 2)[0]
        assert other.take(first.name)
        assert not runner.Runner(bench, crew, LaunchRank(1, 2)).work()  # rank 1 does not wait
        assert [record is None for record in bench.records()["identity"]] == [True, True, False, False]
    assert runner.Runner(bench, crew, LaunchRank(0, 2)).work()
    assert all(bench.records()["identity"])


def test_a_claim_of_a_dead_process_is_taken_over(tmp_path):
    import json
    import subprocess
    import sys

    from counterlens.core.utils.files import HOST

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with Claims(tmp_path) as mine:
        (tmp_path / "unit").write_text(json.dumps({"host": HOST, "pid": dead.pid}))
        assert mine.take("unit")
        (tmp_path / "torn").write_text("{")
        assert mine.take("torn")
        (tmp_path / "far").write_text(json.dumps({"host": "elsewhere", "pid": 1}))
        assert not mine.take("far")
        os.utime(tmp_path / "far", (0, 0))
        assert mine.take("far")
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_batch_that_does_not_fit_is_halved_and_the_record_says_so(begin, work, suite, monkeypatch):
    import torch

    from counterlens.core.diffusion.network import Network

    how = {"model": "domain:shapes/ddpm", "steps": 4, "controls": ()}
    whole = work(begin(suite(limit=4, batch=4), ("reconstruct",), "whole", **how))["reconstruct"]
    answer, sizes = Network._answer, []

    def small(self, step, editors, combine):
        sizes.append(len(step.x))
        if len(step.x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answer(self, step, editors, combine)

    monkeypatch.setattr(Network, "_answer", small)
    monkeypatch.setenv("COUNTERLENS_CACHE", str(begin(suite(), ("identity",), "other").run.path / "cache"))
    halved = work(begin(suite(limit=4, batch=4), ("reconstruct",), "halved", **how))["reconstruct"]
    assert max(sizes) == 4 and [record["failure"] for record in halved] == [None] * 4
    assert {record["rows"] for record in whole} == {4} and {record["rows"] for record in halved} == {2}
    for a, b in zip(whole, halved, strict=True):
        assert a["p_target_after"] == pytest.approx(b["p_target_after"], abs=1e-3)

    monkeypatch.setattr(
        Network, "_answer", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory"))
    )
    never = work(begin(suite(limit=2, batch=2), ("reconstruct",), "never", **how))["reconstruct"]
    assert [record["failure"] for record in never] == ["CUDA out of memory"] * 2
