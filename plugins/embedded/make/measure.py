"""The figures of a domain, written to ``figures.json`` beside its weights.

``python -m counterlens.plugins.embedded.make.measure DOMAIN [--root DIR] [--count N] [--sheets DIR] [--parts PART …]``
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from counterlens.core.images.pixels import psnr
from counterlens.core.training.fit import write_bytes, write_json
from counterlens.plugins.embedded.content import data, nets, shapes, store
from counterlens.plugins.embedded.make import generate
from counterlens.plugins.embedded.make.inversions import of_inversions
from counterlens.plugins.metrics.sets.neighbours import PrecisionRecall
from counterlens.plugins.trainers.backbones.preview import nearest, png

NEIGHBOURS = 5


def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    return round(float((net(images).argmax(1) == labels).float().mean()), 4)


def precision_recall(real: Tensor, made: Tensor) -> tuple[float, float]:
    """Share of made points within the balls of real ones, and the reverse (features [N,D])."""
    metric, x, y = PrecisionRecall(neighbours=NEIGHBOURS), real.double().numpy(), made.double().numpy()
    return metric.covered(y, x), metric.covered(x, y)


def memorised(images: Tensor, held_out: Tensor, train: Tensor) -> dict[str, float]:
    """Distances to the nearest training image: made over held-out (medians), and how often it is suspiciously near."""
    near, held = (nearest(x, train)[0] for x in (images, held_out))
    return {
        "nearest_training_ratio": round(float(near.median() / held.median()), 3),
        "nearer_than_1_percent_of_held_out": round(float((near < held.quantile(0.01)).float().mean()), 3),
    }


def of_nets(domain: str, root: Path) -> dict[str, object]:
    loaded = {p.stem: nets.load_net(p)[0] for p in sorted((root / "nets").glob("*.safetensors"))}
    images, labels, drawn = data.load(domain, "test")
    figures: dict[str, object] = {f"accuracy_{n}": accuracy(loaded[n], images, labels) for n in ("classifier", "judge")}
    if domain != "shapes" or drawn is None:
        return figures
    truth = data.tensor(np.stack([shapes.render(shapes.opposite(f)) for f in drawn]))
    for name in ("classifier", "judge"):
        figures[f"truth_confirmed_{name}"] = accuracy(loaded[name], truth, 1 - labels)
    said = torch.tensor([shapes.shortcut_label(f) for f in drawn])
    apart = said != labels
    figures["shortcut_follows_background"] = accuracy(loaded["shortcut"], images[apart], said[apart])
    wanted = data.factor_targets(drawn)
    lost = (loaded["regressor"](images) - wanted).square().sum(0) / (wanted - wanted.mean(0)).square().sum(0)
    figures["regressor_r2"] = {n: round(1 - float(v), 4) for n, v in zip(data.TARGETS, lost, strict=True)}
    return figures


def of_vae(domain: str, root: Path) -> dict[str, object]:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(root / "stable-diffusion" / "vae", torch_dtype=torch.float32)
    images, _, _ = data.load(domain, "test")
    back = [vae.decode(vae.encode(x * 2 - 1).latent_dist.mean).sample.clamp(-1, 1) / 2 + 0.5 for x in images.split(100)]
    return {"vae_psnr_db": round(float(psnr(torch.cat(back), images).mean()), 2)}


def of_pipeline(domain: str, root: Path, part: str, count: int, sheets: Path | None) -> dict[str, object]:
    """Precision, recall, class asked for and memorisation of ``count`` images of one pipeline."""
    judge: Any = nets.load_net(root / "nets" / "judge.safetensors")[0]
    wanted, labels, prompts = generate.asked(domain, count)
    if part == "ddpm":
        made = generate.ddpm(root, count)
    elif part == "kandinsky22":
        made = generate.kandinsky22(root, wanted)
    else:
        made = generate.stable_diffusion(root, prompts)
    if sheets:
        pairs = made[:96] if part == "ddpm" else torch.stack([wanted[:96], made[:96]]).view(2, -1, 16, 3, 32, 32)
        pairs = pairs if part == "ddpm" else pairs.transpose(0, 1).reshape(-1, 3, 32, 32)
        write_bytes(sheets / f"{domain}-{part}.png", png(pairs * 2 - 1, columns=16))
    train = data.load(domain, "train-all")[0]
    held_out = torch.cat([data.load(domain, s)[0] for s in ("test", "val")])[:1000]
    reference = train[:: max(1, len(train) // 1000)][:1000]
    features = [judge.features(x) for x in (reference, made, held_out)]
    precision, recall = precision_recall(features[0], features[1])
    floor = precision_recall(features[0], features[2])
    figures: dict[str, object] = {
        "images": count, "steps": 50, "precision": round(precision, 3), "recall": round(recall, 3),
        "real_precision": round(floor[0], 3), "real_recall": round(floor[1], 3),
    }  # fmt: skip
    if part == "stable-diffusion":
        figures |= {"class_asked_for": accuracy(judge, made, labels), "guidance": generate.GUIDANCE}
    if part == "kandinsky22":
        moved = generate.kandinsky22(root, wanted, moves=generate.toward(root, domain, labels))
        figures |= {"class_asked_for": accuracy(judge, moved, labels), "guidance": generate.GUIDANCE}
        figures |= of_kept_classes(domain, judge, made, labels)
    return figures | memorised(made, held_out, train)


def of_kept_classes(domain: str, judge: nn.Module, made: Tensor, labels: Tensor) -> dict[str, object]:
    """How often an image comes back from its bare embedding as its own class.

    An embedding says spikiness with an error, which decides near the boundary: images as far from it as true
    counterfactuals are counted apart.
    """
    kept: dict[str, object] = {"class_kept": accuracy(judge, made, labels)}
    if domain != "shapes":
        return kept
    drawn = shapes.factors("test", len(labels))
    clear = torch.tensor([abs(drawn[i % len(drawn)].spikiness - 0.5) >= shapes.CLEAR for i in range(len(labels))])
    return kept | {"class_kept_clear": accuracy(judge, made[clear], labels[clear]), "clear_images": int(clear.sum())}


@torch.no_grad()
def measure(
    domain: str, root: Path, count: int = 1000, sheets: Path | None = None, parts: Sequence[str] = store.PIPELINES
) -> dict[str, Any]:
    """Figures of what is trained so far below ``root`` (the domain's folder); those of other parts stay as they are."""
    figures: dict[str, Any] = store.read_json(root / "figures.json") | of_nets(domain, root)
    if (root / "stable-diffusion" / "vae").is_dir():
        figures |= of_vae(domain, root)
    for part in parts:
        if (root / part / "model_index.json").is_file():
            figures[part] = of_pipeline(domain, root, part, count, sheets)
            figures[part]["inversion"] = of_inversions(domain, root, part, min(count, 100))
            print(domain, part, figures[part], flush=True)
            write_json(root / "figures.json", figures)
    write_json(root / "figures.json", figures)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("domain", choices=data.DOMAINS)
    parser.add_argument("--root", type=Path, default=store.WEIGHTS)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--sheets", type=Path)
    parser.add_argument("--parts", nargs="*", default=store.PIPELINES, choices=store.PIPELINES)
    options = parser.parse_args()
    print(measure(options.domain, options.root / options.domain, options.count, options.sheets, options.parts))


if __name__ == "__main__":
    main()
