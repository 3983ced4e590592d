from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from counterlens.core.errors import UsageError
from counterlens.core.problem.masker import Masker

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.diffusion.step import Step
    from counterlens.core.problem.scene import Scene


FORM = r"none|(?:sqrt|linear|sqr)_0\.\d+"


POWERS = {"sqrt": 0.5, "linear": 1.0, "sqr": 2.0}


def squashed(c: Tensor, form: str) -> Tensor:
    """``sqrt_0.3`` is sqrt((c - 0.3)+ / 0.7); ``linear_`` and ``sqr_`` likewise, ``none`` is the map itself."""
    if form == "none":
        return c
    name, least = form.split("_")
    return ((c - float(least)).clamp(0, 1) / (1 - float(least))) ** POWERS[name]


class CrossAttention(Masker):
    """Where the network looks for words of the prompt: mean cross-attention over heads, layers and noise levels
    (as in DAAM, Tang et al. 2023), scaled to [0,1]."""

    name: ClassVar[str] = "cross-attention"
    needs: ClassVar[frozenset[str]] = frozenset({"cross-attention", "text"})
    words: str = Field(
        "", description="words of the prompt; {source} and {target} stand for the classes; all of it if empty"
    )
    squash: str = Field(
        "none", description="sqrt_0.3, linear_C, sqr_C: nothing below C, the rest stretched", pattern=FORM
    )
    levels: tuple[float, ...] = Field(
        (0.3, 0.5, 0.7), description="where the source is looked at, in shares of the trajectory", min_length=1
    )

    def mask(self, scene: Scene) -> Tensor:
        import torch
        import torch.nn.functional as F

        from counterlens.core.diffusion.module_hooks import Listener
        from counterlens.core.diffusion.step import Step, only
        from counterlens.core.images.map_ops import normalised
        from counterlens.core.problem.scene import noise_for

        chosen = torch.stack([self._chosen(scene, k) for k in range(len(scene))]).to(scene.x0.device)
        branch = list(scene.cond)[-1]
        seen: list[Tensor] = []

        def look(p: Tensor, _step: Step) -> None:
            if p.shape[-1] >= chosen.shape[1]:  # over words
                seen.append(over_words(p, chosen, (scene.x0.shape[-2], scene.x0.shape[-1])))

        listener = Listener(look, attention_sites=cross_layers(scene))
        (eps,) = noise_for(scene)
        n = len(scene.grid) - 1
        with torch.no_grad():
            for share in self.levels:
                i = min(n - 1, max(0, round(share * n)))
                now, to = scene.grid[i], scene.grid[i + 1]
                step = Step(
                    i=i,
                    n=n,
                    now=now,
                    to=to,
                    x=now.noise(scene.x0, eps),
                    cond={branch: scene.cond[branch]},
                    rows=scene.rows,
                    extra={branch: scene.extra.get(branch, {})},
                )
                scene.net.estimate(step, [listener], only)
        mean = torch.stack(seen).mean(0)
        size = scene.image.shape[-2:]
        c = normalised(F.interpolate(mean, size, mode="bilinear", align_corners=False))
        return squashed(c, self.squash).to(scene.image.dtype)

    def _chosen(self, scene: Scene, row: int) -> Tensor:
        """[T] weights of the tokens of these words in a row's prompt; UsageError when they are not in it."""
        import torch

        from counterlens.core.conditioning.token_alignment import spans

        prompt, labels = scene.resources.options["prompts"][scene.rows[row]], scene.resources.classifier.labels
        names = {"source": labels[int(scene.source[row])], "target": labels[int(scene.target[row])]}
        words = re.sub(r"\{(source|target)\}", lambda match: names[match[1]], self.words)
        length = scene.cond[list(scene.cond)[-1]].shape[1]
        found = torch.zeros(length)
        asked = places(prompt, words) if words else [(0, len(prompt))]
        for k, (start, end) in enumerate(spans(scene.resources.pipeline.others["tokenizer"], prompt)[:length]):
            found[k] = float(start < end and any(start < last and end > first for first, last in asked))
        if not found.any():
            raise UsageError(f"cross-attention: the prompt {prompt!r} has no words {words!r}; give --prompt")
        return found / found.sum()


def places(prompt: str, words: str) -> list[tuple[int, int]]:
    """Characters of ``words`` in a prompt: together, as a class is named, or else every word by itself, or else the
    head noun alone; [] if there is none of these.

    >>> places("a photo of a Ram C/V. On a road", "Ram C/V")
    [(13, 20)]
    >>> places("a cabinet", "cab")
    []
    """
    from counterlens.core.conditioning.class_names import find_class_name
    from counterlens.core.conditioning.nouns import rules

    nouns = rules()
    whole = find_class_name(prompt, words, nouns)
    if whole and whole.how != "head":
        return [(whole.start, whole.end)]
    each = [find_class_name(prompt, word, nouns) for word in words.split()]
    found = each if each and all(each) else [whole]
    return [(one.start, one.end) for one in found if one]


def over_words(p: Tensor, chosen: Tensor, size: tuple[int, int]) -> Tensor:
    """Attention [B,heads,q,k] to the chosen words [B,T], as maps [B,1,h,w]."""
    import torch.nn.functional as F

    over = p[..., : chosen.shape[1]].float().mean(1) @ chosen[:, :, None]  # [B,q,1]; added keys, the words, come first
    height = max(1, round((over.shape[1] * size[0] / size[1]) ** 0.5))
    return F.interpolate(over.transpose(1, 2).unflatten(2, (height, -1)), size, mode="bilinear", align_corners=False)


def cross_layers(scene: Scene) -> tuple[str, ...]:
    """Attention layers that look at words: ``attn2``, or (Imagen's blocks) those with added keys."""
    names = scene.net.attention
    own = tuple(name for name in names if name.endswith("attn2"))
    return own or tuple(name for name in names if getattr(names[name], "added_kv_proj_dim", None))
