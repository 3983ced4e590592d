"""Run folders: kept items, killed writers, full disks, two processes at once."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from PIL import Image

from counterlens.core.errors import MissingError, RunFailed, UsageError
from counterlens.core.runs.folder import Run, list_runs
from counterlens.core.utils import files

DIGEST = "0123456789abcdef" * 4


def picture(seed=0, side=16):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def start(root, again="missing", digest=DIGEST):
    return Run.create(root, "guided", digest, {"seeds": [1]}, again)


def item(run, name="a1", seed=0):
    return run.write_item(name, {"flipped": True, "l1": 0.5}, {"counterfactual": picture(seed), "mask": picture(9)})


def python(code, *args):
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), *map(str, args)], stdout=subprocess.PIPE)


def leftovers(root):
    return [p for p in root.rglob("*") if ".tmp-" in p.name]


def test_a_run_from_beginning_to_end(tmp_path):
    run = start(tmp_path)
    assert run.name.endswith(f"-guided-{DIGEST[:8]}") and run.status == "running" and not run.reused
    item(run)
    run.log({"event": "item", "p": float("nan")})
    run.write("report.json", {"rows": [np.float32(0.5), float("inf")]})
    run.write("report.html", "<p>done</p>")
    run.finish("done", peak_bytes=7)
    again = Run.open(run.path)
    assert again.status == "done" and again.manifest["peak_bytes"] == 7 and again.manifest["digest"] == DIGEST
    assert again.items() == ["a1"] and again.finished("a1")["l1"] == 0.5
    assert again.events()[0]["p"] is None
    assert json.loads((run.path / "report.json").read_text()) == {"rows": [0.5, None]}
    assert not leftovers(tmp_path)


def test_again(tmp_path):
    first = start(tmp_path)
    item(first)
    first.finish("done")
    kept = start(tmp_path, "missing")
    assert (
        kept.path == first.path and kept.finished("a1") and kept.status == "running" and kept.manifest["resumed"] == 1
    )
    kept.finish("interrupted")
    looked = start(tmp_path, "never")
    assert looked.path == first.path and looked.reused and looked.status == "interrupted"
    fresh = start(tmp_path, "always")
    assert fresh.path != first.path and not fresh.finished("a1")
    assert start(tmp_path, "missing").path == fresh.path  # the latest
    assert start(tmp_path, "never", "f" * 64).reused is False
    assert [r.path for r in list_runs(tmp_path)][-2:] == [fresh.path, first.path]
    with pytest.raises(UsageError, match="did you mean 'always'"):
        start(tmp_path, "alway")


def test_an_item_counts_only_if_everything_is_as_it_was_written(tmp_path):
    run = start(tmp_path)
    folder = run.path / "items" / "a1"
    assert run.finished("a1") is None
    for spoil in (
        lambda: (folder / "mask.png").unlink(),
        lambda: (folder / "counterfactual.png").write_bytes(b"other"),
        lambda: (folder / "item.json").write_text('{"pictures": {'),
        lambda: (folder / "item.json").write_text("[]"),
        lambda: (folder / "item.json").write_text('{"pictures": {"../../manifest.json": ""}}'),
    ):
        item(run)
        assert run.finished("a1")
        spoil()
        assert run.finished("a1") is None
    assert run.items() == []


def test_pictures_of_an_older_record_go(tmp_path):
    run = start(tmp_path)
    item(run)
    run.write_item("a1", {}, {"counterfactual": picture()})
    assert sorted(p.name for p in (run.path / "items" / "a1").iterdir()) == ["counterfactual.png", "item.json"]


@pytest.mark.parametrize("name", ["../a", "", "a/b", ".lock", "x.tmp-1"])
def test_names_cannot_leave_the_folder(tmp_path, name):
    run = start(tmp_path)
    with pytest.raises(UsageError, match="cannot be the name"):
        run.finished(name) or run.write_item(name, {}, {})
    with pytest.raises(UsageError, match="cannot be the name"):
        run.write(name, "x")


def test_what_is_no_run(tmp_path):
    assert list_runs(tmp_path / "none") == []
    (tmp_path / "other").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "manifest.json").write_text("{")
    assert list_runs(tmp_path) == []
    with pytest.raises(UsageError, match="not a run folder"):
        Run.open(tmp_path / "bad")


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_is_one_line_and_leaves_no_half_file(tmp_path, monkeypatch, call):
    run = start(tmp_path)
    item(run)
    real, calls = getattr(os, call), []

    def full(*args):
        calls.append(args)
        if len(calls) > (0 if call == "fsync" else 2):  # only item.json is flushed
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args)

    monkeypatch.setattr(os, call, full)
    with pytest.raises(MissingError, match="no space left") as caught:
        item(run, "b2")
    assert "\n" not in str(caught.value) and caught.value.exit_code == 4
    monkeypatch.undo()
    assert run.finished("a1") and run.finished("b2") is None and not leftovers(tmp_path)
    item(start(tmp_path), "b2")
    assert run.finished("b2")


def test_a_full_disk_at_the_start(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MissingError, match="no space left"):
        start(tmp_path)
    assert list_runs(tmp_path) == [] and not leftovers(tmp_path)


def test_other_troubles_of_writing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFailed, match="cannot write"):
        start(tmp_path / "file")
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(PermissionError(errno.EACCES, "no")))
    with pytest.raises(MissingError, match="no permission"):
        start(tmp_path)


def test_killed_in_the_middle_of_a_picture(tmp_path):
    child = python(
        """
        import os, sys, time
        from PIL import Image
        from counterlens.core.runs.folder import Run
        run = Run.create(sys.argv[1], "guided", sys.argv[2], {})
        run.write_item("a1", {}, {"counterfactual": Image.new("RGB", (16, 16))})
        real, count = os.write, []
        def slow(fd, data):
            count.append(1)
            if len(count) == 2:  # the second picture of the second item: half of it, then wait to be killed
                real(fd, data[: len(data) // 2])
                print("half", flush=True)
                time.sleep(60)
            return real(fd, data)
        os.write = slow
        run.write_item("b2", {}, {"counterfactual": Image.new("RGB", (16, 16)), "mask": Image.new("L", (16, 16))})
        """,
        tmp_path,
        DIGEST,
    )
    assert child.stdout.readline() == b"half\n"
    run = Run.open(next(tmp_path.glob("*-guided-*")))
    assert run.status == "running" and len(leftovers(tmp_path)) == 1  # a living writer's file is left alone
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert Run.open(run.path).status == "interrupted" and not leftovers(tmp_path)
    again = start(tmp_path)  # the lock of the killed process is free
    assert again.path == run.path and again.items() == ["a1"]
    item(again, "b2")
    assert again.items() == ["a1", "b2"]


def test_killed_at_any_moment(tmp_path):
    code = """
        import sys
        from PIL import Image
        from counterlens.core.runs.folder import Run
        run = Run.create(sys.argv[1], "guided", sys.argv[2], {})
        print("go", flush=True)
        for k in range(100000):
            run.write_item(f"i{k % 5}", {"k": k}, {"counterfactual": Image.new("L", (16, 16), k % 256)})
            run.log({"k": k})
        """
    for wait in (0.0, 0.013, 0.031):
        child = python(code, tmp_path, DIGEST)
        child.stdout.readline()
        time.sleep(wait)
        child.kill()
        child.wait()
        run = start(tmp_path)
        for name in run.items():
            with Image.open(run.path / "items" / name / "counterfactual.png") as image:
                assert image.getpixel((0, 0)) == run.finished(name)["k"] % 256
        run.log({"after": wait})
        assert run.events()[-1]["after"] == wait and not leftovers(tmp_path)
    assert len(list_runs(tmp_path)) == 1


def test_two_processes_on_one_run(tmp_path):
    code = """
        import sys
        from PIL import Image
        from counterlens.core.runs.folder import Run
        run = Run.create(sys.argv[1], "guided", sys.argv[2], {})
        shade = int(sys.argv[3])
        for k in range(15):
            pictures = {n: Image.new("L", (16, 16), shade) for n in ("counterfactual", "mask")}
            run.write_item(f"i{k}", {"shade": shade}, pictures)
            run.log({"k": k, "shade": shade})
        run.finish("done", **{f"by{shade}": True})
        """
    children = [python(code, tmp_path, DIGEST, shade) for shade in (10, 20, 30)]
    assert [child.wait() for child in children] == [0, 0, 0]
    (run,) = list_runs(tmp_path)
    assert run.status == "done" and all(run.manifest[f"by{shade}"] for shade in (10, 20, 30))
    assert len(run.items()) == 15 and len(run.events()) == 45 and not leftovers(tmp_path)
    for name in run.items():
        for file in ("counterfactual.png", "mask.png"):
            with Image.open(run.path / "items" / name / file) as image:
                assert image.getpixel((0, 0)) == run.finished(name)["shade"]


def test_a_torn_line_of_the_log_is_closed_off(tmp_path):
    run = start(tmp_path)
    run.log({"k": 1})
    with (run.path / "log.jsonl").open("a") as file:
        file.write('{"k": 2, "to')
    Run.open(run.path).log({"k": 3})
    assert [e["k"] for e in run.events()] == [1, 3]


def test_leftovers_of_another_machine_go_when_they_are_old(tmp_path):
    (tmp_path / "x.json.tmp-elsewhere-12-abc").write_text("")
    assert files.sweep(tmp_path) == []
    os.utime(tmp_path / "x.json.tmp-elsewhere-12-abc", (1, 1))
    assert len(files.sweep(tmp_path)) == 1


def test_no_torch_is_needed():
    code = "import sys, counterlens.core.runs.folder, counterlens.core.images.load; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
