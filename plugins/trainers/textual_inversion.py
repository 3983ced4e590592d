from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from counterlens.core.training.trainer import Trainer
from counterlens.core.utils.seeds import generator

if TYPE_CHECKING:
    from torch import Tensor

    from counterlens.core.training.trainer import TrainJob
    from counterlens.plugins.trainers.fitting.latents import Encoded


class TextualInversion(Trainer):
    """Words for your images, learned as inputs of the text encoder (TIME, Jeanneret et al. 2024): one for what all
    images share, then one for each class. No network is changed.

    Afterwards: --method textual-inversion --editor 'words file=OUT'.
    """

    name: ClassVar[str] = "textual-inversion"
    needs: ClassVar[frozenset[str]] = frozenset({"words"})
    networks: ClassVar[str] = "model"
    file: ClassVar[str] = "words.safetensors"
    context: str = Field("picture", description="words that the shared one begins as")
    vectors: int = Field(1, description="rows of each learned word", ge=1, le=16)
    template: str = Field("a {context} of a {class}", description="the prompt; for the shared word without its class")
    steps: int = Field(
        300, description="of the optimiser, for the shared word and again for those of the classes", ge=1
    )
    batch: int = Field(8, description="images a step", ge=1)
    lr: float = Field(0.01, description="learning rate", gt=0)
    held: float = Field(0.1, description="share of the groups of images that are held out", gt=0, lt=1)

    def train(self, job: TrainJob) -> Mapping[str, Any]:
        from counterlens.core.conditioning.learned_words import LearnedWords, start
        from counterlens.core.utils.weights import fingerprint
        from counterlens.plugins.trainers.fitting.latents import encode

        pipeline, data = job.network, encode(job, self.held, "")
        labels = job.dataset.labels
        context = start(pipeline, self.context, self.vectors)
        before = self._held(job, data, context, {label: start(pipeline, label, self.vectors) for label in labels})
        (context,) = self._learn(job, data, [context], lambda rows, _: (rows[0], None), "shared word")
        begun = [start(pipeline, label, self.vectors) for label in labels]
        found = self._learn(job, data, begun, lambda rows, label: (context, rows[labels.index(label)]), "words")
        words = LearnedWords(
            context, dict(zip(labels, found, strict=True)), self.template, fingerprint(pipeline.modules["text_encoder"])
        )
        after = self._held(job, data, context, words.classes)
        words.save(job.out)
        return {"classes": list(labels), "held_out_loss": {"before": before, "after": after}, "steps": 2 * self.steps}

    def _learn(self, job: TrainJob, data: Encoded, begin: list[Tensor], slots: Any, what: str) -> list[Tensor]:
        """``slots(rows, label)`` gives the context's and the class's rows; the rows [n,D] are learned together."""
        import torch

        rows = [row.clone().requires_grad_() for row in begin]
        optimizer = torch.optim.AdamW(rows, lr=self.lr, weight_decay=0.0)
        train = torch.tensor(data.rows["train"])
        for step in range(self.steps):
            g = generator(job.seed * 10_000_019 + step)
            picked = train[torch.randint(len(train), (self.batch,), generator=g)]
            loss = self._loss(job, data, picked, lambda label: slots(rows, label), g).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(rows, 1.0)
            optimizer.step()
            job.progress(what, step + 1, self.steps)
        return [row.detach() for row in rows]

    def _loss(self, job: TrainJob, data: Encoded, picked: Tensor, slots: Any, g: Any) -> Tensor:
        """[B]: the denoising loss of images under the prompts of their classes."""
        import torch

        from counterlens.core.conditioning.learned_words import encoded
        from counterlens.plugins.trainers.fitting.latents import denoising_loss

        names = [data.labels[int(k)] for k in picked]
        prompts = {}
        for name in dict.fromkeys(names):
            context, own = slots(name)
            template = self.template if own is not None else self._shared()
            prompts[name] = encoded(job.network, template, {"context": context, "class": own})
        cond = torch.cat([prompts[name] for name in names])
        return denoising_loss(job.network, data.x0[picked], cond, {}, g)

    def _shared(self) -> str:
        """The template up to the context: what can be said of every image."""
        return self.template.partition("{context}")[0] + "{context}"

    def _held(self, job: TrainJob, data: Encoded, context: Tensor, classes: Mapping[str, Tensor]) -> float:
        """Mean loss on held-out images, always under the same noises."""
        import torch

        g = generator(job.seed)
        held = torch.tensor(data.rows["held"]).repeat(4)
        with torch.no_grad():
            parts = [
                self._loss(job, data, part, lambda label: (context, classes[label]), g)
                for part in held.split(self.batch)
            ]
        return round(float(torch.cat(parts).mean()), 5)
