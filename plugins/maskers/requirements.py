"""Which weights of segmenters are on this machine, and the commands that bring them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from counterlens.core.utils.files import cache_folder

SAM = "sam_vit_b_01ec64.pth"
SAM_URL = f"https://dl.fbaipublicfiles.com/segment_anything/{SAM}"
SAM_HQ = "syscv-community/sam-hq-vit-base"


def checks() -> Iterator[Mapping[str, str]]:
    """The rows of counterlens doctor: looked for in ``checkpoints`` of the cache, where the commands put them."""
    folder = cache_folder() / "checkpoints"
    found = [path for path in (*folder.glob("sam_vit_*.pth"), *folder.glob("sam_vit_*.safetensors"))]
    fetch = f"curl --create-dirs -L -o {folder / SAM} {SAM_URL}"
    yield _row("SAM checkpoint", found, folder, fetch, "--editor \"change-map source='sam checkpoint=FILE'\"")
    hq = [path.parent for path in folder.glob("*/config.json") if '"sam_hq"' in path.read_text(encoding="utf-8")]
    fetch = f"hf download {SAM_HQ} --local-dir {folder / 'sam-hq-vit-base'}"
    yield _row("SAM-HQ checkpoint", hq, folder, fetch, "--editor \"change-map source='sam-hq checkpoint=DIR …'\"")


def _row(name: str, found: list[Path], folder: Path, fetch: str, use: str) -> dict[str, str]:
    if found:
        return {
            "name": name,
            "status": "ok",
            "detail": f"{', '.join(map(str, sorted(found)))}; used by {use}",
            "fix": "",
        }
    return {"name": name, "status": "missing", "detail": f"none in {folder}", "fix": fetch}
