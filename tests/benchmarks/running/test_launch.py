"""Which driver a process is, by its environment."""

import pytest

from counterlens.benchmarks.running.launch import LaunchRank, devices, place
from counterlens.core.errors import UsageError


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, LaunchRank()),
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, LaunchRank(3, 8, 1, "torchrun")),
        ({"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "4"}, LaunchRank(0, 4, 0, "slurm")),
        (
            {
                "SLURM_ARRAY_TASK_ID": "7",
                "SLURM_ARRAY_TASK_MIN": "1",
                "SLURM_ARRAY_TASK_STEP": "2",
                "SLURM_ARRAY_TASK_COUNT": "4",
            },
            LaunchRank(3, 4, 0, "slurm"),
        ),
    ],
)
def test_place(environ, expected):
    assert place(environ) == expected


@pytest.mark.parametrize(
    "environ",
    [
        {"RANK": "8", "WORLD_SIZE": "8"},
        {"RANK": "x", "WORLD_SIZE": "8"},
        {"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_COUNT": "4"},
    ],
)
def test_an_environment_that_makes_no_sense(environ):
    with pytest.raises(UsageError):
        place(environ)


def test_devices_on_a_cpu():
    assert devices("cpu", 3, LaunchRank()) == ["cpu"] * 3
    assert devices("cpu", None, LaunchRank(1, 4, 1, "torchrun")) == ["cpu"]
    assert len(devices("cpu", None, LaunchRank())) >= 1
