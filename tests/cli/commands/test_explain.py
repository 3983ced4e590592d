"""``explain`` and ``demo``: what they ask of the engine, what they print, how they end."""

import inspect
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from counterlens.cli.commands.explain import explain as command
from counterlens.core.engine.request import Request
from counterlens.core.errors import MissingError, RunFailed


def record(image="a.png", **changes):
    base = {
        "digest": "0" * 64,
        "image": image,
        "source": "bouba",
        "target": "kiki",
        "method": "guided",
        "model": "m",
        "flipped": True,
        "p_target_before": 0.01,
        "p_target_after": 0.95,
        "judge_flipped": True,
        "l1": 0.02,
        "unet_evaluations": 40,
        "seconds": 0.5,
        "peak_bytes": 1,
        "counterfactual": "runs/r/items/0/counterfactual.png",
        "failure": None,
    }
    return {**base, **changes}


@pytest.fixture
def engine(monkeypatch):
    """Replace the engine: what it is asked is kept in ``asked``, what it yields is given."""
    asked = []

    def install(*records, error=None):
        def explain(request, registry, **how):
            asked.append((request, how))
            yield from records
            if error:
                raise error

        monkeypatch.setattr("counterlens.core.engine.session.explain", explain)
        return asked

    return install


LOST = record(flipped=False, p_target_after=0.3, judge_flipped=False)
FAILED = record(flipped=False, counterfactual=None, l1=None, failure="it broke", judge_flipped=None)


@pytest.mark.parametrize(
    ("records", "code"),
    [
        ([record()], 0),
        ([record(), LOST], 3),
        ([record(), FAILED], 3),
        ([FAILED], 1),
        ([FAILED, FAILED], 1),
        ([], 0),
    ],
)
@pytest.mark.parametrize("how", ["--json", "--quiet"])
def test_exit_codes(cli, engine, records, code, how):
    engine(*records)
    assert cli("explain", "a.png", how).code == code


def test_json_is_one_record_a_line(cli, engine):
    engine(record(), record(image="b.png", l1=float("nan")))
    end = cli("explain", "a.png", "b.png", "--json")
    assert [row["image"] for row in end.rows] == ["a.png", "b.png"]
    assert end.rows[1]["l1"] is None


def test_the_table_names_failures_and_the_report(cli, engine):
    engine(record(), FAILED)
    end = cli("explain", "a.png")
    assert "report: runs/r/report.html" in end.out.replace("\\", "/")
    assert "it broke" in end.err


def test_the_table_marks_training_images(cli, engine):
    engine(record(), record(image="b.png", trained_on=["classifier"]))
    end = cli("explain", "a.png", "b.png")
    assert "trained_on" in end.out and "1 of 2 are training images" in end.err
    engine(record())
    assert "trained_on" not in cli("explain", "a.png").out


def test_what_was_finished_is_printed_before_a_failure(cli, engine):
    engine(record(), error=MissingError("no space left: free some"))
    end = cli("explain", "a.png", "--json")
    assert (end.code, len(end.rows), end.err.strip()) == (4, 1, "error: no space left: free some")
    engine(error=RunFailed("it broke"))
    assert cli("explain", "a.png").code == 1


EVERYTHING = """
a.png b.png --target kiki --method guided --model M --classifier C --judge J --inverter noise --combiner cfg
--search once --steps 7 --tau 0.8 --prompt hello --map m.png --seed 5 --fit pad --batch 3 --device cpu --dtype
bfloat16 --revision r --variant fp16 --offline --offload --tiling --prior P --refiner R --hand-over 0.7 --force
"""


def test_every_option_reaches_the_request(cli, engine):
    asked = engine(record())
    options = [*EVERYTHING.split(), "--out", "o", "--again", "always", "--json"]
    pieces = ["--editor", "clamp limit=1", "--editor", "clamp limit=2", "--guidance", "target", "--regularizer", "l1"]
    assert cli("explain", *options, *pieces).code == 0
    request, how = asked[0]
    assert request == Request(
        images=("a.png", "b.png"),
        target="kiki",
        model="M",
        classifier="C",
        judge="J",
        editors=("clamp limit=1", "clamp limit=2"),
        guidance=("target",),
        regularizers=("l1",),
        inverter="noise",
        combiner="cfg",
        search="once",
        steps=7,
        tau=0.8,
        prompt="hello",
        map="m.png",
        seed=5,
        fit="pad",
        batch=3,
        device="cpu",
        dtype="bfloat16",
        revision="r",
        variant="fp16",
        offline=True,
        offload=True,
        tiling=True,
        prior="P",
        refiner="R",
        hand_over=0.7,
        force=True,
    )
    assert (how["out"], how["again"]) == ("o", "always")


def test_every_field_of_a_request_is_an_option():
    assert set(Request.model_fields) <= {parameter.name for parameter in command.params}


def picture(path, size=(40, 40)):
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(path)
    return str(path)


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["gone.png"], "gone.png"),
        (["text.png"], "text.png"),
        (["empty.png"], "empty.png"),
        (["."], "folder"),
        (["shapes:99999999"], "0 to 999"),
        (["shapes:-1"], "0 to 999"),
        (["shapes:0", "--refiner", "R"], "families that do: sdxl"),
        (["shape:1"], "shape"),
        (["ok.png"], "--classifier"),
        (["ok.png", "--classifier", "domain:shapes"], "--model"),
        (["ok.png", "--method", "guidde"], "did you mean 'guided'?"),
        (["ok.png", "--editor", "clmp"], "did you mean 'clamp'?"),
        (["ok.png", "--editor", "clamp limt=1"], "did you mean 'limit'?"),
        (["ok.png", "--editor", "clamp limit=x"], "limit"),
        (["ok.png", "--editor", "clamp limit"], "NAME key=value"),
        (["ok.png", "--guidance", "'"], "NAME key=value"),
        (["ok.png", "--regularizer", ""], "NAME key=value"),
        (["ok.png", "--search", "sweeep"], "did you mean 'sweep'?"),
        (["ok.png", "--steps", "0"], "--steps"),
        (["ok.png", "--tau", "1"], "--tau"),
        (["ok.png", "--seed", "-1"], "--seed"),
        (["ok.png", "--fit", "stretch"], "--fit"),
        (["ok.png", "--dtype", "int8"], "--dtype"),
        (["ok.png", "--again", "sometimes"], "--again"),
    ],
)
@pytest.mark.parametrize("how", ["--dry-run", "--json"])
def test_bad_input_is_one_line_and_code_2(cli, tmp_path, args, hint, how):
    picture(tmp_path / "ok.png")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    end = cli("explain", *args, how)
    assert end.code == 2, end.err
    assert hint in end.err
    assert len(end.err.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["demo", "explain"])
def test_help_says_what_the_exit_codes_mean(name):
    from counterlens.cli.main import main

    assert "Exit code" in inspect.cleandoc(main.get_command(None, name).help)


def test_an_interrupted_run(cli, engine):
    engine(record(), error=KeyboardInterrupt())
    end = cli("explain", "a.png", "--json")
    assert (end.code, len(end.rows)) == (130, 1)
    assert end.err.strip() == "interrupted; what was finished is kept"


class Stand:
    """A session that flips everything by ``guided`` and fails otherwise."""

    def __init__(self, registry):
        self.registry = registry

    def run(self, prepared, out, again, progress, notice):
        notice("accuracy 0.99")
        for name in prepared.images:
            folder = Path(out) / "r" / "items" / name.replace(":", "-")
            folder.mkdir(parents=True, exist_ok=True)
            path = picture(folder / "counterfactual.png", (32, 32))
            yield record(image=name, target=prepared.target, method=prepared.method, counterfactual=path)


@pytest.fixture
def stage(monkeypatch):
    def prepare(request, registry):
        if request.method != "guided":
            raise MissingError(f"{request.method} lacks something")
        return request

    monkeypatch.setattr("counterlens.core.engine.session.Session", Stand)
    monkeypatch.setattr("counterlens.core.engine.prepare.prepare", prepare)


def test_demo_shows_methods_side_by_side(cli, stage):
    end = cli("demo", "--methods", "guided,reconstruct", "--domains", "shapes", "--json")
    assert end.code == 0
    *records, last = end.rows
    assert {one["method"] for one in records} == {"guided", "reconstruct"}
    assert all(one["domain"] == "shapes" for one in records)
    good, bad = last["table"]
    assert (good["flip"], good["judge"], good["L1"]) == ("3 of 3", "3 of 3", 0.02)
    assert (bad["flip"], bad["failure"]) == ("0 of 3", "reconstruct lacks something")
    page = Path(last["report"]).read_text()
    assert page.count("data:image/png;base64,") == 6
    assert "reconstruct lacks something" in page
    assert end.err.count("accuracy 0.99") <= 1


def test_demo_prints_a_table_and_a_path(cli, stage):
    end = cli("demo", "--out", "there")
    assert end.code == 0
    assert "3 of 3" in end.out and "digits" in end.out
    assert "reconstruct" not in end.out
    assert Path(end.out.split("report: ")[1].strip()) == Path("there/report.html")


def test_demo_where_nothing_runs(cli, stage):
    end = cli("demo", "--methods", "reconstruct")
    assert end.code == 1
    assert "lacks something" in end.out


@pytest.mark.parametrize("args", [["--methods", "guidde"], ["--domains", "shape"], ["--seed", "x"]])
def test_demo_usage(cli, args):
    assert cli("demo", *args).code == 2
