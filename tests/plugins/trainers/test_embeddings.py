"""``train embeddings``: a file that serves every ordered pair, with the quality of its directions."""

import pytest

from counterlens.core.conditioning import embeddings
from counterlens.core.data import training_images
from counterlens.core.errors import PlanError, UsageError
from counterlens.core.testing.tiny import tiny


def test_a_file_and_a_table(run, folder, tmp_path):
    model = tiny("kandinsky22", tmp_path / "model")
    record, notes = run("embeddings directions=all batch=7", folder, "e.safetensors", model)
    found = embeddings.load_embeddings(tmp_path / "e.safetensors")
    assert training_images.beside(tmp_path / "e.safetensors").name == "e.safetensors.training_images.json"
    assert record["classes"] == found.counts() == {"dark": 20, "light": 20} and found.vectors.shape == (40, 8)
    rows = {row["direction"]: row for row in record["directions"]}
    assert {"mean-difference", "matched", "lda", "logistic", "neighbours", "pca-cleaned", "svd"} == set(rows)
    assert rows["mean-difference"]["auroc"] > 0.9 and rows["mean-difference"]["n"] == (20, 20)
    assert any("text" in note for note in notes)  # this prior has no text encoder


def test_pairs_that_are_asked_for(run, folder, tmp_path):
    model = tiny("kandinsky22", tmp_path / "model")
    record, _ = run("embeddings pairs=light:dark", folder, "e.safetensors", model)
    assert [(row["source"], row["target"]) for row in record["directions"]] == [("light", "dark")]
    with pytest.raises(UsageError, match="unknown class 'drak'"):
        run("embeddings pairs=light:drak", folder, "f.safetensors", model)
    assert not (tmp_path / "f.safetensors").exists()


def test_a_pipeline_without_image_embeddings_is_refused_before_it_is_loaded(run, folder, tmp_path):
    with pytest.raises(PlanError, match="families that do: kandinsky22"):
        run("embeddings", folder, model=tiny("ddpm", tmp_path / "ddpm"))
    with pytest.raises(UsageError, match="which pipeline"):
        run("embeddings", folder)
