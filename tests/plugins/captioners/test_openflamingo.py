"""A tiny random OpenFlamingo, built here: our factory and batches against the package's own model."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from counterlens.core.errors import UsageError
from counterlens.core.plugin.registry import load_registry

for part in ("open_flamingo", "open_clip", "einops_exts"):
    pytest.importorskip(part, reason=f"{part} is not installed: see docs/how-to/caption.md")

torch.set_num_threads(1)
REGISTRY = load_registry(third_party=False)
CLIP = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 8, "heads": 2, "layers": 1},
}


def save_language(folder, kind):
    """A tiny random language model, with a tokenizer that reads letters."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, MptConfig, OPTConfig, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: k for k, c in enumerate([*alphabet, "<end>"])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
    count = len(alphabet) + 1
    config = {
        "mpt": MptConfig(d_model=16, n_heads=2, n_layers=2, max_seq_len=512, vocab_size=count),
        "opt": OPTConfig(
            hidden_size=16,
            word_embed_proj_dim=16,
            ffn_dim=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            vocab_size=count,
            max_position_embeddings=512,
        ),
    }[kind]
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


@pytest.fixture(scope="module", params=["mpt", "opt"])
def built(request, tmp_path_factory):
    """(captioner's text, pictures, demonstrations): everything on disk, as a user would have it."""
    from safetensors.torch import save_file

    from counterlens.plugins.captioners.flamingo_model import Flamingo, FlamingoSettings

    root = tmp_path_factory.mktemp(request.param)
    save_language(root / "language", request.param)
    (root / "tiny-clip.json").write_text(json.dumps(CLIP))
    pictures = list(np.random.default_rng(0).integers(0, 256, (5, 24, 24, 3), dtype=np.uint8))
    lines = []
    for k, text in ((3, "a cat on a mat"), (4, "a red dog")):
        Image.fromarray(pictures[k]).save(root / f"{k}.png")
        lines.append(json.dumps({"image": f"{k}.png", "caption": text}))
    (root / "demos.jsonl").write_text("\n".join(lines))
    text = f"openflamingo language={root}/language vision={root}/tiny-clip.json vision_weights= every=1 words=5 "
    text += f"demos={root}/demos.jsonl checkpoint={root}/trained.safetensors"
    (root / "trained.safetensors").touch()
    with pytest.MonkeyPatch.context() as patch:  # the first build has nothing to fill in
        patch.setattr("counterlens.plugins.captioners.flamingo_model._fill", lambda *_: None)
        torch.manual_seed(2)
        model = Flamingo.open(REGISTRY.make("captioner", text).settings(FlamingoSettings), "cpu").model
    trained = {n: p for n, p in model.state_dict().items() if "perceiver" in n or "gated_cross_attn_layers" in n}
    trained |= {n: p for n, p in model.state_dict().items() if n.startswith("vision_encoder")}  # its weights are random
    gates = {n: torch.full_like(p, 2.0) for n, p in trained.items() if n.endswith("_gate")}
    save_file({n: p.clone().contiguous() for n, p in {**trained, **gates}.items()}, root / "trained.safetensors")
    return text, pictures[:3], root


def test_batches_are_padded_on_the_left_and_equal_single_calls(built):
    text, pictures, _ = built
    captioner, labels = REGISTRY.make("captioner", text), ["cat", "St. Bernard", "dog"]
    together = captioner.caption(pictures, labels)
    for k, (caption, note) in enumerate(together):
        assert caption.startswith(f"an image of a {labels[k]}") and note == ""
        assert "<" not in caption.replace(labels[k], ""), "special tokens are gone"
        assert captioner.caption([pictures[k]], [labels[k]])[0][0] == caption


def test_equals_the_package_s_own_generation(built):
    """All demonstrations encoded anew with every picture, one picture, one beam or three: the same words."""
    from counterlens.plugins.captioners.flamingo_model import END, PICTURE, Flamingo, FlamingoSettings
    from counterlens.plugins.captioners.openflamingo import demonstrations

    text, pictures, root = built
    model = Flamingo.open(REGISTRY.make("captioner", text).settings(FlamingoSettings), "cpu")
    demos = demonstrations(str(root / "demos.jsonl"))
    model.show(demos)
    prompt = "".join(f"{PICTURE}{caption}{END}" for _, caption in demos) + f"{PICTURE}an image of a cat"
    ids = model.tokenizer(prompt, return_tensors="pt")
    images = torch.stack([model.prepare(Image.fromarray(p)) for p in (*(p for p, _ in demos), pictures[0])])
    for beams in (1, 3):
        how = {
            "num_beams": beams,
            "max_new_tokens": 5,
            "do_sample": False,
            "pad_token_id": model.tokenizer.pad_token_id,
        }
        theirs = model.model.generate(images[None, :, None], ids.input_ids, ids.attention_mask, **how)
        theirs = model.tokenizer.decode(theirs[0, ids.input_ids.shape[1] :], skip_special_tokens=True)
        (ours,) = model.continued(pictures[:1], ["an image of a cat"], beams, 5)
        assert ours == theirs.split("\n")[0].strip()


def test_the_picture_matters(built):
    from counterlens.plugins.captioners.flamingo_model import Flamingo, FlamingoSettings

    text, pictures, _ = built
    model = Flamingo.open(REGISTRY.make("captioner", text).settings(FlamingoSettings), "cpu")
    seen = model._seen(pictures)
    assert (seen[0] - seen[1]).abs().max() > 1e-3
    torch.testing.assert_close(model._seen(pictures[:1]), seen[:1], atol=1e-5, rtol=1e-4)


def test_a_failed_call_leaves_nothing_behind(built):
    from counterlens.plugins.captioners.flamingo_model import Flamingo, FlamingoSettings

    text, pictures, _ = built
    model = Flamingo.open(REGISTRY.make("captioner", text).settings(FlamingoSettings), "cpu")
    with pytest.raises(ValueError, match=r"max_new_tokens|must be greater"):
        model.continued(pictures[:1], ["a cat"], 1, -1)
    assert not model.model.lang_encoder._use_cached_vision_x
    assert model.continued(pictures[:1], ["a cat"], 1, 2) is not None


def test_a_checkpoint_of_another_model_is_refused(built, tmp_path):
    from safetensors.torch import save_file

    text, pictures, root = built
    save_file({"perceiver.latents": torch.zeros(3)}, tmp_path / "other.safetensors")
    other = text.replace(f"{root}/trained.safetensors", f"{tmp_path}/other.safetensors")
    with pytest.raises(UsageError, match="does not fit this model"):
        REGISTRY.make("captioner", other).caption(pictures[:1], ["cat"])
