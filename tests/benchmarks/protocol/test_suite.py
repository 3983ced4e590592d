"""Suites as data: every file reads, needs are checked by hash and count, protocols are compared."""

import hashlib

import pytest

from counterlens.benchmarks.protocol import suite
from counterlens.benchmarks.protocol.protocol import Protocol, differences
from counterlens.core.errors import MissingError, UsageError
from counterlens.core.plugin import registry as registries

FIELD = {"celeba-hq-smile", "celeba-hq-age", "imagenet-zebra-sorrel", "afhq", "oct", "cub", "bdd"}


def test_those_of_the_field_are_there():
    assert {"smoke", "shapes", "digits"} | FIELD <= set(suite.names())


@pytest.mark.parametrize("name", suite.names())
def test_every_suite_reads_and_knows_its_metrics(name):
    found = suite.suite(name)
    assert found.name == name and found.summary and found.protocol.selection_split != found.protocol.split
    registry = registries.load_registry(third_party=False)
    assert found.protocol.metrics and all(registry.make("metric", text) for text in found.protocol.metrics)
    assert found.needs or found.protocol.data.startswith("domain:")


@pytest.mark.parametrize("name", sorted(FIELD))
def test_what_has_to_be_downloaded_is_said_before_anything_runs(name, monkeypatch, tmp_path):
    monkeypatch.setenv("COUNTERLENS_DATA", str(tmp_path))
    with pytest.raises(MissingError, match="get it from"):
        suite.suite(name).check()


def test_files_are_checked_by_hash_and_folders_by_count(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"content")
    (tmp_path / "many").mkdir()
    (tmp_path / "many" / "one").touch()
    about = {"path": "a.tar", "what": "an archive", "where": "somewhere"}
    good = hashlib.sha256(b"content").hexdigest()
    assert suite.Need(**about, sha256=good).problem(tmp_path) == ""
    assert "sha256 differs" in suite.Need(**about, sha256="0" * 64).problem(tmp_path)
    assert suite.Need(**about, md5=hashlib.md5(b"content").hexdigest()).problem(tmp_path) == ""
    assert "md5 differs" in suite.Need(**about, md5="0" * 32).problem(tmp_path)
    folder = {**about, "path": "many"}
    assert suite.Need(**folder, files=1).problem(tmp_path) == ""
    assert "1 files, 2 are expected" in suite.Need(**folder, files=2).problem(tmp_path)


def test_a_wrong_file_names_the_field(tmp_path):
    (tmp_path / "x.yaml").write_text("name: x\nsummary: y\nprotocol: {data: 'domain:shapes', classifier: c, limt: 3}\n")
    with pytest.raises(UsageError, match=r"protocol\.limt"):
        suite.suite(str(tmp_path / "x.yaml"))


def test_hashes_follow_what_a_number_depends_on():
    one = Protocol(data="domain:shapes", classifier="domain:shapes")
    same = Protocol(classifier="domain:shapes", data="domain:shapes", seed=0)
    other = Protocol(data="domain:shapes", classifier="domain:shapes", seed=1, tau=0.8)
    assert one.hash == same.hash != other.hash
    assert differences(one.dumped(), other.dumped()) == {"tau": (None, 0.8), "seed": (0, 1)}
