"""``counterlens directions apply|probe|name|combine``: what directions in activations do, and what they are called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from counterlens.cli import options, render

NETWORKS = (
    click.option("--domain", metavar="NAME", default="", help="An embedded domain's pipeline, classifier and images."),
    click.option("--image", "images", multiple=True, metavar="IMAGE", help="An image: path or NAME:INDEX; repeat."),
    click.option("--target", "-t", metavar="CLASS", help="Target class of these images; the runner-up if not given."),
    click.option("--classifier", metavar="URI", default="", help="Classifier that labels: file:PATH, domain:NAME, …"),
    click.option("--data", metavar="URI", default="", help="Labelled images: domain:NAME or a folder of folders."),
    click.option(
        "--inverter", default="edit-friendly", show_default=True, metavar="'NAME k=v'", help="Of images; exact."
    ),
    click.option("--combiner", default="cfg scale=1", show_default=True, metavar="'NAME k=v'", help="Guidance."),
    click.option("--prompt", default="", help="Words, for text-conditioned pipelines."),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of all noise."),
    click.option("--batch", type=click.IntRange(1), default=16, show_default=True, help="Rows in one network call."),
)
images_and_networks = options.together(*NETWORKS)
COLUMNS = ("name", "kind", "length", "relative", "about")


@click.command(cls=options.LoadsPipeline)
@click.argument("file", type=click.Path())
@click.option("--pick", metavar="A,B*0.5", default="", help="Only these directions; all if not given.")
@click.option("--together", is_flag=True, help="Their sum, as one direction.")
@click.option("--strengths", default="-2,-1,0,1,2", show_default=True, help="Factors, a column each.")
@click.option("--windows", default="0:1", show_default=True, help="BEGIN:END shares of the steps, a row each.")
@click.option("--asymmetric", is_flag=True, help="Asyrp: only the clean image of each step is shifted.")
@click.option("--cap", type=click.FloatRange(0, min_open=True), help="Longest shift, over the activation's length.")
@click.option("--steps", type=click.IntRange(1, 1000), help="Of the trajectory; those of the file if not given.")
@click.option("--resample", is_flag=True, help="Interpolate over timesteps where --steps are others.")
@images_and_networks
@click.option("--out", type=click.Path(dir_okay=False), show_default=True, default="directions.png")
@options.as_json
@options.quiet
def apply(file: str, out: str, as_json: bool, quiet: bool, **how: Any) -> None:
    """Show what the directions of FILE do to images: components, strengths and windows of steps as one picture."""
    from counterlens.cli.sheets import write_cells
    from counterlens.core.h_space.apply import cells, combined_shift, terms_of
    from counterlens.core.h_space.shifts import load_shifts

    bank = load_shifts(file)
    terms = terms_of(how.pop("pick")) or [(name, 1.0) for name in bank.names]
    shifts = [bank.get(name).with_(delta=factor * bank.get(name).delta) for name, factor in terms]
    if how.pop("together"):
        shifts = [combined_shift(bank, " + ".join(f"{factor:g} {name}" for name, factor in terms), terms)]
    bank = bank.with_(shifts=tuple(shifts))
    strengths, windows = _numbers(how.pop("strengths")), _windows(how.pop("windows"))
    symmetric, cap, resample = not how.pop("asymmetric"), how.pop("cap"), how.pop("resample")
    with _job(bank, how, quiet) as job:
        fit = bank.check(job.pipeline, job.grid, resample=resample)
        found, labels = list(cells(job, fit, strengths, windows, symmetric, cap)), job.explained.labels
    write_cells(Path(out), found, labels)
    rows = [
        {
            "image": c.image,
            "direction": c.direction,
            "window": f"{c.window[0]:g}:{c.window[1]:g}",
            "strength": c.strength,
            "decided": labels[int(c.p.argmax())],
            "p": round(float(c.p.max()), 4),
            "l1": round(c.l1, 5),
        }
        for c in found
    ]
    render.rows(rows, ("image", "direction", "window", "strength", "decided", "p", "l1"), as_json)
    click.echo(f"picture: {out}", err=True)


@click.command(cls=options.LoadsPipeline)
@click.option("--sites", default="", help="Sites, separated by commas; the bottleneck's and those behind it if empty.")
@click.option(
    "--length",
    type=click.FloatRange(0, min_open=True),
    default=0.3,
    show_default=True,
    help="Of the steps that are compared, over that of the activation.",
)
@click.option("--count", "-n", type=click.IntRange(8), default=16, show_default=True, help="Images, with --domain.")
@click.option("--steps", type=click.IntRange(1, 1000), default=20, show_default=True, help="Of the trajectory.")
@images_and_networks
@options.as_json
@options.quiet
def probe(sites: str, length: float, count: int, as_json: bool, quiet: bool, **how: Any) -> None:
    """Does a site carry meaning in this model? Swapped activations, linear probes, and flips at equal length.

    swap: share of images whose decision follows the activations of an image of another class. r2: of the classifier's
    log-odds, predicted from held-out activations, at the best timestep. gradient, mean-difference, random: share that
    flips after one straight step of the same length, each image with its own.
    """
    from counterlens.core.diffusion.sites import check_site
    from counterlens.core.h_space.probe import KINDS
    from counterlens.core.h_space.probe import probe as probed

    _fill(how, count)
    with _job(None, how, quiet) as job:
        known = job.pipeline.network().sites
        chosen = [site for site in sites.split(",") if site] or [site for site in known if not site.startswith("down")]
        for site in chosen:
            check_site(site, known, job.pipeline.uri)
        rows = list(probed(job, chosen, length))
    rows.sort(key=lambda row: -row["gradient"])
    render.rows(rows, ("site", "shape", "n", "swap", "r2", *(c for k in KINDS for c in (k, f"{k}_l1"))), as_json)


@click.command(cls=options.LoadsPipeline)
@click.argument("file", type=click.Path())
@click.option(
    "--rename", multiple=True, metavar="OLD=NEW", help="A name of your own; repeat. Then nothing is measured."
)
@click.option("--strength", type=click.FloatRange(0, min_open=True), default=2.0, show_default=True, help="Both ways.")
@click.option("--count", "-n", type=click.IntRange(1), default=8, show_default=True, help="Images, with --domain.")
@images_and_networks
@click.option("--out", type=click.Path(dir_okay=False), help="The file with the new names; FILE itself if not given.")
@options.as_json
@options.quiet
def name(
    file: str,
    rename: tuple[str, ...],
    strength: float,
    count: int,
    out: str | None,
    as_json: bool,
    quiet: bool,
    **how: Any,
) -> None:
    """Name the directions of FILE by what they change: the class whose log-probability moves most over images.

    Any classifier names: with --classifier clip:ID?labels=smiling,old,… CLIP does, in your words.
    """
    from counterlens.core.h_space.apply import named_shifts
    from counterlens.core.h_space.shifts import load_shifts

    bank = load_shifts(file)
    if rename:
        new = dict(_renamed(text) for text in rename)
        for old in new:
            bank.get(old)
        bank = bank.with_(shifts=tuple(shift.with_(name=new.get(shift.name, shift.name)) for shift in bank.shifts))
    else:
        _fill(how, count)
        with _job(bank, how, quiet) as job:
            bank = named_shifts(job, bank.check(job.pipeline, job.grid), strength)
    bank.save(out or file)
    render.rows(list(described(bank)), COLUMNS, as_json)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(), metavar="FILE…")
@click.option("--name", "new", required=True, help="Of the new direction.")
@click.option("--sum", "terms", required=True, metavar="A*1,B*-0.5", help="What it is the sum of; -1 negates.")
@click.option("--without", default="", metavar="C,D", help="Directions to project out, all together.")
@click.option("--out", type=click.Path(dir_okay=False), default="directions.safetensors", show_default=True)
@options.as_json
def combine(files: tuple[str, ...], new: str, terms: str, without: str, out: str, as_json: bool) -> None:
    """Arithmetic of directions: add, negate, project out. The new one is written beside those that it is made of."""
    from counterlens.core.h_space.apply import combined_shift, terms_of
    from counterlens.core.h_space.shifts import joined, load_shifts

    bank = joined([load_shifts(file) for file in files])
    shift = combined_shift(bank, new, terms_of(terms), [part for part in without.split(",") if part])
    bank = joined([bank, bank.with_(shifts=(shift,))])
    bank.save(out)
    render.rows(list(described(bank)), COLUMNS, as_json)
    click.echo(f"directions: {out}", err=True)


def described(bank: Any) -> Iterator[dict[str, Any]]:
    """A row for each direction: its mean length a step, that over the activation's own, and its statistics."""
    norms = bank.norms.float()
    known = norms > 0
    for shift in bank.shifts:
        length = shift.norms().float()
        relative = float((length[known] / norms[known]).mean()) if bool(known.any()) else None
        yield {
            "name": shift.name,
            "kind": shift.kind,
            "length": round(float(length.mean()), 4),
            "relative": None if relative is None else round(relative, 4),
            "about": {k: v for k, v in shift.about.items() if not isinstance(v, (list, dict))},
            "details": {k: v for k, v in shift.about.items() if isinstance(v, (list, dict))},
        }


@contextmanager
def _job(bank: Any, how: dict[str, Any], quiet: bool) -> Iterator[Any]:
    """The networks and the images of a command; trajectories are those of the bank."""
    from counterlens.core.h_space.job import FindRequest
    from counterlens.core.workflows.find_directions import open_job

    if not how["images"]:
        raise click.UsageError("which images? give --image IMAGE, such as --image shapes:0")
    how["steps"] = how.get("steps") or (len(bank.space.timesteps) if bank else 20)
    render.quieten()
    needs = dict.fromkeys(("mid-block", "labels"), "looking at directions")
    with (
        render.progress(quiet) as meter,
        open_job(options.registry(), FindRequest(**how), needs, progress=meter, notice=meter.note) as job,
    ):
        yield job


def _fill(how: dict[str, Any], count: int) -> None:
    """The first images of a domain where none are named."""
    if not how["images"] and how["domain"]:
        how["images"] = tuple(f"{how['domain']}:{k}" for k in range(count))


def _numbers(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = []
    if not found:
        raise click.UsageError(f"--strengths {text!r}: give numbers, such as -2,-1,0,1,2")
    return found


def _windows(text: str) -> list[tuple[float, float]]:
    found = []
    for part in text.split(","):
        low, _, high = part.partition(":")
        try:
            found.append((float(low), float(high)))
        except ValueError:
            found.append((1.0, 0.0))
        if not 0 <= found[-1][0] < found[-1][1] <= 1:
            raise click.UsageError(f"--windows {part!r}: give BEGIN:END within 0 to 1, such as 0:0.5,0.5:1")
    return found


def _renamed(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not (equals and old and new):
        raise click.UsageError(f"--rename {text!r}: write OLD=NEW")
    return old, new
