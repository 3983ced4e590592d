"""Change maps in every family, from photograph to record; what a window costs; dose and greys on real behaviour."""

import json
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from counterlens.core.engine.prepare import prepare
from counterlens.core.engine.request import Request
from counterlens.core.engine.session import Session, explain
from counterlens.core.images.pixels import as_saved
from counterlens.core.models.pool import Pool
from counterlens.core.plugin.registry import load_registry
from counterlens.core.search.strength_search import walk
from counterlens.core.testing.tiny import tiny
from counterlens.plugins.editors.change_map import ChangeMap

REGISTRY, POOL = load_registry(third_party=False), Pool()
FAMILIES = {
    "stable-diffusion": {},
    "sdxl": {},
    "sdxl-refiner": {},
    "kandinsky22": {},
    "deepfloyd-if": {"stage": 1},
    "deepfloyd-if-2": {"stage": 2},
    "ddpm": {},
    "ldm": {},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root, made = tmp_path_factory.mktemp("tiny"), {}

    def folder(name):
        if name not in made:
            options = {"base": folder("sdxl")} if name == "sdxl-refiner" else FAMILIES[name]
            made[name] = tiny(name.removesuffix("-2"), root / name, **options)
        return str(made[name])

    return folder


def models(folder, family):
    """Options of a request for a family's tiny pipeline; SDXL's refiner takes over halfway."""
    if family == "sdxl-refiner":
        return {"model": folder("sdxl"), "refiner": folder(family), "hand_over": 0.5}
    return {"model": folder(family)}


def under(problem, change, **options):
    return problem.with_(scene=ChangeMap(**options).lock(problem.scene, change))


def halves(problem):
    """Left half of the first row, upper half of the others."""
    height, width = problem.scene.image.shape[-2:]
    change = torch.zeros(len(problem.scene), 1, height, width)
    change[0, :, :, : width // 2], change[1:, :, : height // 2] = 1, 1
    return change


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_every_family_keeps_bytes_and_obeys_another_map_a_row(folders, problem_of, family):
    free = problem_of(0, 1, method="reconstruct", **models(folders, family), steps=4, inverter="noise")
    plain, change = walk(free, free.invert()), halves(free)
    assert torch.equal(walk(under(free, change * 0 + 1), free.invert()), plain)
    for options in ({}, {"crop": True, "context": 0.0}, {"form": "state"}, {"reduce": "max"}):
        kept = under(free, change, **options)
        end = walk(kept, kept.invert())
        picture = as_saved(kept.scene.picture(end))
        still = (change == 0).expand_as(picture)
        assert torch.equal(picture[still], as_saved(free.scene.image)[still]), options
        assert (picture[~still] != as_saved(free.scene.image)[~still]).float().mean() > 0.3
        locked = (kept.scene.lock.keep >= 1).expand_as(end)
        assert torch.equal(end[locked], free.scene.x0[locked])
    nothing = under(free, change * 0)
    end = walk(nothing, nothing.invert())
    assert torch.equal(end, free.scene.x0)
    assert torch.equal(nothing.scene.picture(end), free.scene.image)


@pytest.mark.parametrize("family", ["stable-diffusion", "deepfloyd-if-2"])
@torch.no_grad()
def test_guidance_branches_go_through_the_window(folders, problem_of, family):
    free = problem_of(
        0, 1, method="reconstruct", model=folders(family), steps=3, combiner="cfg scale=3", prompt="a disc"
    )
    change = halves(free)
    whole, window = (under(free, change, crop=crop, context=1.0) for crop in (False, True))
    ends = [walk(p, p.invert()) for p in (whole, window)]
    torch.testing.assert_close(*ends, atol=1e-4, rtol=1e-4)


def flops(problem, change, **options):
    kept = under(problem, change, **options)
    inversion = kept.invert()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        walk(kept, inversion)
    return counter.get_total_flops()


def test_the_cost_of_a_window_follows_its_area(problem_of):
    """The embedded pixel pipeline; U-Nets without attention cost the same a pixel, attention costs less in a window."""
    free = problem_of(0, method="reconstruct", model="domain:shapes/ddpm", steps=3, inverter="noise")
    whole = flops(free, torch.ones(1, 1, 32, 32))
    for side in (8, 16, 24):
        change = torch.zeros(1, 1, 32, 32)
        change[..., :side, 32 - side :] = 1
        share = flops(free, change, crop=True, context=0.0) / whole
        assert 0.8 <= share / (side * side / 1024) <= 1.2, (side, share)


@torch.no_grad()
def test_at_least_55_percent_of_the_calls_are_left_out_when_the_least_keep_is_0_6(folders, problem_of):
    for clock in ("noise", "timestep", "step"):
        free = problem_of(0, method="reconstruct", model=folders("ddpm"), steps=150, inverter="noise")
        change = torch.linspace(0, 0.4, 16).expand(1, 1, 16, 16)
        kept = under(free, change, clock=clock)
        walk(kept, kept.invert())
        meter = free.scene.net.meter
        assert meter.skipped[0] / 150 >= 0.55 and meter.forward[0] == 150 - meter.skipped[0]


@torch.no_grad()
def test_14_less_strength_changes_less(problem_of):
    """Mean change of 16 pictures under uniform maps, from kept to free: monotone in rank."""
    from scipy.stats import spearmanr

    numbers = tuple(range(16))
    free = problem_of(*numbers, method="reconstruct", model="domain:shapes/ddpm", steps=6, inverter="noise")
    inversion, source = free.invert(), free.scene.image
    strengths = (0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0)
    change = []
    for strength in strengths:
        kept = under(free, torch.full((16, 1, 32, 32), strength))
        change.append((kept.scene.picture(walk(kept, inversion)) - source).abs().mean().item())
    assert change[0] == 0 and spearmanr(strengths, change).statistic > 0.9


def test_15_the_record_is_of_the_composited_picture(folders, tmp_path):
    """A latent pipeline, whose decoder alters what it should only pass on: what is written and scored is composited."""
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    Image.fromarray(mask).save(tmp_path / "map.png")
    request = Request(
        images=("shapes:0", "shapes:1"),
        model="domain:shapes/kandinsky22",
        method="guided",
        search="sweep strengths=0.05 skips=0.5",
        steps=8,
        map=str(tmp_path / "map.png"),
        editors=("change-map",),
    )
    records = list(explain(request, REGISTRY, out=tmp_path / "runs", pool=POOL))
    with ExitStack() as stack:
        desk, ready = Session(REGISTRY, POOL).desk(stack, prepare(request, REGISTRY))
        for record, one in zip(records, ready, strict=True):
            pixels = np.asarray(Image.open(record["counterfactual"]))
            assert (pixels[mask == 0] == one.item.pixels[mask == 0]).all() and (pixels != one.item.pixels).any()
            image = torch.from_numpy(pixels.transpose(2, 0, 1)[None] / 255).float()
            p = desk.classifier.probabilities(image)[0, one.target].item()
            assert record["p_target_after"] == pytest.approx(p, abs=1e-5)
            assert record["p_target_decoded"] != record["p_target_after"] and record["steps_left_out"] == 0
            saved = np.asarray(Image.open(record["counterfactual"].replace("counterfactual.png", "mask.png")))
            assert (saved == mask).all()
    assert json.dumps(records)


def test_an_all_kept_map_is_said_and_nothing_is_run(problem_of):
    free = problem_of(0)
    kept = under(free, torch.zeros(1, 1, 32, 32))
    assert "nothing was run" in kept.scene.items[0].notes[-1]


def test_a_map_by_name_needs_the_registry_and_the_plan_knows_its_needs(problem_of):
    with pytest.raises(ValueError, match=r"registry\.make"):
        ChangeMap(source="strips").on_problem(problem_of())
    assert REGISTRY.make("editor", "change-map source=attribution").wanted() == {"labels", "gradient"}
    assert REGISTRY.make("editor", "change-map").wanted() == {"map"}
    strong = REGISTRY.make("editor", "change-map source='strips strengths=1' strength=0.3").on_problem(problem_of())
    assert strong.scene.change_map.unique().tolist() == pytest.approx([0.3])


def test_other_methods_pieces_compose(problem_of):
    """A regularizer that keeps the background, guidance and a map in one walk."""
    free = problem_of(
        0,
        1,
        method="guided",
        regularizers=("background-l2 weight=1",),
        editors=("clamp", "change-map source='strips strengths=0,1'"),
        steps=6,
    )
    for editor in free.editors:
        free = editor.on_problem(free)
    assert free.scene.lock is not None
    found = free.search.run(free.with_(tau=0.99))
    still = (free.scene.change_map == 0).expand_as(found.x0)
    assert torch.equal(found.x0[still], free.scene.x0[still]) and not torch.equal(found.x0, free.scene.x0)
    assert replace(free.scene, lock=None).picture(found.x0).shape == free.scene.image.shape


METHODS = sorted(name for name, method in REGISTRY.entries["method"].items() if not method.control)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_what_the_map_keeps(method, tmp_path):
    """With its own pieces on the embedded pipeline that it prefers; the search is cut down as far as it goes."""
    mask = np.zeros((32, 32), np.uint8)
    mask[:, 10:] = 255
    Image.fromarray(mask).save(tmp_path / "map.png")
    search = "per-step strength=0.05" if REGISTRY.method(method).guidance else "once"
    search = {"h-space": "h-space rounds=1 refine=0"}.get(method, search)  # here the search is the method
    request = Request(
        images=("shapes:0", "shapes:2"),
        method=method,
        search=search,
        steps=5,
        map=str(tmp_path / "map.png"),
        editors=("change-map",),
    )
    records = list(explain(request, REGISTRY, out=tmp_path / "runs", pool=POOL))
    assert [record["failure"] for record in records] == [None, None]
    assert all(record["kept_max"] == 0 and record["l1"] > 0 for record in records)


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_black_pixels_of_a_photograph_keep_their_bytes_at_its_own_size(folders, tmp_path, fit):
    """A photograph of another size than the pipeline's: enlarging the change must not carry it over the map's edge."""
    from skimage import data

    photo = data.astronaut()[40:340, 60:460]
    y, x = np.mgrid[: photo.shape[0], : photo.shape[1]]
    mask = (((y - 120) ** 2 + (x - 165) ** 2 < 90**2) * 255).astype(np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    Image.fromarray(mask).save(tmp_path / "map.png")
    shared = {"images": (str(tmp_path / "photo.png"),), "model": folders("ddpm"), "classifier": "domain:shapes"}
    shared |= {"method": "guided", "steps": 4, "search": "per-step strength=0.1", "fit": fit, "force": True}
    (own,) = explain(
        Request(**shared, map=str(tmp_path / "map.png"), editors=("change-map",)),
        REGISTRY,
        out=tmp_path / "a",
        pool=POOL,
    )
    (coarse,) = explain(
        Request(**shared, editors=("change-map source='strips strengths=0,1'",)),
        REGISTRY,
        out=tmp_path / "b",
        pool=POOL,
    )
    changed = [
        np.ptp([photo, np.asarray(Image.open(photo_of(record)))], axis=0).max(-1) > 0 for record in (own, coarse)
    ]
    assert not changed[0][mask == 0].any() and changed[0][mask > 0].mean() > 0.5
    assert not changed[1][:, :140].any() and changed[1].mean() > 0.2


def photo_of(record):
    return record["counterfactual"].replace("counterfactual.png", "photo.png")


def test_a_map_that_no_piece_takes_is_held_and_one_that_a_piece_takes_is_left_to_it(tmp_path):
    registry = load_registry(third_party=False)
    Image.fromarray(np.full((32, 32), 255, np.uint8)).save(tmp_path / "map.png")
    request = Request(images=("shapes:0",), target="kiki", map=str(tmp_path / "map.png"))
    names = [editor.name for editor in prepare(request, registry).composition.editors]
    assert names == ["change-map"]
    soft = request.model_copy(update={"regularizers": ("background-l2",)})
    assert prepare(soft, registry).composition.editors == ()
