"""What ``counterlens neurons`` does: units of a classifier, named by words and driven up or down."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterlens.core.workflows.unit_study import Sheet, SheetRow, UnitStudy, lent, same_size

if TYPE_CHECKING:
    from counterlens.core.classifiers.unit_table import UnitTable
    from counterlens.core.engine.session import Session
    from counterlens.core.models.model_options import ModelOptions
    from counterlens.core.plugin.registry import Registry
    from counterlens.core.problem.method import Method

METHOD = "neuron"
SILENT = "the unit is silent here, so it has no gradient: try a layer before its ReLU"


def top_sheet(study: UnitStudy, table: UnitTable, unit: int, count: int) -> Sheet:
    """The top images of a unit above, and where it looks in them below."""
    from counterlens.core.classifiers.unit_table import attribution

    rows = table.top(unit, count)
    images = same_size([study.picture(table.names[k]) for k in rows])
    maps = attribution(study.classifier, images, unit, table.layer)
    said = [f"{table.labels[k]}\na = {float(table.values[k, unit]):.3g}" for k in rows]
    looks = SheetRow("looks at", images, [""] * len(rows), maps)
    return Sheet(f"{table.layer}, unit {unit}", [SheetRow("top images", images, said), looks])


def name_unit(
    study: UnitStudy, table: UnitTable, unit: int, networks: ModelOptions, **how: Any
) -> tuple[list[dict[str, Any]], Sheet]:
    """The rows of one unit's words, the best first; and a sheet of what they look like."""
    import torch

    from counterlens.core.classifiers.unit_table import words_by_activation
    from counterlens.core.classifiers.units import unit_activations
    from counterlens.core.workflows.sample import generate

    words = _words(study, table, unit, how)
    pipeline, numbers = study.pipeline(networks), list(range(how["count"]))
    prompts = {word: how["prompt"].replace("{}", word) for word in words} | {"": ""}
    combiner, values, pictures = study.registry.make("combiner", how["combiner"]), {}, {}
    for word, prompt in prompts.items():
        made = generate(pipeline, [prompt] * len(numbers), numbers, combiner, how["steps"], how["seed"], study.batch)
        with torch.no_grad():
            said = unit_activations(study.classifier, made.to(study.device), table.layer)[1][:, unit].cpu()
        values[word], pictures[word] = said.tolist(), made
    rows = words_by_activation(values)
    for rank, row in enumerate((r for r in rows if r["word"]), 1):
        row.update(unit=unit, rank=rank, captions=words[row["word"]])
    for row in rows:
        if not row["word"]:
            row.update(unit=unit, rank=None, captions=None, word="(no words)")
            pictures["(no words)"] = pictures.pop("")
    sheet = [
        SheetRow(f"{row['word']}\n{row['activation']:.3g}", pictures[row["word"]], [""] * len(numbers))
        for row in rows[:8]
    ]
    title = f"{table.layer}, unit {unit}: words by mean activation"
    return [{**row, "layer": table.layer} for row in rows], Sheet(title, sheet)


def _words(study: UnitStudy, table: UnitTable, unit: int, how: dict[str, Any]) -> dict[str, int | None]:
    """The words to try: {word: in how many captions}; UsageError when there are none."""
    from counterlens.core.conditioning.class_names import candidates
    from counterlens.core.conditioning.nouns import grammar
    from counterlens.core.errors import UsageError

    if how["words"]:
        given: dict[str, int | None] = {word.strip().lower(): None for word in how["words"].split(",") if word.strip()}
        if not given:
            raise UsageError(f"--words {how['words']!r} has no word: write a,b,c")
        return given
    rows = table.top(unit, how["top"])
    names, labels = [table.names[k] for k in rows], [table.labels[k] for k in rows]
    captions, nouns = study.captions(names, labels, how["captioner"]), grammar()
    if nouns.note:
        study.notice(nouns.note)
    found = dict(candidates(captions, nouns, how["least"], nouns=False)[: how["most"]])
    if not found:
        raise UsageError(
            f"unit {unit}: no word is in {how['least']} captions of its top images; lower --least, or --words"
        )
    return found  # type: ignore[return-value]


def change_units(
    registry: Registry, images: Sequence[str], signs: Sequence[str], meter: Any, **how: Any
) -> tuple[list[dict[str, Any]], dict[str, Sheet]]:
    """Every picture with more or less of every unit: rows, and a sheet a unit by the name of its file."""
    from counterlens.core.engine.session import Session
    from counterlens.core.problem.method import Method

    out = Path(how.pop("out"))
    units, layer, domain, count = how.pop("units"), how.pop("layer"), how.pop("domain", ""), how.pop("count", 0)
    search = f"descent iterations={how.pop('iterations')} best=loss"
    about = "More or less of a unit."
    method = Method(name=METHOD, summary=about, inverter="direct", search=search, prefers=("stable-diffusion",))
    session = Session(registry)
    if not images:
        images = _made(session, out, domain, count, how)
        how["classifier"] = how["classifier"] or (registry.domain(domain).classifier if domain else None)
        if domain:
            how.setdefault("model", f"domain:{domain}/stable-diffusion")
    rows, sheets = [], {}
    for unit in units:
        found: dict[str, list[dict[str, Any]]] = {}
        for sign in signs:
            found[sign] = _walked(session, method, images, (unit, layer, sign), out, meter, how)
        rows += [row for sign in signs for row in found[sign]]
        if sheet := _more_and_less(session, found, unit, layer, how):
            sheets[f"unit-{unit}-{'-'.join(found)}.png"] = sheet
    return rows, sheets


def _made(session: Any, out: Path, domain: str, count: int, how: dict[str, Any]) -> tuple[str, ...]:
    """Pictures of the prompt to begin with, written below ``out``."""
    from PIL import Image

    from counterlens.core.errors import UsageError
    from counterlens.core.images.pixels import signed, to_pixels
    from counterlens.core.models.model_options import ModelOptions
    from counterlens.core.workflows.sample import generate

    if not how["prompt"]:
        raise UsageError("what are pictures made of? give --prompt 'a …', or IMAGEs to begin with")
    with ExitStack() as stack:
        pipeline = lent(session.registry, stack, ModelOptions.among(how), domain)
        combiner = session.registry.make("combiner", "cfg scale=3")
        made = generate(
            pipeline, [how["prompt"]] * count, range(count), combiner, how["steps"], how["seed"], how["batch"]
        )
    paths = [out / "made" / f"{how['seed']}-{k}.png" for k in range(count)]
    for path, picture in zip(paths, made, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(to_pixels(signed(picture))).save(path)
    return tuple(map(str, paths))


def _walked(
    session: Session,
    method: Method,
    images: Sequence[str],
    what: tuple[int, str, str],
    out: Path,
    meter: Any,
    how: dict[str, Any],
) -> list[dict[str, Any]]:
    """One unit one way: a row a picture, with the activation of the saved pictures before and after."""
    import numpy as np
    import torch
    from PIL import Image

    from counterlens.core.classifiers.units import unit_activations
    from counterlens.core.engine.prepare import prepare
    from counterlens.core.engine.request import Request

    unit, layer, sign = what
    guidance = (f"neuron unit={unit} layer={layer} sign={sign}",)
    request = Request(images=tuple(images), method=METHOD, guidance=guidance, **how)
    prepared = prepare(request, session.registry, method=method)
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        classifier = session.classifier(stack, prepared.classifier, prepared.key.device)
        for record in session.run(prepared, out / "runs", "missing", meter, meter.note):
            row = {"image": record["image"], "unit": unit, "layer": layer, "sign": sign, "failure": record["failure"]}
            if record["counterfactual"]:
                after = Path(record["counterfactual"])
                pair = same_size(
                    [np.asarray(Image.open(p).convert("RGB")) for p in (after.with_name("source.png"), after)]
                )
                with torch.no_grad():
                    logits, said = unit_activations(classifier, pair.to(prepared.key.device), layer)
                row |= {"before": round(float(said[0, unit]), 6), "after": round(float(said[1, unit]), 6)}
                labels = [classifier.labels[int(k)] for k in logits.argmax(1)]
                row |= {"class_before": labels[0], "class_after": labels[1], "l1": record["l1"], "picture": str(after)}
                row["note"] = SILENT if sign == "plus" and row["before"] == row["after"] == 0 else ""
                row["costs"] = {k: record[k] for k in ("unet_evaluations", "seconds") if k in record}
            rows.append(row)
    return rows


def _more_and_less(
    session: Any, found: dict[str, list[dict[str, Any]]], unit: int, layer: str, how: dict[str, Any]
) -> Sheet | None:
    """A sheet: less, the picture itself, more; and where the unit looks in each."""
    import numpy as np
    from PIL import Image

    from counterlens.core.classifiers.unit_table import attribution
    from counterlens.core.models.device import device_of

    done = [[row for row in rows if row.get("picture")] for rows in found.values()]
    if not done or not done[0]:
        return None
    uri = how["classifier"] or session.registry.domain(done[0][0]["image"].split(":")[0]).classifier
    sheet: list[SheetRow] = []

    def add(title: str, paths: list[Path], said: list[str]) -> None:
        images = same_size([np.asarray(Image.open(path).convert("RGB")) for path in paths])
        sheet.append(SheetRow(title, images, said))
        sheet.append(SheetRow("looks at", images, [""] * len(paths), attribution(classifier, images, unit, layer)))

    with ExitStack() as stack:
        classifier = session.classifier(stack, uri, device_of(how.get("device", "auto")))
        for sign, rows in sorted(zip(found, done, strict=True)):  # minus, plus
            pictures = [Path(row["picture"]) for row in rows]
            if len(sheet) < 2 and sign == "plus":
                add("picture", [p.with_name("source.png") for p in pictures], _said(rows, "before"))
            add({"minus": "less", "plus": "more"}[sign], pictures, _said(rows, "after"))
            if sign == "minus":
                add("picture", [p.with_name("source.png") for p in pictures], _said(rows, "before"))
    return Sheet(f"{layer}, unit {unit}", sheet)


def _said(rows: Sequence[dict[str, Any]], when: str) -> list[str]:
    return [f"{row[f'class_{when}']}\na = {row[when]:.3g}" for row in rows]


def compare_units(
    study: UnitStudy, table: UnitTable, units: Sequence[int], count: int
) -> tuple[list[dict[str, Any]], Sheet]:
    """Rows: the mean activation of every unit on each unit's top images, then their correlation over all images."""
    import torch

    from counterlens.core.classifiers.unit_table import attribution

    rows: list[dict[str, Any]] = []
    sheet: list[SheetRow] = []
    for unit in units:
        top = table.top(unit, count)
        means = {f"unit {other}": round(float(table.values[top, other].mean()), 4) for other in units}
        rows.append({"unit": unit, "on": "its top images", "images": [table.names[k] for k in top], **means})
        images = same_size([study.picture(table.names[k]) for k in top])
        maps = attribution(study.classifier, images, unit, table.layer)
        said = ["  ".join(f"{other}: {float(table.values[k, other]):.2g}" for other in units) for k in top]
        sheet.append(SheetRow(f"top of {unit}", images, said))
        sheet.append(SheetRow(f"{unit} looks at", images, [""] * len(top), maps))
    own = table.values[:, list(units)].double()
    own = (own - own.mean(0)) / own.std(0, unbiased=False).clamp_min(1e-12)
    together = torch.einsum("ni,nj->ij", own, own) / len(own)
    for k, unit in enumerate(units):
        numbers = {f"unit {other}": round(float(together[k, j]), 4) for j, other in enumerate(units)}
        rows.append({"unit": unit, "on": "all images, correlation", "images": len(table.names), **numbers})
    title = f"{table.layer}: units {', '.join(map(str, units))}"
    return [{**row, "layer": table.layer} for row in rows], Sheet(title, sheet)
