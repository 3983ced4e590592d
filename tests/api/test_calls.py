"""One call from a picture and a classifier to a counterfactual, as in a notebook."""

import json

import numpy as np
import pytest
import torch

import counterlens as cl

torch.set_num_threads(1)
HOW = {"pipeline": "domain:shapes/ddpm", "steps": 8, "progress": False}
LABELS = ["bouba", "kiki"]


@pytest.fixture(scope="module")
def found():
    return cl.explain("shapes:0", **HOW)


@pytest.fixture(scope="module")
def network():
    """The explained network of shapes as somebody's own module, which takes images in [0,1] prepared outside."""
    classifier = cl.load_registry(third_party=False).open_classifier("domain:shapes")
    contract = classifier.contract
    how = {key: getattr(contract, key) for key in ("size", "mean", "std", "resize", "channels")}
    return classifier.modules["classifier"], how


def test_one_picture_gives_one_explanation(found):
    assert found.flipped and found.failure is None and repr(found).endswith("flipped)")
    assert found.source.size == found.image.size == (32, 32)
    assert found.difference.shape == (32, 32, 3) and 0 < np.abs(found.difference).mean() < 0.5
    before, after = found.probabilities[found.target]
    assert before < 0.5 < after


def test_a_network_of_ones_own_is_explained_as_its_uri_is(found, network):
    net, how = network
    for given in (found.source, np.asarray(found.source)):
        own = cl.explain(given, net, found.target, labels=LABELS, preprocessing=how, **HOW)
        assert own.probabilities[found.target] == pytest.approx(found.probabilities[found.target], abs=1e-5)
        assert np.array_equal(np.asarray(own.image), np.asarray(found.image))


def test_a_function_is_a_black_box(found, network):
    net, how = network
    contract = cl.Preprocessing(tuple(LABELS), **how)

    def ask(images):
        with torch.no_grad():
            return net(contract.prepare(images)).softmax(1).numpy()

    with pytest.raises(cl.PlanError, match="black box"):
        cl.explain(found.source, ask, labels=LABELS, **HOW)


def test_several_pictures_are_a_sequence(found, network):
    net, how = network
    many = cl.explain([found.source, found.image], net, labels=LABELS, preprocessing=how, **HOW)
    assert len(many) == 2 and [one.name for one in many] == ["image 0", "image 1"] and len(many[:1]) == 1
    assert {one.target for one in many} == set(LABELS)


def test_what_a_notebook_shows(found):
    html = found._repr_html_()
    assert html.count("data:image/png;base64,") == 3 and "flipped: yes" in html and "judge of" in html
    assert found.show().axes[2].get_title().startswith("difference")


def test_what_is_saved(found, tmp_path):
    folder = found.save(tmp_path / "one")
    names = {path.name for path in folder.iterdir()}
    assert names >= {"source.png", "counterfactual.png", "difference.png", "record.json"}
    assert json.loads((folder / "record.json").read_text())["image"] == "shapes:0"


def test_a_run_is_kept_where_it_is_asked_for(tmp_path):
    cl.explain("shapes:1", out=tmp_path, **HOW)
    assert len(list(tmp_path.glob("*/manifest.json"))) == 1


def test_an_attribution_in_captums_shape(found, network):
    net, how = network
    pixels = torch.from_numpy(np.asarray(found.source).copy()).permute(2, 0, 1)[None] / 255
    method = cl.captum.Counterfactual(net, "domain:shapes/ddpm", LABELS, how, steps=8)
    change = method.attribute(pixels, LABELS.index(found.target))
    assert change.shape == pixels.shape
    np.testing.assert_allclose(change[0].permute(1, 2, 0).numpy(), found.difference, atol=1e-6)


@pytest.mark.parametrize(
    "how, words",
    [
        ({}, "what are the classes called?"),
        ({"labels": LABELS}, "how are images prepared"),
        ({"labels": ["a"], "preprocessing": "right"}, "two labels"),
        ({"labels": ["a", "b", "c"], "preprocessing": "right"}, "2 outputs and 3 labels"),
        ({"labels": LABELS, "preprocessing": {"mena": 0.5}}, "mena"),
        ({"labels": LABELS, "preprocessing": "right", "tua": 0.9}, "did you mean 'tau'"),
        ({"labels": LABELS, "preprocessing": "right", "target": "kik"}, "did you mean 'kiki'"),
        ({"labels": LABELS, "preprocessing": "right", "method": "gided"}, "did you mean 'guided'"),
        ({"labels": LABELS, "preprocessing": "right", "pipeline": None}, "which pipeline?"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_line(found, network, how, words):
    net, contract = network
    how = {**HOW, **how}
    if how.get("preprocessing") == "right":
        how["preprocessing"] = contract
    with pytest.raises(cl.CounterlensError) as raised:
        cl.explain(found.source, net, **how)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_lists_for_a_notebook():
    assert "guided" in {row["name"] for row in cl.methods()}
    assert {row["kind"] for row in cl.pieces("editor")} == {"editor"} and "<table>" in cl.methods()._repr_html_()
    with pytest.raises(cl.UsageError, match="editor"):
        cl.pieces("edito")


def test_a_pipeline_is_lent():
    with cl.load_pipeline("domain:shapes/ddpm") as pipeline:
        assert pipeline.size == (32, 32)


def test_methods_side_by_side(tmp_path):
    found = cl.bench(
        "domain:shapes",
        ["reconstruct"],
        controls=(),
        metrics=["l1"],
        limit=2,
        steps=2,
        pipeline="domain:shapes/ddpm",
        out=tmp_path,
        progress=False,
    )
    assert found["asked"] == 2 and found.report.is_file() and "<td>reconstruct</td>" in found._repr_html_()
    with pytest.raises(cl.UsageError, match="limt"):
        cl.bench("domain:shapes", ["reconstruct"], limt=2, progress=False)
    with pytest.raises(cl.UsageError, match="workers open it themselves"):
        cl.bench("domain:shapes", classifier=torch.nn.Identity(), progress=False)


def test_training_by_name(tmp_path):
    plan = cl.train.classifier("domain:shapes?first=64", out=tmp_path / "c", epochs=1, dry_run=True, progress=False)
    assert plan["trainer"] == "classifier" and "epochs" in cl.train.classifier.__doc__
    assert {"classifier", "backbone", "lora", "textual_inversion"} <= set(dir(cl.train))
    with pytest.raises(AttributeError, match="no trainer 'classifer'"):
        _ = cl.train.classifer


def test_a_plugin_of_this_process():
    class Mine:
        @cl.hookimpl
        def counterlens_editors(self):
            return [int]

    with pytest.raises(cl.UsageError, match=r"plugin Mine.*has no attribute"):
        cl.add_plugin(Mine())
