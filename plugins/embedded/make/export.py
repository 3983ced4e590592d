"""The domains' own part of writing trained networks: their tokenizer, and what the autoencoder is scaled by."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from counterlens.core.training import export, networks
from counterlens.plugins.embedded.content import captions, data
from counterlens.plugins.embedded.content.architectures import SHAPES


@lru_cache(maxsize=1)
def tokenizer_folder() -> Path:
    """The tokenizer's files in a temporary folder, for training before anything is exported."""
    folder = Path(tempfile.mkdtemp(prefix="counterlens-tokenizer-"))
    captions.write_tokenizer(folder)
    return folder


def write(out: Path, domain: str, part: str, model: Any) -> None:
    """A trained part where its pipelines look for it."""
    if part == "clip":
        export.write_clip(out, model, captions.write_tokenizer)
    elif part == "clip-image":
        export.write_model(out / export.PRIOR / "image_encoder", model)  # the tuned tower in place of the first one
    elif part == "vae":
        images, _, _ = data.load(domain, "train-all")
        export.write_vae(out, model, networks.movq(SHAPES[domain]), images * 2 - 1)
    else:
        export.UNETS[part](out, model)
