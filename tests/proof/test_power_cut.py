"""What a disk holds after a power cut: the model, without a service."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from proof import power_cut, shim

if TYPE_CHECKING:
    from pathlib import Path

    from proof.shim import Step

WRITER = """
import os, sys
folder = sys.argv[1]
with open(folder + "/a.new", "wb", buffering=0) as file:
    file.write(b"synced ")
    os.fsync(file.fileno())
    file.write(b"not synced")
os.replace(folder + "/a.new", folder + "/a")
"""


@pytest.fixture
def steps(tmp_path: Path) -> list[Step]:
    """What a small program does, written down by the layer under it."""
    try:
        environment = shim.environment(tmp_path, journal=tmp_path / "journal")
    except shim.CompilerMissingError as error:
        pytest.skip(str(error))
    subprocess.run([sys.executable, "-c", WRITER, str(tmp_path)], check=True, env=environment)
    return list(shim.read_journal(tmp_path / "journal"))


def test_the_layer_writes_down_writes_syncs_and_names(steps: list[Step]) -> None:
    assert [(step.what, step.path, step.offset, step.body) for step in steps] == [
        ("W", "a.new", 0, b"synced "),
        ("S", "a.new", 0, b""),
        ("W", "a.new", 7, b"not synced"),
        ("R", "a.new", 0, b""),
    ]


def test_what_was_synced_is_there_and_the_rest_may_be(steps: list[Step], tmp_path: Path) -> None:
    left = set()
    for seed in range(20):
        power_cut.disk_after(steps, steps[-1].end, random.Random(seed), tmp_path / str(seed))
        left.add((tmp_path / str(seed) / "a").read_bytes())
    assert left == {b"synced ", b"synced not synced"}


def test_what_comes_after_the_cut_never_happened(steps: list[Step], tmp_path: Path) -> None:
    power_cut.disk_after(steps, steps[1].end, random.Random(1), tmp_path / "cut")
    assert [(file.name, file.read_bytes()) for file in (tmp_path / "cut").iterdir()] == [
        ("a.new", b"synced ")
    ]
