from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from counterlens.core.errors import MissingError
from counterlens.core.models.family import Family

if TYPE_CHECKING:
    from counterlens.core.models.pipeline import Pipeline
    from counterlens.core.models.pool import Key

PUBLIC = "kandinsky-community/kandinsky-2-2-decoder"
BESIDE = ("image_encoder", "image_processor")  # parts of the prior


class Kandinsky22(Family):
    """Kandinsky 2.2's decoder (unCLIP): MoVQ latents, CLIP image embeddings of the prior's image encoder."""

    name: ClassVar[str] = "kandinsky22"
    pipelines: ClassVar[tuple[str, ...]] = (
        "KandinskyV22Pipeline",
        "KandinskyV22Img2ImgPipeline",
        "KandinskyV22InpaintPipeline",
    )
    parts: ClassVar[tuple[str, ...]] = ("unet", "scheduler", "movq")
    gives: ClassVar[frozenset[str]] = frozenset({"latents", "image-embedding", "null-branch", "mid-block", "attention"})

    @classmethod
    def load(cls, key: Key) -> Pipeline:
        from functools import partial

        from counterlens.core.models.loading import assemble
        from counterlens.plugins.families.pipelines.kandinsky22 import Kandinsky22Loaded

        loaded = assemble(Kandinsky22Loaded, key, cls.parts, dict.fromkeys(BESIDE, prior_of(key)))
        loaded.prior = partial(prior_of, key)
        return loaded


def prior_of(key: Key, parts: Sequence[str] = BESIDE) -> Path:
    """The folder with the image encoder, fetched with these parts; MissingError that says where it was looked for.

    The key's option ``prior`` first, then ``<model>-prior`` beside the model, the public prior of the public
    decoder, and last the model's own folder.
    """
    from counterlens.core.models import hub

    options = dict(key.options)
    offline = bool(options.get("offline"))
    if options.get("prior"):
        return hub.resolve(str(options["prior"]), "", offline, parts)
    folder = Path(key.model).expanduser()
    if not folder.is_dir():
        if key.model == PUBLIC:
            return hub.resolve(PUBLIC.removesuffix("-decoder") + "-prior", "", offline, parts)
        raise MissingError(f"{key.model}: say where its image encoder is with --prior DIR_OR_ID")
    folder = folder.resolve()
    sibling = folder.with_name(f"{folder.name}-prior")
    for place in (sibling, folder):
        if (place / "image_encoder").is_dir():
            return place
    raise MissingError(
        f"{folder} has no image encoder: neither {sibling}/image_encoder nor {folder}/image_encoder is there; "
        "give --prior DIR_OR_ID"
    )
