from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from counterlens.core.conditioning.token_alignment import align, rewritten, tokens_of
from counterlens.core.errors import UsageError
from counterlens.core.problem.method_pieces import Editor
from counterlens.plugins.editors.source_trace import Trace, traces_of
from counterlens.plugins.editors.toward import MovedCondition

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.diffusion.inversion import Inversion
    from counterlens.core.diffusion.step import Condition, Extra, Step
    from counterlens.core.problem.problem import Problem
    from counterlens.core.problem.scene import Scene


class PromptToPrompt(Editor):
    """Swap the class in the prompt and keep the source's attention, so that the layout stays (Hertz et al. 2022).

    For the first share of the steps the conditional branch looks where it looked for the source: columns of replaced
    words are filled from the words that they stand for, in every head and for every token. A caption that does not
    name its class is mended first. At strength 0 nothing changes.
    """

    name: ClassVar[str] = "prompt-to-prompt"
    needs: ClassVar[frozenset[str]] = frozenset({"text", "cross-attention", "labels"})
    prompt: str = Field("", description="target prompt; {target}, {source}, {prompt} as in toward; empty: a swap")
    cross: float = Field(
        0.4, description="share of the steps in which attention over words is the source's", ge=0, le=1
    )
    own: float = Field(
        0.0, description="share of the steps in which attention among places is the source's", ge=0, le=1
    )
    side: int = Field(16, description="attention among places is taken over up to this many places a side", ge=1)
    fade: Literal["none", "linear", "cosine"] = Field("none", description="how its weight falls over those steps")
    missing: Literal["repair", "refuse"] = Field("repair", description="a caption that does not name its class")
    grammar: str = Field("", description="spaCy model that finds nouns; its small English one, else rules")

    def on_problem(self, problem: Problem) -> Problem:
        """Captions that name their class; what was mended is noted on the item."""
        import torch

        from counterlens.core.conditioning.class_names import caption_naming
        from counterlens.core.conditioning.nouns import grammar

        scene, nouns = problem.scene, grammar(self.grammar)
        if scene.lock is not None and scene.lock.margin is not None:
            raise UsageError("prompt-to-prompt needs the whole picture: leave crop=true of change-map out")
        prompts, items = list(scene.resources.options["prompts"]), list(scene.items)
        for k, row in enumerate(scene.rows):
            label = scene.resources.classifier.labels[int(scene.source[k])]
            prompts[row], note = caption_naming(prompts[row], label, nouns, self.missing == "repair")
            if note:
                notes = [note, *([nouns.note] if nouns.note else [])]
                items[k] = replace(items[k], notes=(*items[k].notes, *notes))
        resources = replace(scene.resources, options={**scene.resources.options, "prompts": tuple(prompts)})
        with torch.no_grad():
            cond, extra = resources.pipeline.condition(scene.image, [prompts[r] for r in scene.rows], tuple(scene.cond))
        scene = replace(scene, resources=resources, items=tuple(items), cond=cond, extra=extra)
        self._tokens(scene)  # a prompt that is too long is refused now
        return problem.with_(scene=scene)

    def bind(self, scene: Scene) -> SwappedAttention:
        import torch

        branch, here = list(scene.cond.items())[-1]
        with torch.no_grad():
            cond, extra = scene.resources.pipeline.condition(scene.image, self._targets(scene), (branch,))
        there = cond[branch].to(here)
        pairs = self._tokens(scene)
        found = [align(*pair, *states) for pair, *states in zip(pairs, here, there, strict=True)]

        def way(to: Tensor, now: Tensor) -> Tensor:
            return scene.strength.view(-1, *[1] * (now.ndim - 1)).to(now) * (to.to(now) - now)

        beside = {name: way(extra[branch][name], now) for name, now in scene.extra.get(branch, {}).items()}
        carry, fresh = (torch.stack([getattr(one, name) for one in found]).to(here) for name in ("carry", "fresh"))
        return SwappedAttention(
            piece=self,
            moved=MovedCondition(branch, way(there, here), beside),
            carry=carry,
            fresh=fresh,
            strength=scene.strength.to(here),
        )

    def _targets(self, scene: Scene) -> list[str]:
        """The target prompt of every row."""
        from counterlens.core.conditioning.class_names import swap
        from counterlens.core.conditioning.nouns import grammar

        labels, prompts = scene.resources.classifier.labels, scene.resources.options["prompts"]
        rows = zip(scene.rows, scene.source.tolist(), scene.target.tolist(), strict=True)
        if self.prompt:
            return [
                self.prompt.format(source=labels[source], target=labels[target], prompt=prompts[row])
                for row, source, target in rows
            ]
        nouns = grammar(self.grammar)
        return [swap(prompts[row], labels[source], labels[target], nouns).target for row, source, target in rows]

    def _tokens(self, scene: Scene) -> list[tuple]:
        """(source, target) in tokens, a pair a row."""
        tokenizer, length = scene.resources.pipeline.others["tokenizer"], list(scene.cond.values())[-1].shape[1]
        sources = [scene.resources.options["prompts"][row] for row in scene.rows]
        return [
            (tokens_of(tokenizer, source, length), tokens_of(tokenizer, target, length))
            for source, target in zip(sources, self._targets(scene), strict=True)
        ]

    def weight(self, step: Step, share: float) -> float:
        """How much of the source's attention a step takes, 0 from ``share`` of the trajectory on."""
        if step.progress >= share:
            return 0.0
        left = 1 - step.progress / share
        return {"none": 1.0, "linear": left, "cosine": math.sin(left * math.pi / 2)}[self.fade]


@dataclass(frozen=True, eq=False)
class SwappedAttention:
    """The swap of a batch on its way: the prompt's ``moved`` condition, and the source's attention rewritten."""

    piece: PromptToPrompt
    moved: MovedCondition
    carry: Tensor  # [B,T,T]
    fresh: Tensor  # [B,T]
    strength: Tensor  # [B]
    traces: Sequence[Trace] = ()
    cross_layers: tuple[str, ...] = ()
    own_layers: tuple[str, ...] = ()

    def on_start(self, problem: Problem, inversion: Inversion) -> SwappedAttention:
        """With the source's maps: recorded at its first walk, only in the layers and steps that take them."""
        names, size = problem.scene.net.attention, max(problem.scene.x0.shape[-2:])
        levels = len(problem.scene.resources.pipeline.unet.config.block_out_channels)
        cross = tuple(name for name in names if name.endswith("attn2"))
        own = tuple(n for n in names if n.endswith("attn1") and side_of(n, size, levels) <= self.piece.side)
        if not cross:
            family = problem.scene.resources.pipeline.family
            raise UsageError(f"prompt-to-prompt: {family} has no layer that looks at words alone; use toward")
        ready = replace(self, cross_layers=cross, own_layers=own)
        share = max(self.piece.cross, self.piece.own)
        if share == 0:
            return ready
        return replace(ready, traces=traces_of(problem, inversion, self.piece, ready.attention_sites, share))

    def attention_sites(self, step: Step) -> tuple[str, ...]:
        """Layers that leave the fused kernel in this step."""
        cross = self.cross_layers if self.piece.weight(step, self.piece.cross) else ()
        return cross + (self.own_layers if self.piece.weight(step, self.piece.own) else ())

    def on_condition(self, cond: Condition, step: Step) -> Condition:
        return self.moved.on_condition(cond, step)

    def on_extra(self, extra: Extra, step: Step) -> Extra:
        return self.moved.on_extra(extra, step)

    def on_attention(self, p: Tensor, step: Step) -> Tensor:
        import torch

        if step.branch != self.moved.branch:
            return p
        words = step.site in self.cross_layers
        share = self.piece.cross if words else self.piece.own
        maps = torch.stack([trace.maps[step.site, step.i] for trace in self.traces]).to(p)
        if words:
            new = rewritten(maps, p, self.carry.to(p), self.fresh.to(p))
            maps = maps + self.strength.view(-1, 1, 1, 1).to(p) * (new - maps)
        w = self.piece.weight(step, share)
        return w * maps + (1 - w) * p


def side_of(layer: str, side: int, levels: int) -> int:
    """How many places a side a layer of a U-Net looks at, by its path.

    >>> [side_of(name, 64, 4) for name in ("down_blocks.1.attn1", "mid_block.attn1", "up_blocks.3.attn1")]
    [32, 8, 64]
    """
    place, _, rest = layer.partition(".")
    k = int(rest.partition(".")[0]) if place.endswith("blocks") else 0
    depth = {"down_blocks": k, "up_blocks": levels - 1 - k}.get(place, levels - 1)
    return max(1, -(-side // 2**depth))
