"""Every way a folder or an id can be wrong: one line, before anything heavy is loaded, with the right exit code."""

import json
import shutil
import subprocess
import sys

import pytest

from counterlens.core.errors import MissingError, UsageError
from counterlens.core.models import hub
from counterlens.core.models.pool import Key


@pytest.fixture
def folder(world, tmp_path):
    """A copy of a whole pipeline, to be spoilt."""
    return shutil.copytree(world.folder("stable-diffusion"), tmp_path / "model")


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def drop(path, *names):
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k not in names}))


def remove_part(folder):
    shutil.rmtree(folder / "vae")


def truncate(folder):
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def empty_file(folder):
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"")


def only_pickles(folder):
    path = folder / "text_encoder" / "model.safetensors"
    path.rename(path.with_name("pytorch_model.bin"))


def no_weights(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()


def only_half(folder):
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_name("diffusion_pytorch_model.fp16.safetensors"))


def missing_key(folder):
    from safetensors.torch import load_file, save_file

    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors.pop("conv_in.bias")
    save_file(tensors, path, {"format": "pt"})


def wrong_width(folder):
    edit(folder / "unet" / "config.json", cross_attention_dim=12)


def nine_channels(folder):
    edit(folder / "unet" / "config.json", in_channels=9)


def left_out(folder):
    edit(folder / "model_index.json", vae=[None, None])


def strange_library(folder):
    edit(folder / "model_index.json", unet=["my_module", "MyUNet"])


def strange_class(folder):
    edit(folder / "model_index.json", unet=["diffusers", "UNetOfTomorrow"])


def broken_config(folder):
    (folder / "unet" / "config.json").write_text("{")


def shard_gone(folder):
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.unlink()
    names = {"a": "m-00001-of-00002.safetensors", "b": "m-00002-of-00002.safetensors"}
    path.with_name(f"{path.name}.index.json").write_text(json.dumps({"weight_map": names}))


def no_vocabulary(folder):
    shutil.rmtree(folder / "tokenizer")


BAD = {
    remove_part: (MissingError, "has no folder vae/"),
    truncate: (MissingError, "weights of part 'unet' are damaged"),
    empty_file: (MissingError, "weights of part 'vae' are damaged"),
    only_pickles: (UsageError, "only pytorch_model.bin, a pickle"),
    no_weights: (MissingError, r"unet has no weights \(\*.safetensors\)"),
    only_half: (MissingError, "only weights of variant 'fp16': use --variant fp16"),
    missing_key: (UsageError, "weights of part 'unet' .* lack 'conv_in.bias'"),
    wrong_width: (UsageError, "part 'unet' .* does not load"),
    nine_channels: (UsageError, "U-Net takes 9 channels and the autoencoder gives 4: an inpainting"),
    left_out: (MissingError, "part 'vae' is left out"),
    strange_library: (UsageError, "'unet' is of my_module.MyUNet: only diffusers and transformers"),
    strange_class: (MissingError, "'unet' is a UNetOfTomorrow, which the installed diffusers does not have"),
    broken_config: (UsageError, "config.json is not readable JSON"),
    shard_gone: (MissingError, "lacks m-00001-of-00002.safetensors of 2 weight files"),
    no_vocabulary: (MissingError, "has no folder tokenizer/"),
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda f: f.__name__)
def test_a_bad_folder(folder, spoil, open_pipeline):
    kind, message = BAD[spoil]
    spoil(folder)
    with pytest.raises(kind, match=message) as caught:
        open_pipeline("stable-diffusion", folder)
    assert "\n" not in str(caught.value)


def test_a_variant_is_used_and_must_be_there(folder, open_pipeline):
    with pytest.raises(MissingError, match="no weights of variant 'fp16': leave --variant out"):
        open_pipeline("stable-diffusion", folder, variant="fp16")
    for part in ("unet", "vae", "text_encoder"):
        (path,) = (folder / part).glob("*.safetensors")
        path.rename(path.with_name(f"{path.stem}.fp16.safetensors"))
    assert open_pipeline("stable-diffusion", folder, variant="fp16").size == (16, 16)


def test_parts_that_are_not_needed_need_not_be_there(folder, open_pipeline):
    edit(folder / "model_index.json", safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    assert open_pipeline("stable-diffusion", folder).size == (16, 16)


def test_unknown_dtype_and_adapters(folder, open_pipeline):
    with pytest.raises(UsageError, match="unknown dtype 'float61': did you mean 'float16'"):
        open_pipeline("stable-diffusion", folder, dtype="float61")
    with pytest.raises(MissingError, match="adapter style: there is no such folder"):
        open_pipeline("stable-diffusion", folder, adapters=("style",))


def test_what_is_no_pipeline_folder(tmp_path, folder):
    for model, message in (
        (tmp_path, "has no model_index.json: a pipeline folder has .* did you mean .*model"),
        (folder / "model_index.json", "is a file: a pipeline folder"),
        (tmp_path / "nowhere", "is neither a folder that exists nor a hub id"),
    ):
        with pytest.raises(UsageError, match=message):
            hub.read_index(str(model))
    drop(folder / "model_index.json", "_class_name")
    with pytest.raises(UsageError, match="names no pipeline class"):
        hub.read_index(str(folder))
    (folder / "model_index.json").write_text("[]")
    with pytest.raises(UsageError, match="not a JSON object"):
        hub.read_index(str(folder))


def test_a_single_file_checkpoint_is_recognised(tmp_path):
    (tmp_path / "v1-5.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match=r"v1-5.safetensors is a single-file checkpoint: convert it"):
        hub.read_index(str(tmp_path))


def test_families_recognise_their_folders(world):
    from counterlens.core.plugin.registry import load_registry

    registry = load_registry(third_party=False)
    for family in registry.entries["family"]:
        assert registry.recognise(hub.read_index(str(world.folder(family)))) == family
    with pytest.raises(UsageError, match=r"unknown pipeline class 'FluxPipeline': .*StableDiffusionPipeline"):
        registry.recognise({"_class_name": "FluxPipeline"})


def test_where_kandinsky_looks_for_its_image_encoder(world, tmp_path, open_pipeline):
    from counterlens.plugins.families.kandinsky22 import prior_of

    whole = world.folder("kandinsky22")
    prior = whole.with_name(f"{whole.name}-prior")
    folder = shutil.copytree(whole, tmp_path / "decoder")
    with pytest.raises(MissingError, match=r"has no image encoder: neither .*decoder-prior/image_encoder"):
        open_pipeline("kandinsky22", folder)
    assert prior_of(Key(str(folder), options=frozenset({("prior", str(prior))}))) == prior
    for part in ("image_encoder", "image_processor"):
        shutil.copytree(prior / part, folder / part)
    assert prior_of(Key(str(folder))) == folder
    assert open_pipeline("kandinsky22", folder).size == (16, 16)
    with pytest.raises(MissingError, match="say where its image encoder is with --prior"):
        prior_of(Key("somebody/decoder"))


def test_families_load_without_torch():
    code = (
        "import sys; from counterlens.core.models import hub; "
        "from counterlens.core.plugin.registry import load_registry; "
        "assert len(load_registry(False).entries['family']) >= 6; assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
