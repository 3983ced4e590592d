"""The Ray engine on real local clusters: the same records as here, dead actors replaced, a cluster that goes away."""

import os
import signal
import threading
import time

import pytest

from counterlens.benchmarks.running import runner
from counterlens.core.errors import MissingError

ray = pytest.importorskip("ray")
ROWS = ("identity", "random", "pgd")


def hashes(records):
    return {record["digest"]: record["hash"] for rows in records.values() for record in rows}


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    yield
    ray.shutdown()


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    """A cluster of two nodes on this machine, one CPU each; its workers find what this process finds."""
    import sys

    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    yield made
    ray.shutdown()
    made.shutdown()


def run(bench, **how):
    import ray

    from counterlens.benchmarks.running.ray import Ray

    crew = Ray(bench.run.manifest, bench.run.path, **how)
    ray.wait([hand.asked for hand in crew.hands], num_returns=len(crew.hands), timeout=120)  # a slow start is no matter
    try:
        assert runner.Runner(bench, crew).work()
    finally:
        crew.close()
    return bench.records()


def test_records_are_those_of_the_local_engine(begin, work, suite, cluster):
    here = hashes(work(begin(suite(limit=4), ROWS, "here")))
    bench = begin(suite(limit=4), ROWS, "there")
    assert hashes(run(bench, address=cluster.address, workers=2)) == here
    hands = {event["hand"] for event in bench.run.events() if event["event"] == "done"}
    assert hands == {0, 1}


def test_a_cluster_of_this_machine_is_started_and_an_actor_that_dies_is_replaced(begin, suite, touchy):
    dies = touchy(
        """
        if noisy.any() and not (HERE / "once").exists():
            (HERE / "once").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    bench = begin(suite(limit=2, **dies), ("identity", "random"))
    records = run(bench, workers=2)
    assert all(record["failure"] is None for rows in records.values() for record in rows)
    assert sum(event["event"] == "died" for event in bench.run.events()) == 1
    assert not ray.is_initialized()


def test_no_cluster_at_that_address(begin, suite):
    with pytest.raises(MissingError, match=r"no Ray cluster answers at 127\.0\.0\.1:1"):
        run(begin(suite(limit=2), ("identity",)), address="127.0.0.1:1")


def test_a_cluster_that_goes_away(begin, work, suite, touchy, cluster):
    slow = touchy("import time; time.sleep(0.5)")
    bench = begin(suite(limit=8, batch=1, **slow), ("identity",))

    def pull_the_plug():
        while not any(bench.records()["identity"]):
            time.sleep(0.1)
        for process in cluster.head_node.all_processes["gcs_server"]:
            os.kill(process.process.pid, signal.SIGKILL)

    thread = threading.Thread(target=pull_the_plug)
    thread.start()
    with pytest.raises(MissingError, match="went away"):
        run(bench, address=cluster.address, workers=2)
    thread.join()
    kept = [record for record in bench.records()["identity"] if record]
    assert 0 < len(kept) < 8
    assert all(work(bench)["identity"])
