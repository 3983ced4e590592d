"""What an independent judge says of the counterfactuals. It reports only: no method may see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from counterlens.core.metrics import NAN, YES_NO, ImageMetric, Pair, Value

if TYPE_CHECKING:
    from counterlens.core.measuring import Context


class Judged(ImageMetric):
    """The judge decides the counterfactual as the target: 1 or 0, off the record where it was the same judge."""

    needs: ClassVar[frozenset[str]] = frozenset({"judge"})
    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (0, 1)
    unit: ClassVar[str] = YES_NO
    cost: ClassVar[str] = "classifier"

    def measure(self, pairs: Sequence[Pair], context: Context) -> Mapping[str, Sequence[Value]]:
        inside = [pair for pair in pairs if pair.within(self.population)]
        said = dict(zip(map(id, inside), verdicts(inside, context), strict=True))
        return {self.name: [said.get(id(pair)) for pair in pairs]}


class JudgeAgreement(Judged):
    """Share of the flips that the judge confirms: low where a classifier was fooled rather than the picture changed."""

    name: ClassVar[str] = "judge_agreement"
    population: ClassVar[str] = "flipped"
    source: ClassVar[str] = "oracle score, Hvilshøj et al. 2021; DBVCE_eval"


class JudgeFlipRate(Judged):
    """Share of all images whose counterfactual the judge decides as the target; failed items count as 0."""

    name: ClassVar[str] = "judge_flip_rate"
    source: ClassVar[str] = "oracle score, Hvilshøj et al. 2021"


def verdicts(pairs: Sequence[Pair], context: Context) -> list[Value]:
    """1 or 0 a pair, 0 for failed items; nan where the judge does not know the target's name."""
    found: list[Value] = [known(pair, context.judge_uri) for pair in pairs]
    ask = [at for at, value in enumerate(found) if value is None]
    if not ask:
        return found
    import torch

    judge = context.judge
    for at in ask:
        picture, target = pairs[at].counterfactual, str(pairs[at].record["target"])
        assert picture is not None
        decided = judge.evaluate(picture[None].to(torch.float32).to(context.device)).argmax(1).item()
        found[at] = float(judge.labels[int(decided)] == target) if target in judge.labels else NAN
    return found


def known(pair: Pair, judge: str) -> Value:
    """What the record says, when it was said by the same judge; None when the judge has to be asked."""
    if pair.failed:
        return 0.0
    said = pair.record.get("judge_flipped")
    return float(said) if said is not None and pair.record.get("judge") == judge else None
