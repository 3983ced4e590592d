"""Every regularizer against values computed by hand."""

from types import SimpleNamespace

import pytest
import torch

from counterlens.core.errors import MissingError, UsageError
from counterlens.core.models.clip import open_clip
from counterlens.core.models.lpips import lpips
from counterlens.core.problem.view import View
from counterlens.core.testing.tiny import WIDTH
from counterlens.core.testing.tokenizers import clip_tokenizer
from counterlens.core.utils.memo import Memo
from counterlens.plugins.guidance.clip_text import ClipText
from counterlens.plugins.regularizers import distance, perceptual
from counterlens.plugins.regularizers.regions import BACKGROUND, FOREGROUND, regional

IMAGE = torch.tensor([[0.0, 0.2], [0.4, -0.6]]).expand(1, 3, 2, 2)
NOW = torch.tensor([[0.5, 0.2], [0.0, 0.0]]).expand(1, 3, 2, 2)
# |difference|: 0.5, 0, 0.4, 0.6; the map below frees the left column, and half of the lower right
MAP = torch.tensor([[1.0, 0.0], [1.0, 0.5]]).view(1, 1, 2, 2)


def view_of(now=NOW, image=IMAGE, change=MAP):
    """Latents and pixels are the same thing here, but for a factor of 2."""
    scene = SimpleNamespace(
        image=image, x0=2 * image, change_map=change, picture=lambda x: x / 2, resources=SimpleNamespace(memo=Memo())
    )
    return View(2 * now, scene)


CASES = [
    (distance.L1Penalty, 0.375),
    (distance.L2Penalty, (0.25 + 0.16 + 0.36) / 4),
    (regional(distance.L1Penalty, BACKGROUND), (0 + 0.5 * 0.6) / 1.5),
    (regional(distance.L2Penalty, BACKGROUND), 0.5 * 0.36 / 1.5),
    (regional(distance.L1Penalty, FOREGROUND), (0.5 + 0.4 + 0.5 * 0.6) / 2.5),
    (regional(distance.L2Penalty, FOREGROUND), (0.25 + 0.16 + 0.5 * 0.36) / 2.5),
]


@pytest.mark.parametrize(("piece", "want"), CASES)
def test_pixel_distances_by_hand(piece, want):
    assert float(piece()(view_of(), None)) == pytest.approx(want, abs=1e-6)
    half = 0.5**piece.power
    assert float(piece(range="unit")(view_of(), None)) == pytest.approx(half * want, abs=1e-6)


@pytest.mark.parametrize(("piece", "want"), CASES)
def test_latent_distances_by_hand(piece, want):
    twice = 2**piece.power
    assert float(piece(space="latent")(view_of(), None)) == pytest.approx(twice * want, abs=1e-6)
    assert float(piece(space="latent", range="unit")(view_of(), None)) == pytest.approx(twice * want, abs=1e-6)


@pytest.mark.parametrize(
    ("piece", "want"),
    [(regional(distance.L1Penalty, BACKGROUND), 0.3 / 4), (regional(distance.L2Penalty, FOREGROUND), 0.59 / 4)],
)
def test_parity_divides_by_the_whole_image(piece, want):
    assert float(piece(area="image")(view_of(), None)) == pytest.approx(want, abs=1e-6)


def test_a_masked_distance_does_not_depend_on_the_objects_size_c15():
    """Defect C15: divided by the whole image, a background's penalty fell with the background's share of it."""
    off = torch.full((1, 3, 4, 4), 0.2)
    small, large = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    small[..., :1, :1], large[..., :3, :] = 1, 1
    views = [view_of(off, torch.zeros_like(off), change) for change in (small, large)]
    one, other = (float(regional(distance.L2Penalty, BACKGROUND)()(view, None)) for view in views)
    assert one == pytest.approx(other) == pytest.approx(0.04)
    assert float(regional(distance.L2Penalty, BACKGROUND)(area="image")(views[1], None)) < 0.3 * 0.04


def test_a_full_or_empty_map_gives_zero_and_not_nan():
    for change in (torch.ones_like(MAP), torch.zeros_like(MAP)):
        for piece in (regional(distance.L1Penalty, BACKGROUND)(), regional(distance.L1Penalty, FOREGROUND)()):
            assert torch.isfinite(piece(view_of(change=change), None)).all()


def network():
    """One layer, the identity: features of unit length are the channels' direction, every head's weight is 2."""
    return lpips(torch.nn.Sequential(torch.nn.Identity()), (0,), [torch.full((1, 3, 1, 1), 2.0)])


def lpips_by_hand(x, y):
    from counterlens.core.models.lpips import SCALE, SHIFT

    shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in (SHIFT, SCALE))
    a, b = ((v - shift) / scale for v in (x, y))
    a, b = (v / v.square().sum(1, keepdim=True).sqrt() for v in (a, b))
    return 2 * (a - b).square().sum(1)[0]  # [2,2]


@pytest.mark.parametrize(
    ("piece", "area"),
    [(perceptual.LpipsPenalty, "map"), (regional(perceptual.LpipsPenalty, BACKGROUND), "map"),
     (regional(perceptual.LpipsPenalty, FOREGROUND), "map"),
     (regional(perceptual.LpipsPenalty, BACKGROUND), "image")],
)  # fmt: skip
def test_lpips_by_hand(piece, area):
    x, y = torch.rand(1, 3, 2, 2) - 0.5, torch.rand(1, 3, 2, 2) - 0.5
    view = view_of(x, y)
    view.scene.resources.memo["lpips", "alex", ""] = network()
    cost, m = (
        lpips_by_hand(x, y),
        MAP[0, 0] if piece is regional(perceptual.LpipsPenalty, FOREGROUND) else 1 - MAP[0, 0],
    )
    want = cost.mean() if piece is perceptual.LpipsPenalty else (m * cost).sum() / m.sum()
    want = (m**2 * cost).mean() if area == "image" else want  # as published: the mask enters squared
    assert float(piece(area=area)(view, None)) == pytest.approx(float(want), abs=1e-5)


def test_lpips_without_weights_is_refused_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingError, match="give weights=PATH"):
        perceptual.LpipsPenalty().check(())


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    folder = tmp_path_factory.mktemp("clip")
    tokenizer = clip_tokenizer(folder)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {
        **sizes,
        "vocab_size": len(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
        "max_position_embeddings": 77,
    }
    torch.manual_seed(1)
    config = CLIPConfig(text_config=text, vision_config={**sizes, "image_size": 16, "patch_size": 8}, projection_dim=6)
    CLIPModel(config).save_pretrained(folder)
    crop = {"height": 16, "width": 16}
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=crop).save_pretrained(folder)
    return folder


def clip_view(change):
    g = torch.Generator().manual_seed(3)
    now, image = (torch.rand(1, 3, 16, 16, generator=g) - 0.5 for _ in range(2))
    view = view_of(now, image, change)
    view.scene.resources.classifier = SimpleNamespace(labels=("cat", "dog"))
    view.scene.source, view.scene.target = torch.tensor([0]), torch.tensor([1])
    return view


@pytest.mark.parametrize(
    "piece",
    [
        perceptual.ClipPenalty,
        regional(perceptual.ClipPenalty, BACKGROUND),
        regional(perceptual.ClipPenalty, FOREGROUND),
    ],
)
def test_clip_patches_by_hand(clip_folder, piece):
    change = torch.zeros(1, 1, 16, 16)
    change[..., :8, :8] = 1.0  # the first of four patches
    view = clip_view(change)
    clip = open_clip(clip_folder, "cpu")
    model, ends = clip.model, []
    for image in (view.shown, view.scene.image / 2 + 0.5):
        pixels = (image - torch.tensor(clip.mean).view(1, 3, 1, 1)) / torch.tensor(clip.std).view(1, 3, 1, 1)
        tokens = model.vision_model(pixel_values=pixels).last_hidden_state[0, 1:]  # [4,C]
        some = {"clip": tokens, "background-clip": tokens[1:], "foreground-clip": tokens[:1]}[piece.name]
        ends.append(model.visual_projection(model.vision_model.post_layernorm(some.mean(0))))
    want = 1 - torch.nn.functional.cosine_similarity(*ends, dim=0)
    assert float(piece(checkpoint=str(clip_folder))(view, None)) == pytest.approx(float(want), abs=1e-5)


def test_clip_text_by_hand():
    e, t, other = (torch.tensor([v]) for v in ([1.0, 0.0], [0.6, 0.8], [0.0, 1.0]))
    make = {"checkpoint": "x", "against": "y"}
    assert float(ClipText(**make, loss="inner-product", factor=3).value(e, t)) == pytest.approx(-1.8)
    angle = torch.acos(torch.tensor(0.6))  # 2·arcsin(|e - t|/2)² = angle²/2
    assert float(ClipText(**make, loss="spherical").value(e, t)) == pytest.approx(float(angle**2 / 2), abs=1e-6)
    want = torch.nn.functional.cross_entropy(torch.tensor([[1.2, 0.0]]), torch.tensor([0]))
    assert float(ClipText(**make, loss="cross-entropy", factor=2).value(e, t, other)) == pytest.approx(
        float(want), abs=1e-6
    )


def test_clip_text_has_a_gradient_toward_its_text(clip_folder):
    view = clip_view(None)
    view = View(view.x0.requires_grad_(), view.scene)
    piece = ClipText(checkpoint=str(clip_folder), prompt="a {target}")
    before = piece(view, None)
    (g,) = torch.autograd.grad(before.sum(), view.x0)
    assert float(piece(View(view.x0.detach() - 0.1 * g / g.norm(), view.scene), None)) < float(before)


def test_clip_refuses_what_is_not_there_and_texts_that_are_too_long(clip_folder, tmp_path):
    with pytest.raises(MissingError, match=r"no config.json"):
        perceptual.ClipPenalty(checkpoint=str(tmp_path)).check(())
    with pytest.raises(UsageError, match="CLIP reads 77"):
        open_clip(clip_folder, "cpu").texts(["a" * 90])
    with pytest.raises(ValueError, match="give against="):
        ClipText(checkpoint="x", loss="cross-entropy")
