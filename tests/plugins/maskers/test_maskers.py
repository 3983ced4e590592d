"""Where maps come from: files, attributions, segments, attention, differences; and their algebra."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from counterlens.core.engine.prepare import prepare
from counterlens.core.engine.request import Request
from counterlens.core.errors import MissingError, PlanError, UsageError
from counterlens.core.images import map_ops
from counterlens.core.plugin.registry import load_registry
from counterlens.core.problem.masker import Sources
from counterlens.core.testing.tiny import tiny

REGISTRY = load_registry(third_party=False)


def masker(text):
    return REGISTRY.make("masker", text)


def saved(path, values, mode="L"):
    Image.fromarray(np.asarray(values), mode).save(path) if mode else None
    return str(path)


# --- algebra ----------------------------------------------------------------------------------------------------


def test_sources_are_joined_from_left_to_right(problem_of, tmp_path):
    left, top = np.zeros((2, 32, 32), np.uint8)
    left[:, :16], top[:16] = 255, 255
    a, b = saved(tmp_path / "a.png", left), saved(tmp_path / "b.png", top)
    problem = problem_of()

    def area(text):
        return Sources.read(text, REGISTRY.make).map(problem).mean().item()

    assert area(f"file path={a} or file path={b}") == 0.75
    assert area(f"file path={a} and file path={b}") == 0.25
    assert area(f"file path={a} except file path={b}") == 0.25
    assert area(f"file path={a} except file path={b} or file path={b}") == 0.75
    assert area(f"file path={a} cap=0.5") == 0.25 and area(f"file path={a} area=0.1") == pytest.approx(102 / 1024)
    with pytest.raises(UsageError, match="MASKER"):
        Sources.read("or strips", REGISTRY.make)
    with pytest.raises(UsageError, match="unknown masker 'strip'"):
        REGISTRY.make("editor", "change-map source=strip")


# --- files ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_4_both_polarities_of_one_map_give_the_same_bytes(problem_of, tmp_path):
    from counterlens.core.search.strength_search import walk

    values = np.zeros((32, 32), np.uint8)
    values[8:24, 4:20] = 255
    saved(tmp_path / "a.png", values), saved(tmp_path / "b.png", 255 - values)
    ends = []
    for name, white in (("a", "change"), ("b", "keep")):
        editor = REGISTRY.make("editor", f"change-map source='file path={tmp_path / name}.png white={white}'")
        problem = editor.on_problem(problem_of(steps=5))
        ends.append(walk(problem, problem.invert()))
    assert torch.equal(*ends)


@pytest.mark.parametrize("how", ["--map", "file"])
def test_size_and_emptiness_are_found_before_anything_is_loaded(tmp_path, how):
    small, black = saved(tmp_path / "s.png", np.full((16, 16), 255, np.uint8)), tmp_path / "b.png"
    saved(black, np.zeros((32, 32), np.uint8))

    def ask(path, more=""):
        if how == "--map":
            return prepare(Request(images=("shapes:0",), map=str(path), editors=("change-map",)), REGISTRY)
        return prepare(
            Request(images=("shapes:0",), editors=(f"change-map source='file path={path}{more}'",)), REGISTRY
        )

    with pytest.raises(UsageError, match="16x16 and shapes:0 is 32x32"):
        ask(small)
    with pytest.raises(UsageError, match="locks every pixel"):
        ask(black)
    if how == "file":
        assert ask(small, " fit=squash") and ask(black, " invert=true")
        with pytest.raises(UsageError, match="locks every pixel"):
            ask(saved(tmp_path / "w.png", np.full((32, 32), 255, np.uint8)), " white=keep")


def test_a_map_of_another_size_is_fitted_when_allowed_and_black_stays_black(problem_of, tmp_path):
    values = np.zeros((64, 128), np.uint8)
    values[:, 64:] = 255
    path = saved(tmp_path / "wide.png", values)
    for policy, area in (("crop", 0.5), ("squash", 0.5), ("pad", 0.25)):
        change = masker(f"file path={path} fit={policy}").mask(problem_of().scene)
        assert change.shape == (1, 1, 32, 32) and change.mean() == pytest.approx(area)
        assert set(change.unique().tolist()) == {0.0, 1.0}


def test_every_picture_can_have_its_own_map(problem_of, tmp_path):
    for index, value in ((0, 100), (1, 200)):
        saved(tmp_path / f"map{index}.png", np.full((32, 32), value, np.uint8))
    change = masker(f"file path={tmp_path}/map{{index}}.png").mask(problem_of(0, 1).scene)
    torch.testing.assert_close(change.mean((1, 2, 3)), torch.tensor([100, 200]) / 255)


def test_shares_that_look_like_a_wrong_polarity_are_said(problem_of, tmp_path):
    for size, said in ((31, "is its polarity right"), (2, "is its polarity right"), (12, None)):
        values = np.zeros((32, 32), np.uint8)
        values[: size if size < 31 else 32, : size if size < 31 else 32] = 255
        path = saved(tmp_path / "m.png", values)
        editor = REGISTRY.make("editor", f"change-map source='file path={path}'")
        (item,) = editor.on_problem(problem_of()).scene.items
        assert any(said in note for note in item.notes) if said else not item.notes


# --- attribution ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["integrated-gradients", "occlusion", "gradient-shap", "grad-cam"])
def test_attributions_find_the_shape_and_do_not_depend_on_neighbours(problem_of, method):
    both, one = problem_of(0, 2), problem_of(2)
    piece = masker(f"attribution method={method} area=0.2")
    change = piece.map(both)
    assert change.shape == (2, 1, 32, 32) and (change > 0).float().mean((1, 2, 3)).max() <= 0.2
    torch.testing.assert_close(piece.map(one), change[1:], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(piece.map(both), change, atol=0, rtol=0)
    background = both.scene.image[:, :, :1, :1]
    figure = ((both.scene.image - background).abs().amax(1, keepdim=True) > 0.2).float()
    near = map_ops.grown(figure, 3)
    on, everywhere = (change * near).sum() / change.sum(), near.mean()
    assert on > 1.2 * everywhere, (on, everywhere)


def test_a_black_box_can_only_be_occluded(problem_of):
    assert masker("attribution method=occlusion").wanted() == {"labels"}
    assert "gradient" in masker("attribution").wanted()
    problem = problem_of()
    classifier = replace(problem.scene.resources.classifier, differentiable=False)
    scene = replace(problem.scene, resources=replace(problem.scene.resources, classifier=classifier))
    with pytest.raises(PlanError, match="black box"):
        masker("attribution").mask(scene)
    assert masker("attribution method=occlusion").mask(scene).max() == 1


# --- segments ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_sam(tmp_path_factory):
    """Random weights of Segment Anything's own architecture, with an image encoder of one narrow layer."""
    from safetensors.torch import save_file
    from segment_anything.build_sam import _build_sam

    def build(checkpoint=None):
        return _build_sam(16, 1, 2, [0], checkpoint)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = build().state_dict()
    folder = tmp_path_factory.mktemp("sam")
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / "sam.safetensors")
    torch.save(weights, folder / "sam.pth")
    return folder, build


def test_sam_segments_at_points_in_boxes_and_everything(problem_of, small_sam, monkeypatch):
    import segment_anything

    from counterlens.plugins.maskers import sam

    folder, build = small_sam
    monkeypatch.setitem(sam.WIDTHS, 16, "tiny")
    monkeypatch.setitem(segment_anything.sam_model_registry, "tiny", build)
    scene = problem_of().scene
    found = [
        masker(f"sam checkpoint={folder}/{name} {how}").mask(scene)
        for name, how in (
            ("sam.safetensors", "points=16,16"),
            ("sam.pth", "points=16,16"),
            ("sam.pth", "boxes=4,4,20,20,1,1,9,9 points=8,8 outside=30,30"),
            ("sam.pth", "side=2 sure=0"),
        )
    ]
    for change in found:
        assert change.shape == (1, 1, 32, 32) and set(change.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(found[0], found[1])
    assert "gradient" in masker(f"sam checkpoint={folder}/sam.pth").wanted()
    scene = problem_of(0, model="domain:shapes/stable-diffusion", method="reconstruct", prompt="a bouba", steps=8).scene
    change = masker(f"sam checkpoint={folder}/sam.pth words={{source}}").mask(scene)
    assert change.shape == (1, 1, 32, 32) and set(change.unique().tolist()) <= {0.0, 1.0}


def test_sam_checkpoints_that_are_missing_or_of_another_kind(tmp_path, small_sam):
    def ask(text):
        return prepare(Request(images=("shapes:0",), editors=(f"change-map source='{text}'",)), REGISTRY)

    with pytest.raises(MissingError, match="does not exist"):
        ask(f"sam checkpoint={tmp_path}/none.pth")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("hello")
    for name in (str(tmp_path / "other.pth"), str(small_sam[0] / "sam.safetensors")):
        with pytest.raises(UsageError, match="no checkpoint of Segment Anything"):
            ask(f"sam checkpoint={name}")
    with pytest.raises(UsageError, match="cannot be read as weights"):
        ask(f"sam checkpoint={tmp_path}/text.pth")
    with pytest.raises(UsageError, match="pairs"):
        ask(f"sam checkpoint={small_sam[0]}/sam.pth points=1,2,3")
    with pytest.raises(MissingError, match="give the model's folder"):
        ask(f"sam-hq checkpoint={tmp_path} points=1,2")
    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    with pytest.raises(UsageError, match="'sam' and not a 'sam_hq'"):
        ask(f"sam-hq checkpoint={tmp_path} points=1,2")
    with pytest.raises(UsageError, match="say where"):
        ask(f"sam-hq checkpoint={tmp_path}")


def small_sam_hq(folder):
    """Random weights of SAM-HQ, saved in transformers' layout."""
    from transformers import SamHQConfig, SamHQModel, SamHQProcessor, SamImageProcessor

    from counterlens.core.models.loading import quiet

    vision = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64, "patch_size": 16}
    vision |= {"output_channels": 8, "mlp_dim": 16, "window_size": 2, "global_attn_indexes": [0, 1], "num_pos_feats": 4}
    prompt = {"hidden_size": 8, "image_size": 64, "patch_size": 16, "mask_input_channels": 4}
    decoder = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 16, "vit_dim": 16}
    decoder |= {"iou_head_hidden_dim": 8}
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(0)
        model = SamHQModel(SamHQConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder))
        model.save_pretrained(folder)
        images = SamImageProcessor(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})
        SamHQProcessor(images).save_pretrained(folder)
    return folder


def test_sam_hq_is_the_library_s_own(problem_of, tmp_path):
    small_sam_hq(tmp_path)
    piece = masker(f"sam-hq checkpoint={tmp_path} points=16,16 outside=1,1 boxes=2,2,20,20")
    piece.check(())
    change = piece.mask(problem_of(0, 1).scene)
    assert change.shape == (2, 1, 32, 32) and set(change.unique().tolist()) <= {0.0, 1.0}


# --- attention and differences ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["stable-diffusion", "sdxl", "deepfloyd-if"])
def test_cross_attention_of_words(problem_of, tmp_path, family):
    folder = tiny(family, tmp_path / family)
    problem = problem_of(0, 1, model=str(folder), prompt="a red disc", method="reconstruct", steps=8)
    words, everything = masker("cross-attention words=red"), masker("cross-attention")
    change = words.mask(problem.scene)
    assert change.shape == (2, 1, *problem.scene.image.shape[-2:]) and change.max() == 1 and change.min() == 0
    assert not torch.equal(change, everything.mask(problem.scene))
    torch.testing.assert_close(words.mask(problem.scene.take([1])), change[1:], atol=1e-3, rtol=1e-3)
    with pytest.raises(UsageError, match="no words 'blue'"):
        masker("cross-attention words=blue").mask(problem.scene)


def test_cross_attention_needs_words():
    with pytest.raises(PlanError, match=r"needs '(cross-attention|text)'"):
        prepare(
            Request(images=("shapes:0",), model="domain:shapes/ddpm", editors=("change-map source=cross-attention",)),
            REGISTRY,
        )


def test_the_difference_is_cut_down_to_what_still_flips(problem_of):
    problem = problem_of(0, 1, search="sweep strengths=0.025,0.05 skips=0.5", steps=12)
    whole, least = (masker(f"difference rounds={rounds}").map(problem) for rounds in (0, 2))
    assert whole.mean((1, 2, 3)) == pytest.approx([0.5, 0.5])
    assert ((least == 0) | (least == 1)).all() and (least <= whole).all()
    assert (least.mean((1, 2, 3)) < 0.4).all()
    editor = REGISTRY.make("editor", "change-map source='difference rounds=2'")
    under = editor.on_problem(problem)
    p = under.target_of(under.score(under.search.run(under).x0))
    assert (p >= problem.tau).all()


def test_strips_are_a_fan(problem_of):
    scene = problem_of().scene
    across = masker("strips strengths=0,0.5,1,0.25").mask(scene)[0, 0]
    assert across[0, ::8].tolist() == [0, 0.5, 1, 0.25] and torch.equal(across[0], across[31])
    down = masker("strips strengths=0,1 along=y").mask(scene)[0, 0]
    assert down[:16].max() == 0 and down[16:].min() == 1
    assert math.isclose(masker("strips strengths=1 cap=0.3").map(problem_of()).mean().item(), 0.3, rel_tol=1e-6)


# --- words to segments ------------------------------------------------------------------------------------------


def test_c5_points_are_distinct_above_the_limit_spread_and_seeded():
    """C5: the published code works out a spread-out mixture, then draws from the raw map; points may coincide."""
    from counterlens.plugins.maskers.point_prompts import sampled

    plane = np.zeros((20, 20), np.float32)
    plane[:4, :4], plane[18, 18], plane[10, 10] = 0.9, 0.5, 0.3
    both = 0
    for seed in range(50):
        points = sampled(plane, 2, 0.35, seed)
        assert len({tuple(p) for p in points}) == 2 and all(plane[int(y), int(x)] > 0.35 for x, y in points)
        assert points == sampled(plane, 2, 0.35, seed)
        both += [18.0, 18.0] in points
    assert both > 40  # 17 places; drawn from the raw map the lone far one is in about 7 %
    assert len(sampled(plane, 99, 0.35, 0)) == 17
    with pytest.raises(UsageError, match="nowhere above"):
        sampled(np.zeros((4, 4)), 5, 0.35, 0)


def test_squash_and_mask_prompt_by_hand():
    from counterlens.plugins.maskers.cross_attention import squashed
    from counterlens.plugins.maskers.point_prompts import low_resolution

    c = torch.tensor([0.0, 0.3, 0.475, 1.0])
    torch.testing.assert_close(squashed(c, "sqrt_0.3"), torch.tensor([0, 0, 0.5, 1.0]))
    assert torch.equal(squashed(c, "none"), c)
    low = low_resolution(torch.ones(2, 4), 8)
    assert low.shape == (1, 8, 8) and (low[:, :4] > 4).all() and (low[:, 4:] < -4).all()


def test_c8_labels_with_dots_and_slashes_are_found_and_others_are_not():
    """C8: words that were not found made the published mask NaN; '.' was a KeyError, '/' made folders."""
    from counterlens.plugins.maskers.cross_attention import places

    for label in ("Bugatti Veyron 16.4", "Ram C/V", "Chevrolet Conv."):
        prompt = f"a photo of a {label} on a road"
        ((start, end),) = places(prompt, label)
        assert prompt[start:end] == label
    assert places("a red bouba in a cabinet", "cab") == [] == places("a red disc", "red square")
    assert places("a red round disc", "red disc") == [(2, 5), (12, 16)]


def test_c8_words_of_the_class_become_a_segment_or_one_line(problem_of, tmp_path):
    """C8: a word that is not in the prompt is named, never a mask of NaN; the model is opened once a run."""
    folder = small_sam_hq(tmp_path)
    shown = {"model": "domain:shapes/stable-diffusion", "method": "reconstruct", "steps": 8}
    scene = problem_of(0, 1, prompt="a photo of a bouba and a kiki", **shown).scene
    piece = masker(f"sam-hq checkpoint={folder} words={{source}}")
    assert {"cross-attention", "text"} <= piece.wanted()
    change = piece.mask(scene)
    assert change.shape == (2, 1, 32, 32) and set(change.unique().tolist()) <= {0.0, 1.0}
    kept = scene.resources.memo["sam-hq", str(folder)]
    assert torch.equal(piece.mask(scene), change) and scene.resources.memo["sam-hq", str(folder)] is kept
    assert torch.equal(piece.mask(scene.take([1])), change[1:])
    for words in ("sam-hq checkpoint=" + str(folder), "cross-attention"):
        with pytest.raises(UsageError, match="no words 'cab'") as caught:
            masker(f"{words} words=cab").mask(scene)
        assert "\n" not in str(caught.value)
