from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from counterlens.core.problem.method_pieces import Editor
from counterlens.plugins.editors.arithmetic import ReplacedConditions

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.problem.problem import Problem
    from counterlens.core.problem.scene import Scene


class Words(Editor):
    """Swap the class's word in the prompt (TIME, Jeanneret et al. 2024): inverted under the source class's prompt,
    walked under the target's; strengths in between mix the two.

    Without a file of learned words the classes' own names are swapped.
    """

    name: ClassVar[str] = "words"
    needs: ClassVar[frozenset[str]] = frozenset({"words", "labels"})
    mixes: ClassVar[bool] = True
    file: str = Field("", description="words of counterlens train textual-inversion")
    prompt: str = Field("a {}", description="without a file: the prompt; {} is the class's name")

    def on_problem(self, problem: Problem) -> Problem:
        scene = problem.scene
        branch = list(scene.cond)[-1]
        return problem.with_(scene=replace(scene, cond={**scene.cond, branch: self._prompts(scene, scene.source)}))

    def bind(self, scene: Scene) -> Any:
        branch, source = list(scene.cond.items())[-1]
        share = scene.strength.to(source).view(-1, *[1] * (source.ndim - 1))
        return ReplacedConditions({branch: source + share * (self._prompts(scene, scene.target) - source)})

    def _prompts(self, scene: Scene, classes: Tensor) -> Tensor:
        """[B,T,D]: each row's prompt; every class is encoded once a run."""
        import torch

        labels, memo = scene.resources.classifier.labels, scene.resources.memo
        names = [labels[int(k)] for k in classes]
        return torch.cat([memo.once(("words", self, name), partial(self._prompt, scene, name)) for name in names])

    def _prompt(self, scene: Scene, name: str) -> Tensor:
        import torch

        from counterlens.core.conditioning.learned_words import encoded, load_words

        pipeline = scene.resources.pipeline
        with torch.no_grad():
            if self.file:
                return load_words(self.file, pipeline).prompt(pipeline, name)
            return encoded(pipeline, self.prompt.format(name), {})
