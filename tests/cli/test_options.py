"""Every command that loads a pipeline has the same options, made from one model."""

import json
import os
from pathlib import Path

import click
import pytest

from counterlens.cli import options
from counterlens.cli.main import main
from counterlens.core.models.model_options import ModelOptions

FLAGS = {
    "--adapter" if name == "adapters" else f"--{name.replace('_', '-')}": name for name in ModelOptions.model_fields
}
ELSEWHERE = {"domains train"}  # makes weights, and loads none


def commands(command=main, ctx=None, path=()):
    """(words, command, context) of every command there is."""
    ctx = ctx or click.Context(main, info_name="counterlens")
    if not isinstance(command, click.Group):
        yield " ".join(path), command, ctx
        return
    for name in command.list_commands(ctx):
        child = command.get_command(ctx, name)
        yield from commands(child, click.Context(child, info_name=name, parent=ctx), (*path, name))


def shown(option):
    return {key: value for key, value in option.to_info_dict().items() if key != "name"} | {
        "shown": option.show_default
    }


def test_all_commands_that_load_a_pipeline_have_the_same_options():
    found = {}
    for words, command, ctx in commands():
        own = [p for p in command.get_params(ctx) if isinstance(p, click.Option) and {*p.opts} & FLAGS.keys()]
        if words not in ELSEWHERE and own:
            found[words] = {flag: shown(option) for option in own for flag in option.opts}
    full = {words: own for words, own in found.items() if own.keys() == FLAGS.keys()}
    assert {"explain", "fan", "invert", "disagree", "bench", "tune", "demo"} <= full.keys()
    assert {f"train {name}" for name in ("embeddings", "lora", "textual-inversion")} <= full.keys()
    assert {f"directions {name}" for name in ("apply", "probe", "name", "measure", "find pca")} <= full.keys()
    assert {f"neurons {name}" for name in ("name", "visualise", "counterfactual")} <= full.keys()
    for words, own in found.items():
        assert words in full or own.keys() == {"--device", "--offline"}, f"{words} has {', '.join(own)}"
        for flag, about in own.items():
            assert about == full["explain"][flag], f"{words} {flag}"


def test_help_texts_and_defaults_are_those_of_the_model():
    ctx = click.Context(main)
    explain = main.get_command(ctx, "explain")
    for option in explain.get_params(click.Context(explain)):
        for flag in {*option.opts} & FLAGS.keys():
            field = ModelOptions.model_fields[FLAGS[flag]]
            assert option.help == field.description and (option.default or None) == (field.default or None)


@pytest.mark.parametrize(
    "args, given",
    [
        ([], {}),
        (["--dtype", "float16", "--adapter", "a", "--adapter", "b"], {"dtype": "float16", "adapters": ("a", "b")}),
        (["--offline", "--hand-over", "0.8"], {"offline": True, "hand_over": 0.8}),
    ],
)
def test_only_what_is_given_reaches_the_command(args, given):
    seen = []
    own = click.Option(["--own"], default=3)
    command = options.LoadsPipeline("one", callback=lambda **how: seen.append(how), params=[own])
    command.main(args, standalone_mode=False)
    assert seen == [{"own": 3, **given}]


def test_bench_takes_dtype_adapter_and_offline(cli, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    limits = ("--limit", "2", "--methods", "reconstruct", "--controls", "none", "--metric", "l1", "--steps", "2")
    done = cli(
        "bench", *limits, "--workers", "1", "--dtype", "bfloat16", "--offline", "--device", "cpu", "--json", "-q"
    )
    assert done.code == 0, done.err
    manifest = json.loads((Path(done.rows[0]["run"]) / "manifest.json").read_text())
    assert manifest["protocol"]["dtype"] == "bfloat16" and manifest["rows"][0]["request"]["offline"] is True
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    missing = cli("bench", *limits, "--adapter", str(tmp_path / "none"), "--json", "-q")
    assert missing.code == 4 and "there is no such folder" in missing.err
