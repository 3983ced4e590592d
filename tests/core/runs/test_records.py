"""A record of an image: one class for what was found, what failed, and what could not even begin."""

import csv
import io

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from counterlens.core.problem.items import Counterfactual, Item, ScoredImage
from counterlens.core.runs.records import UNJUDGED, UNSPENT, ItemRecord, items_csv, judgement, tries_csv
from counterlens.core.runs.report import verdict

LABELS = ("bouba", "kiki")
HEADING = {"method": "m", "model": "d", "family": "f", "classifier": "c", "judge": None}


def item(**origin):
    return Item("one.png", np.zeros((8, 8, 3), np.uint8), "d" * 64, "kiki", "bouba", ("grey",), origin)


def done(**rest):
    image = torch.full((3, 8, 8), -1.0)
    image[:, :4] = 0.0  # half of the picture rises by 128 of 255
    rest = {"strength": 2.0, "tried": ({"skip": 0.4, "strength": 2.0, "p_target": 0.8},), **rest}
    return Counterfactual(item(), image, torch.tensor([0.9, 0.1]), torch.tensor([0.2, 0.8]), 0, 1, **rest)


def found(**rest):
    return ItemRecord.of(done(**rest), HEADING, 0.75, LABELS, UNJUDGED, UNSPENT).written()


def test_a_finished_record_is_flat_and_measured_on_the_saved_picture():
    record = found()
    assert list(record)[:9] == ["digest", "image", *HEADING, "source", "target"]
    assert (record["source"], record["target"], record["label"]) == ("bouba", "kiki", "bouba")
    assert record["flipped"] and record["reached"] and record["failure"] is None
    assert record["l1"] == pytest.approx(128 / 255 / 2, abs=1e-6) and record["changed_area"] == 0.5
    assert record["probabilities_after"] == {"bouba": 0.2, "kiki": 0.8}
    assert not {"kept_max", "trained_on", "counterfactual"} & record.keys(), "what was not set is not written"


def test_what_a_map_keeps_is_measured():
    upper = torch.zeros(1, 8, 8)
    upper[:, :4] = 1
    assert found(map=upper)["kept_max"] == 0
    assert found(map=1 - upper)["kept_max"] == pytest.approx(128 / 255, abs=1e-6)
    assert found(map=torch.ones(1, 8, 8))["kept_max"] is None


def test_a_failure_of_a_scored_image_keeps_what_is_known():
    one = ScoredImage(item(trained_on=("classifier",)), torch.zeros(3, 8, 8), torch.tensor([0.9, 0.1]), 0, 1)
    record = ItemRecord.failed("out of range", one, LABELS, heading=HEADING).written()
    assert record["failure"] == "out of range" and record["p_target_before"] == pytest.approx(0.1)
    assert record["trained_on"] == ["classifier"] and record["notes"] == ("grey",)
    assert not record["flipped"] and record["p_target_after"] is None


def test_an_image_that_could_not_begin_has_the_same_fields_but_its_score():
    known = {"digest": "d" * 64, "image": "one.png", "source": "bouba", "target": "kiki", "label": "bouba"}
    begun = ItemRecord.failed("x", ScoredImage(item(), None, torch.tensor([0.9, 0.1]), 0, 1), LABELS, heading=HEADING)
    record = ItemRecord.failed("x", heading=HEADING, **known).written()
    assert begun.written().keys() - record.keys() == {"probabilities_before"}
    assert record["p_target_before"] is None and record["seconds"] == 0


def test_a_field_that_no_record_has_is_refused():
    with pytest.raises(ValidationError, match="colour"):
        ItemRecord.failed("x", heading=HEADING, colour="red")


def test_the_judge_says_nothing_of_a_class_it_does_not_know():
    p, before = torch.tensor([0.3, 0.7]), torch.tensor([0.9, 0.1])
    assert judgement(LABELS, p, p, "zebra") == UNJUDGED
    assert judgement(LABELS, before, p, "kiki")["judge_flipped"] is True


def test_tables_hold_plain_fields_and_every_try():
    rows = list(csv.DictReader(io.StringIO(items_csv([found(), found()]))))
    assert len(rows) == 2 and rows[0]["target"] == "kiki" and "probabilities_after" not in rows[0]
    (one,) = csv.DictReader(io.StringIO(tries_csv([found()])))
    assert (one["number"], one["skip"], one["strength"]) == ("0", "0.4", "2.0")


def test_a_judge_that_had_said_the_target_before_confirms_nothing():
    bouba, kiki = torch.tensor([0.9, 0.1]), torch.tensor([0.2, 0.8])
    assert judgement(LABELS, bouba, kiki, "kiki")["judge_flipped"] is True
    assert judgement(LABELS, bouba, bouba, "kiki")["judge_flipped"] is False
    assert judgement(LABELS, kiki, kiki, "kiki")["judge_flipped"] is None


def test_a_change_of_eight_of_255_is_invisible_and_one_of_nine_is_not():
    assert not found()["invisible"]
    for step, invisible in ((8, True), (9, False)):
        image = torch.full((3, 8, 8), -1.0)
        image[0, 0, 0] += 2 * step / 255
        changed = Counterfactual(item(), image, torch.tensor([0.9, 0.1]), torch.tensor([0.2, 0.8]), 0, 1)
        record = ItemRecord.of(changed, HEADING, 0.75, LABELS, UNJUDGED, UNSPENT).written()
        assert record["invisible"] is invisible and record["flipped"]


def test_only_a_change_that_is_seen_and_confirmed_is_green():
    flipped = {"flipped": True, "judge_flipped": True, "judge_before": {"bouba": 0.9}}
    assert verdict(flipped) == ("flipped", "flipped, the judge agrees")
    assert verdict({**flipped, "invisible": True}) == ("doubted", "flipped, but no change can be seen")
    assert verdict({**flipped, "judge_flipped": None}) == ("doubted", "flipped, the judge had said so before")
    assert verdict({**flipped, "judge_flipped": None, "judge_before": None}) == ("flipped", "flipped")
