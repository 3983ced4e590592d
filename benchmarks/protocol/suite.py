"""Suites: protocols as data, in ``suites/*.yaml``, with what has to be downloaded for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from counterlens.benchmarks.protocol.protocol import Protocol
from counterlens.core.data.dataset import PARTS
from counterlens.core.errors import MissingError, UsageError, unknown
from counterlens.core.utils.digest import file_sha256
from counterlens.core.utils.files import cache_folder
from counterlens.core.utils.uri import parse_uri

FOLDER = Path(__file__).parent.parent / "suites"
CONTROLS = ("identity", "reconstruct", "random", "pgd", "nearest-real", "real")


class Need(BaseModel):
    """A file that a suite needs and this package does not bring."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: str = Field(description="where it is looked for, below the data folder")
    what: str
    where: str = Field(description="where to get it")
    licence: str = ""
    sha256: str = Field("", description="of a file, where its publisher gives one")
    md5: str = Field("", description="of a file, where its publisher gives only this")
    files: int = Field(0, ge=0, description="files below a folder, at least")

    def problem(self, root: Path) -> str:
        """Empty when it is there and whole, else one line with what to do."""
        place = root / self.path
        if not place.exists():
            return f"{self.what} is not in {place}: get it from {self.where}"
        if self.sha256 and file_sha256(place) != self.sha256:
            return f"{place} is not the file that this suite was written for (sha256 differs): get {self.where} again"
        if self.md5 and _md5(place) != self.md5:
            return f"{place} is not the file that this suite was written for (md5 differs): get {self.where} again"
        found = sum(path.is_file() for path in place.rglob("*")) if self.files else 0
        return f"{place} has {found} files, {self.files} are expected: unpack it again" if found < self.files else ""


class Suite(BaseModel):
    """A named protocol with its control rows and its needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    summary: str
    protocol: Protocol
    controls: tuple[str, ...] = CONTROLS
    needs: tuple[Need, ...] = ()
    notes: str = ""

    @classmethod
    def read(cls, path: Path) -> Suite:
        """A suite file; UsageError names the field that is wrong. ``{data}`` in it is the data folder."""
        import yaml

        try:
            content: Any = yaml.safe_load(path.read_text(encoding="utf-8").replace("{data}", str(data_folder())))
            return cls(**content)
        except OSError as error:
            raise UsageError(f"suite {path}: {error.strerror}") from None
        except (yaml.YAMLError, TypeError) as error:
            raise UsageError(f"suite {path}: {str(error).splitlines()[0]}") from None
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise UsageError(f"suite {path}: {field}: {first['msg']}") from None

    def check(self) -> None:
        """MissingError with everything that is missing, before anything runs."""
        root = data_folder()
        problems = [problem for need in self.needs if (problem := need.problem(root))]
        if problems:
            raise MissingError(f"suite {self.name!r}: {'; '.join(problems)} (another folder: COUNTERLENS_DATA)")

    def with_(self, **changes: Any) -> Suite:
        """The suite with other values in its protocol; None changes nothing."""
        given = {key: value for key, value in changes.items() if value is not None}
        try:
            return self.model_copy(update={"protocol": Protocol(**{**self.protocol.model_dump(), **given})})
        except ValidationError as error:
            first = error.errors()[0]
            raise UsageError(f"suite {self.name!r}: {first['loc'][0]}: {first['msg']}") from None


def _md5(path: Path) -> str:
    """A checksum against torn downloads: what these publishers give."""
    import hashlib

    total = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            total.update(block)
    return total.hexdigest()


def data_folder() -> Path:
    """$COUNTERLENS_DATA, or ``data`` in the cache folder."""
    import os

    return Path(os.environ.get("COUNTERLENS_DATA") or cache_folder() / "data").expanduser()


def names() -> list[str]:
    """The suites that come with this package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def suite(name: str) -> Suite:
    """The suite of that name, or of a YAML file."""
    if name.endswith((".yaml", ".yml")):
        return Suite.read(Path(name))
    if name not in names():
        raise unknown("suite", name, names())
    return Suite.read(FOLDER / f"{name}.yaml")


def of_data(uri: str) -> Suite:
    """A suite over any data: the default protocol, about the test part unless the URI's ``split`` says another. The
    classifier has to be said unless it is a domain."""
    name = "".join(c if c.isalnum() else "-" for c in uri).strip("-")[:60]
    where = parse_uri(uri)
    split = where.text("split", "test")
    rest = {key: value for key, value in where.options.items() if key != "split"}
    protocol = Protocol(
        data=str(replace(where, options=rest)),
        classifier="",
        split=PARTS.get(split, split),
        direction="domain" if where.scheme == "domain" else "runner-up",
    )
    return Suite(name=name, summary=f"{uri}, with the default protocol", protocol=protocol)
