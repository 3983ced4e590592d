"""Extractors that need weights: architectures against other implementations with shared random weights."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from counterlens.core.errors import MissingError, UsageError
from counterlens.core.metrics.context import Context, features_missing
from counterlens.core.metrics.evaluate import unavailable
from counterlens.core.testing.pairs import pair
from counterlens.plugins.metrics.extractors import ADVICE, inception, simsiam, vggface2
from counterlens.plugins.metrics.network.similarity import S3
from counterlens.plugins.metrics.sets.fid import Fid, SpatialFid


def random(seed, size=48):
    return torch.rand(3, size, size, generator=torch.Generator().manual_seed(seed))


def saved(net, path, prefix="", seed=0):
    """The network with random weights of a usual size (batch norm included), in a file."""
    torch.manual_seed(seed)
    state = {}
    for key, value in net.state_dict().items():
        if value.ndim > 1:
            fan = value[0].numel()
            value = torch.randn_like(value) * (2 / fan) ** 0.5
        elif key.endswith(("running_var", "bn.weight")):
            value = torch.rand_like(value) + 0.5
        elif value.is_floating_point():
            value = torch.randn_like(value) * 0.1
        state[prefix + key] = value.contiguous()
    save_file(state, path)
    return path


@pytest.fixture(scope="module")
def fid_weights(tmp_path_factory):
    return saved(inception.network(), tmp_path_factory.mktemp("inception") / "inception.safetensors")


def test_inception_is_that_of_torch_fidelity(fid_weights, tmp_path, registry):
    """Its network is built without its own weights, and given the same random ones and resized pictures."""
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    weights = load_file(fid_weights)
    torch.save(weights, tmp_path / "weights.pth")
    theirs = fidelity.FeatureExtractorInceptionV3(
        "inception", ["2048"], feature_extractor_weights_path=str(tmp_path / "weights.pth")
    ).eval()
    images = torch.stack([random(k, 299) for k in range(2)])
    images = (images * 255).round() / 255
    with torch.no_grad():
        (reference,) = theirs((images * 255).byte())
    mine = Context(registry, weights={"inception": str(fid_weights)}).features("inception").of(images)
    # it maps pictures by (x - 128) / 128, pytorch-fid and this one by 2x - 1
    shifted = ((images * 255 - 128) / 128 + 1) / 2
    exact = Context(registry, weights={"inception": str(fid_weights)}).features("inception").of(shifted)
    assert torch.allclose(exact, reference, rtol=1e-3, atol=1e-4 * float(reference.abs().max()))
    assert torch.nn.functional.cosine_similarity(mine, reference).min() > 0.999


def test_spatial_features_are_the_first_channels_of_a_map(fid_weights, registry):
    context = Context(registry)
    found = context.features(f"inception:{fid_weights}/spatial").of([random(0)])
    assert found.shape == (1, inception.SPATIAL * 17 * 17) and found.min() >= 0


def test_weights_that_are_not_given_are_named(registry):
    context = Context(registry)
    assert "pt_inception-2015-12-05" in unavailable([Fid(features="inception")], context)["fid"]
    assert "nowhere does not exist" in unavailable([SpatialFid(features="inception:nowhere")], context)["spatial_fid"]
    assert "SimSiam" in unavailable([S3()], context)["s3"]
    for scheme in ADVICE:
        assert features_missing(scheme, context)
    with pytest.raises(MissingError, match="VGGFace2"):
        context.features("vggface2")


def test_unknown_features_are_refused_before_anything_runs(registry):
    with pytest.raises(UsageError, match="unknown features 'inceptoin': did you mean 'inception'"):
        unavailable([Fid(features="inceptoin")], Context(registry))
    assert unavailable([Fid(features="timm:resnet18")], Context(registry)) == {}


def test_damaged_and_foreign_weights_are_refused(fid_weights, registry, tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(fid_weights.read_bytes()[:1000])
    with pytest.raises(UsageError, match="not a whole safetensors file"):
        Context(registry).features(f"inception:{tmp_path / 'cut.safetensors'}")
    with pytest.raises(UsageError, match="another architecture"):
        Context(registry).features(f"vggface2:{fid_weights}")
    (tmp_path / "inception.pth").write_bytes(b"x")
    with pytest.raises(UsageError, match="pickle"):
        Context(registry).features(f"inception:{tmp_path / 'inception.pth'}")


def test_vggface2_strides_in_its_first_convolutions(registry, tmp_path, measure):
    path = saved(vggface2.network(), tmp_path / "face.safetensors")
    net = vggface2.network()
    x = torch.zeros(1, 3, 224, 224)
    sizes = []
    for name in ("maxpool", "layer1", "layer2", "layer3", "layer4"):
        net.get_submodule(name).register_forward_hook(lambda _, __, out: sizes.append(out.shape[-1]))
    net.eval()(x)
    assert sizes == [56, 56, 28, 14, 7] and net.layer3[0].conv1.stride == (2, 2)
    context = Context(registry, weights={"vggface2": str(path)})
    pairs = [pair(random(0), random(0)), pair(random(0), random(1))]
    same, other = measure("fs", pairs, context)
    assert same == pytest.approx(1, abs=1e-6) and other < 1
    assert measure("fva", pairs, context, threshold=(same + other) / 2) == [1, 0]


def test_simsiam_takes_the_encoder_of_a_checkpoint(registry, tmp_path, measure):
    """The published files also hold the predictor, under ``module.``."""
    path = saved(simsiam.network(), tmp_path / "simsiam.safetensors", "module.encoder.")
    tensors = load_file(path) | {"module.predictor.0.weight": torch.zeros(2, 2)}
    save_file(tensors, path)
    context = Context(registry, weights={"simsiam": str(path)})
    same, other = measure("s3", [pair(random(0), random(0)), pair(random(0), random(1))], context)
    assert same == pytest.approx(1, abs=1e-6) and other < same


def test_clip_is_that_of_transformers(registry, tmp_path):
    from PIL import Image
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = CLIPVisionModelWithProjection(
        CLIPVisionConfig(**size, image_size=32, patch_size=8, projection_dim=12)
    ).eval()
    model.save_pretrained(tmp_path / "clip")
    image = (random(0, 40) * 255).round().byte()
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    prepared = processor(Image.fromarray(image.permute(1, 2, 0).numpy()), return_tensors="pt")
    reference = model(**prepared).image_embeds.detach()
    found = Context(registry).features(f"clip:{tmp_path / 'clip'}").of([image / 255])
    assert torch.nn.functional.cosine_similarity(found, reference).item() > 0.999
    assert torch.allclose(found, reference, atol=0.05)
    with pytest.raises(UsageError, match="no CLIP model"):
        (tmp_path / "empty").mkdir()
        Context(registry).features(f"clip:{tmp_path / 'empty'}")


def test_cosine_of_a_judges_features(registry, measure):
    context = Context(registry, judge_uri="domain:shapes-judge")
    same, other = measure("cosine", [pair(random(0, 32), random(0, 32)), pair(random(0, 32), random(1, 32))], context)
    assert same == pytest.approx(1) and other < 1
