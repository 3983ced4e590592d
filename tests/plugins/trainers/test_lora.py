"""LoRA on tiny pipelines: it learns, resumes, is merged, and is refused on another base."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from counterlens.core.data import training_images
from counterlens.core.errors import MissingError, PlanError, UsageError
from counterlens.core.models.lora import check_adapters
from counterlens.core.models.pool import Key
from counterlens.core.plugin.registry import load_registry
from counterlens.core.testing.tiny import tiny
from counterlens.plugins.trainers.fitting import lora

REGISTRY = load_registry(third_party=False)
QUICK = "lora steps=30 batch=4 every=10 lr=0.003"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {family: tiny(family, root / family) for family in ("kandinsky22", "stable-diffusion", "ddpm")}


def opened(family, folder, *adapters):
    return REGISTRY.family(family).load(Key(str(folder), adapters=tuple(map(str, adapters))))


@pytest.mark.parametrize("family", ["kandinsky22", "stable-diffusion"])
def test_it_learns_and_is_merged(run, folder, tmp_path, models, family):
    record, _ = run(QUICK, folder, "lora", models[family])
    losses = [loss for _, loss in record["held_out_losses"]]
    assert [step for step, _ in record["held_out_losses"]] == [10, 20, 30] and losses[-1] < losses[0]
    assert record["images"] == {"train": 36, "held": 4}
    plain, tuned = opened(family, models[family]), opened(family, models[family], tmp_path / "lora")
    a, b = plain.unet.state_dict(), tuned.unet.state_dict()
    assert list(a) == list(b)  # plain layers again
    changed = {name for name in a if not torch.equal(a[name], b[name])}
    assert changed and all(
        any(f".{t}." in name for t in ("to_q", "to_k", "to_v", "to_out", "add_k_proj", "add_v_proj"))
        for name in changed
    )
    assert not any(p.requires_grad for p in tuned.unet.parameters())


def test_the_merged_network_is_pefts(run, folder, tmp_path, models):
    from peft import PeftModel

    run(QUICK, folder, "lora", models["kandinsky22"])
    plain, tuned = (
        opened("kandinsky22", models["kandinsky22"]),
        opened("kandinsky22", models["kandinsky22"], tmp_path / "lora"),
    )
    x, t, cond = torch.randn(2, 4, 8, 8), torch.tensor([10.0, 500.0]), torch.randn(2, 8)
    ours = tuned.predict(x, t, cond, {})
    PeftModel.from_pretrained(plain.unet, str(tmp_path / "lora"))  # puts its layers into the network
    assert (plain.predict(x, t, cond, {}) - ours).abs().max() < 1e-4


TWO = """
import json, sys
import torch
from counterlens.core.plugin.registry import load_registry
from counterlens.core.models.model_options import ModelOptions
from counterlens.core.workflows.train import train

torch.set_num_threads(1)
registry, (data, model, out) = load_registry(third_party=False), sys.argv[1:]
lora = registry.make("trainer", "lora steps=6 batch=4 every=3 lr=0.003")
record = train(registry, lora, data, out, ModelOptions(model=model, device="cpu"))
print("losses", json.dumps(record["held_out_losses"]))
"""


def test_two_processes_learn_one_adapter(run, folder, tmp_path, models):
    """Each sees its own images; gradients are averaged, so that both hold the same weights (without that they part)."""
    (tmp_path / "two.py").write_text(TWO)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    args = [tmp_path / "two.py", f"folder:{folder}", models["kandinsky22"], tmp_path / "both"]
    done = subprocess.run([*launch, *map(str, args)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    first, second = [line for line in done.stdout.splitlines() if line.startswith("losses")]
    assert first == second
    alone, _ = run("lora steps=6 batch=4 every=3 lr=0.003", folder, "alone", models["kandinsky22"])
    assert f"losses {json.dumps(alone['held_out_losses'])}" != first, "the second process must count"
    opened("kandinsky22", models["kandinsky22"], tmp_path / "both")


def test_a_stopped_run_goes_on_and_ends_alike(run, folder, tmp_path, models, monkeypatch):
    run(QUICK, folder, "whole", models["kandinsky22"])
    real = lora.Adaptation.one_step

    def stopped(self):
        if self.step == 17:
            raise KeyboardInterrupt
        real(self)

    monkeypatch.setattr(lora.Adaptation, "one_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(QUICK, folder, "parts", models["kandinsky22"])
    assert not (tmp_path / "parts").exists() and (tmp_path / "parts.part" / "checkpoint.safetensors").is_file()
    monkeypatch.setattr(lora.Adaptation, "one_step", real)
    record, _ = run(QUICK, folder, "parts", models["kandinsky22"])
    assert record["resumed_at"] == 17 and not (tmp_path / "parts.part").exists()
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "parts"))
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_a_checkpoint_of_something_else_is_not_taken(run, folder, tmp_path, models, monkeypatch):
    monkeypatch.setattr(lora, "EVERY_S", 0.0)
    monkeypatch.setattr(lora.Adaptation, "finish", lambda *_: None)
    run("lora steps=3 batch=2", folder, "lora", models["kandinsky22"])
    record, notes = run("lora steps=3 batch=2 rank=2", folder, "lora", models["kandinsky22"])
    assert record["resumed_at"] == 0 and any("begun afresh" in note for note in notes)


def test_another_base_is_refused(run, folder, tmp_path, models):
    run("lora steps=2 batch=2", folder, "lora", models["kandinsky22"])
    other = tiny("kandinsky22", tmp_path / "other", seed=1)
    with pytest.raises(UsageError, match="trained on another U-Net"):
        opened("kandinsky22", other, tmp_path / "lora")
    (tmp_path / "lora" / "counterlens.json").unlink()  # an adapter that PEFT alone wrote
    opened("kandinsky22", other, tmp_path / "lora")
    weights = tmp_path / "lora" / "adapter_model.safetensors"
    save_file({k: torch.zeros(*v.shape[:-1], v.shape[-1] + 1) for k, v in load_file(weights).items()}, weights)
    with pytest.raises(UsageError, match="of another base"):
        opened("kandinsky22", other, tmp_path / "lora")


def test_what_is_no_adapter(tmp_path):
    with pytest.raises(MissingError, match="no such folder"):
        check_adapters([str(tmp_path / "none")])
    with pytest.raises(UsageError, match=r"no adapter_config\.json"):
        check_adapters([str(tmp_path)])
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.bin").write_bytes(b"pickle")
    with pytest.raises(UsageError, match="only safetensors"):
        check_adapters([str(tmp_path)])


def test_families_that_cannot_be_adapted(run, folder, models):
    with pytest.raises(PlanError, match="train lora needs"):
        run("lora", folder, model=models["ddpm"])


def test_too_few_images(run, tmp_path, pictures, models):
    data = pictures(tmp_path / "few", 1)
    with pytest.raises(UsageError, match="2 images that can be read"):
        run("lora", data, model=models["kandinsky22"])


def test_conditions_are_dropped_and_gradients_clipped(run, folder, models, monkeypatch):
    """With all conditions dropped the network is asked under the empty one only."""
    asked = []
    real = lora.Adaptation.loss

    def seen(self, picked, g, dropout):
        predict = self.pipeline.predict
        self.pipeline.predict = lambda x, t, cond, extra: (
            asked.append((cond.clone(), dropout)),
            predict(x, t, cond, extra),
        )[1]
        try:
            return real(self, picked, g, dropout)
        finally:
            del self.pipeline.predict

    monkeypatch.setattr(lora.Adaptation, "loss", seen)
    run("lora steps=12 batch=8 every=50 dropout=0.5", folder, "lora", models["kandinsky22"])
    null = opened("kandinsky22", models["kandinsky22"]).condition(torch.zeros(1, 3, 16, 16), [""], ("null",))[0]["null"]
    shares = [((cond - null).abs().amax(1) < 1e-6).float().mean() for cond, dropout in asked if dropout]
    assert 0.3 < float(torch.stack(shares).mean()) < 0.7
    assert all(((cond - null).abs().amax(1) > 1e-6).all() for cond, dropout in asked if not dropout)


def test_the_record_lies_beside_the_weights(run, folder, tmp_path, models):
    run("lora steps=2 batch=2", folder, "lora", models["kandinsky22"])
    about = json.loads((tmp_path / "lora" / "counterlens.json").read_text())
    assert about["model"] == str(models["kandinsky22"]) and about["steps"] == 2 and len(about["base"]) == 64
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert config["r"] == 4 and config["lora_alpha"] == 8 and config["peft_type"] == "LORA"
    assert len(training_images.read_record(training_images.beside(tmp_path / "lora"))) == 40
    shutil.rmtree(tmp_path / "lora")
