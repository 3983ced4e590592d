"""What an independent judge says of the counterfactuals. It reports only: no method may see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from counterlens.core.metrics.metric import NAN, YES_NO, CounterfactualPair, ImageMetric, Value

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.metrics.context import Context


class Judged(ImageMetric):
    """The judge decides the counterfactual as the target: 1 or 0, off the record where it was the same judge."""

    needs: ClassVar[frozenset[str]] = frozenset({"judge"})
    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[tuple[float | None, float | None]] = (0, 1)
    unit: ClassVar[str] = YES_NO
    cost: ClassVar[str] = "classifier"

    def measure(self, pairs: Sequence[CounterfactualPair], context: Context) -> Mapping[str, Sequence[Value]]:
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


class JudgeConverted(Judged):
    """Share of the flips after which the judge says the target, among those where it did not say so before.

    Where the explained classifier had an image wrong the judge may say the target of the source already, and would
    confirm a picture in which nothing changed.
    """

    name: ClassVar[str] = "judge_converted"
    population: ClassVar[str] = "flipped"

    def measure(self, pairs: Sequence[CounterfactualPair], context: Context) -> Mapping[str, Sequence[Value]]:
        said = super().measure(pairs, context)[self.name]
        before = [
            None if value is None else said_before(pair, context) for pair, value in zip(pairs, said, strict=True)
        ]
        return {self.name: [None if had == 1 else value for value, had in zip(said, before, strict=True)]}


def said_before(pair: CounterfactualPair, context: Context) -> Value:
    """Whether the judge decides the source as the target: 1 or 0; nan where it does not know the target's name."""
    answers = pair.record.get("judge_before")
    if answers and pair.record.get("judge") == context.judge_uri:
        return float(max(answers, key=answers.__getitem__) == pair.record["target"])
    return asked(pair.source, str(pair.record["target"]), context)


def verdicts(pairs: Sequence[CounterfactualPair], context: Context) -> list[Value]:
    """1 or 0 a pair, 0 for failed items; nan where the judge does not know the target's name."""
    found: list[Value] = [known(pair, context.judge_uri) for pair in pairs]
    for at, pair in enumerate(pairs):
        if found[at] is None and pair.counterfactual is not None:
            found[at] = asked(pair.counterfactual, str(pair.record["target"]), context)
    return found


def asked(picture: Tensor, target: str, context: Context) -> float:
    """Whether the judge decides a picture [3,H,W] as the target: 1 or 0; nan where it does not know that name."""
    judge = context.judge
    if target not in judge.labels:
        return NAN
    decided = int(judge.evaluate(picture[None].float().to(context.device)).argmax(1).item())
    return float(judge.labels[decided] == target)


def known(pair: CounterfactualPair, judge: str) -> Value:
    """What the record says, when it was said by the same judge; None when the judge has to be asked."""
    if pair.failed:
        return 0.0
    said = pair.record.get("judge_flipped")
    return float(said) if said is not None and pair.record.get("judge") == judge else None
