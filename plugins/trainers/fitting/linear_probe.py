"""A logistic regression on the unit embeddings of a pipeline's image encoder, as a classifier's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from counterlens.core.images.fit import Picture, fit
from counterlens.core.images.pixels import to_tensor
from counterlens.core.utils.batched import batched
from counterlens.core.utils.weights import write_weights
from counterlens.plugins.trainers.fitting.classifier import calibration_error, temperature

if TYPE_CHECKING:
    from counterlens.core.training.trainer import TrainJob
    from counterlens.plugins.trainers.fitting.labelled_images import LabelledImages


def write(job: TrainJob, data: LabelledImages, role: str, path: Path) -> dict[str, Any]:
    """Fit on the role's images, calibrate on its held-out ones, write the linear layer."""
    from sklearn.linear_model import LogisticRegression

    x, y = embedded(job, data, role), data.part(role).labels
    found = LogisticRegression(C=10.0, class_weight="balanced", max_iter=2000).fit(x.double().numpy(), y.numpy())
    weight, bias = (torch.from_numpy(v).float() for v in (found.coef_, found.intercept_))
    if len(weight) == 1:  # two classes: one number z is the pair [0, z]
        weight, bias = torch.cat([torch.zeros_like(weight), weight]), torch.cat([torch.zeros(1), bias])
    held, truth = embedded(job, data, f"{role}-held"), data.part(f"{role}-held").labels
    logits = held @ weight.T + bias
    t = temperature(logits, truth)
    errors = {
        "calibration_error": round(calibration_error((logits / t).softmax(1), truth), 4),
        "before_calibration": round(calibration_error(logits.softmax(1), truth), 4),
    }
    write_weights(path, {"head.weight": weight / t, "head.bias": bias / t}, **_about(job, data))
    return {"temperature": round(t, 3), **errors}


def embedded(job: TrainJob, data: LabelledImages, part: str) -> Tensor:
    """Unit embeddings [N,D] of a part's images."""
    pipeline, rows, out = job.network, data.rows[part], []
    for part_rows in batched(rows, 32):
        images = [to_tensor(fit(Picture(data.pixels[row]), pipeline.size).pixels) for row in part_rows]
        out.append(pipeline.embed(torch.stack(images).to(pipeline.device)).cpu())
        job.progress(f"embeddings of {part}", sum(map(len, out)), len(rows))
    return normalize(torch.cat(out), dim=1)


def _about(job: TrainJob, data: LabelledImages) -> dict[str, str]:
    """How the file is to be opened: the encoder's folder, and what its processor does to a picture."""
    config = job.network.modules[job.network.encoder].config
    processor = job.network.others["image_processor"]
    about = {
        "arch": f"probe:{job.network.encoder_folder()}",
        "labels": json.dumps(list(data.labels)),
        "size": json.dumps(int(config.image_size)),  # type: ignore[union-attr, arg-type]
        "mean": json.dumps([float(v) for v in processor.image_mean]),
        "std": json.dumps([float(v) for v in processor.image_std]),
        "resize": "bicubic-antialias",
    }
    return about
