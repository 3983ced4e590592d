from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from counterlens.core.errors import CounterlensError, RunFailed, UsageError
from counterlens.core.training.trainer import Trainer

if TYPE_CHECKING:
    from torch import nn

    from counterlens.core.classifiers.accuracy import Accuracy
    from counterlens.core.training.trainer import TrainJob

SHARES = {"selector": 0.34, "selector-held": 0.06, "judge": 0.34, "judge-held": 0.06, "test": 0.2}
WITH_TEST = {"selector": 0.42, "selector-held": 0.08, "judge": 0.42, "judge-held": 0.08}  # the data has a test part
SHORT = ("small-cnn", "pool-cnn", "probe")
OTHER = {"small-cnn": "pool-cnn", "pool-cnn": "small-cnn"}  # who judges whom


class ClassifierTrainer(Trainer):
    """Two classifiers that share no training image: a selector that methods may ask, and a judge that only reports.

    Each is an ensemble, the selector of --arch and the judge of --judge-arch, trained with class-balanced loss on
    ImageNet-normalised images, the best epoch of each kept and calibrated (temperature). ``probe`` is a logistic
    regression on the pipeline's image embeddings (--model). Accuracy is measured on images that neither has seen, those
    of the test split if the data is divided; near chance nothing is written.
    Afterwards: --classifier ensemble:OUT/selector --judge ensemble:OUT/judge.
    """

    name: ClassVar[str] = "classifier"
    needs: ClassVar[frozenset[str]] = frozenset({"image-embedding"})
    networks: ClassVar[str] = "maybe"
    file: ClassVar[str] = "classifier"
    arch: tuple[str, ...] = Field(
        ("pool-cnn",), description="pool-cnn, small-cnn, probe, torchvision names or timm:NAME", min_length=1
    )
    judge_arch: tuple[str, ...] = Field(
        (), description="of the judge; small-cnn where the selector is a pool-cnn and the other way round, else --arch"
    )
    size: int = Field(64, description="side that images are resized to", ge=16, le=1024)
    epochs: int = Field(80, description="at most", ge=1)
    patience: int = Field(20, description="epochs without a better held-out loss", ge=1)
    lr: float = Field(1e-3, description="learning rate", gt=0)
    batch: int = Field(32, description="images a step", ge=2)
    flip: bool = Field(False, description="mirrored images are of the same class")
    jitter: float = Field(
        0.3,
        description="zoom images by up to this share while training, and turn, shift and light them by less",
        ge=0,
        lt=1,
    )
    attack: float = Field(
        0.0, description="largest change of a pixel in [0,1] that the selector is trained to withstand", ge=0, lt=0.5
    )
    pretrained: bool = Field(True, description="begin with published weights where they can be had")
    force: bool = Field(False, description="write a classifier that is no better than chance")

    def uses_model(self) -> bool:
        return "probe" in (*self.arch, *self.judge_arch)

    def archs(self, role: str) -> tuple[str, ...]:
        if role == "selector":
            return self.arch
        return self.judge_arch or tuple(OTHER.get(name, name) for name in self.arch)

    def train(self, job: TrainJob) -> Mapping[str, Any]:
        if job.out.exists():
            raise UsageError(f"{job.out} is there already: choose another --out, or remove it")
        data = _read(job, self.size, self.pretrained)
        from counterlens.core.utils.files import explained, temporary

        part = temporary(job.out)
        try:
            with explained(job.out):
                rows = [row for role in ("selector", "judge") for row in self._members(job, data, role, part / role)]
                record = {
                    "classes": data.counts,
                    "parts": data.sizes(),
                    "members": rows,
                    **self._scores(job, data, part),
                }
                (part / "classifier.json").write_text(json.dumps(record, indent=1) + "\n")
                part.rename(job.out)
        finally:
            if part.exists():
                import shutil

                shutil.rmtree(part, ignore_errors=True)
        return record

    def _members(self, job: TrainJob, data: Any, role: str, folder: Path) -> list[dict[str, Any]]:
        """Every architecture trained on this role's images, written and measured."""
        from counterlens.core.data import training_images

        folder.mkdir(parents=True)
        training_images.write_record(folder, data.hashes(role, f"{role}-held"), job.dataset.uri)
        return [self._member(job, data, role, name, folder) for name in self.archs(role)]

    def _member(self, job: TrainJob, data: Any, role: str, name: str, folder: Path) -> dict[str, Any]:
        import torch

        from counterlens.plugins.trainers.fitting import linear_probe
        from counterlens.plugins.trainers.fitting.classifier import (
            ClassifierRecipe,
            calibration_error,
            divide,
            fit,
            logits_of,
            temperature,
        )

        path = folder / f"{name.replace(':', '-')}.safetensors"
        if name == "probe":
            return {"role": role, "arch": name, **linear_probe.write(job, data, role, path)}
        attack = self.attack if role == "selector" else 0.0
        recipe = ClassifierRecipe(
            epochs=self.epochs,
            patience=self.patience,
            lr=self.lr,
            batch=self.batch,
            flip=self.flip,
            jitter=self.jitter,
            attack=attack,
            device=job.device,
            seed=job.seed,
        )
        arch = name if name.partition(":")[0] in ("timm", "torchvision", *SHORT) else f"torchvision:{name}"
        torch.manual_seed(job.seed)
        net = job.catalogue.architecture(arch, len(data.labels))
        begun = self._begin(job, net, arch) if self.pretrained else "at random"
        train, held = data.part(role), data.part(f"{role}-held")
        what = f"{role} {name}"
        found = fit(net, train, held, len(data.labels), recipe, lambda i, n: job.progress(what, i, n))
        logits, truth = logits_of(net, held, recipe).cpu(), held.labels
        t = temperature(logits, truth)
        gap = [calibration_error((logits / by).softmax(1), truth) for by in (1.0, t)]
        divide(net, t)
        _save(path, net, {"arch": arch, "labels": list(data.labels), "size": self.size})
        errors = {"calibration_error": round(gap[1], 4), "before_calibration": round(gap[0], 4)}
        return {"role": role, "arch": name, "began": begun, **found, "temperature": round(t, 3), **errors}

    def _begin(self, job: TrainJob, net: nn.Module, arch: str) -> str:
        """Published weights, but for the last layer, where they can be had."""
        if not arch.startswith(("torchvision:", "timm:")):
            return "at random"
        try:
            published = job.catalogue.open_classifier(arch).modules["classifier"].state_dict()
        except CounterlensError as error:
            job.notice(f"{arch} begins at random: {error}")
            return "at random"
        own = net.state_dict()
        net.load_state_dict(
            {k: published[k] if k in published and published[k].shape == v.shape else v for k, v in own.items()}
        )
        return "with published weights"

    def _scores(self, job: TrainJob, data: Any, folder: Path) -> dict[str, Any]:
        """Accuracy of both ensembles on images that neither has seen, as they will be opened; gated."""
        from counterlens.core.classifiers.accuracy import measure_accuracy
        from counterlens.plugins.trainers.fitting.classifier import auc

        test = data.part("test")
        scores: dict[str, Accuracy] = {}
        aucs: dict[str, float | None] = {}
        images = test.images.float() / 255
        for role in ("selector", "judge"):
            classifier = job.catalogue.open_classifier(f"ensemble:{folder / role}", job.device)
            scores[role] = measure_accuracy(classifier, images, [data.labels[k] for k in test.labels])
            aucs[role] = auc(classifier.evaluate(images).cpu(), test.labels)
            if scores[role].near_chance and not self.force:
                raise RunFailed(
                    f"the {role} is no better than chance: {scores[role]}; nothing was written. Are the labels right, "
                    "and can the classes be told by eye? More images or epochs may help; --force writes it all the same"
                )
        return {
            role: {
                "accuracy": round(score.accuracy, 4),
                "chance": round(score.chance, 4),
                "auc": aucs[role],
                "images": score.n,
                "per_class": {name: round(value, 4) for name, value in score.per_class.items()},
            }
            for role, score in scores.items()
        }


def _read(job: TrainJob, size: int, pretrained: bool) -> Any:
    from counterlens.plugins.trainers.fitting.labelled_images import read_labelled

    return read_labelled(job, size, WITH_TEST if job.test else SHARES)


def _save(path: Path, net: nn.Module, about: Mapping[str, Any]) -> None:
    from counterlens.core.utils.weights import write_weights
    from counterlens.plugins.trainers.fitting.classifier import IMAGENET

    mean, std = IMAGENET
    write_weights(path, net.state_dict(), **{**about, "mean": mean, "std": std})
