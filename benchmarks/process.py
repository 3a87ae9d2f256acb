"""Runs one measurement in a process of its own, so that its CPU time and memory are nobody else's.

    python -m benchmarks.process MODULE:FUNCTION '{"argument": "value"}'

The function returns a dict, which is printed as JSON with the process's peak memory. Only the standard
library is imported here: the interpreter may be that of another virtual environment.
"""

from __future__ import annotations

import importlib
import json
import resource
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 600


@dataclass
class Spent:
    """What a stretch of work took; filled in when it ends."""

    cpu_s: float = 0.0  # user and system, all threads of this process
    wall_s: float = 0.0


@contextmanager
def metered() -> Iterator[Spent]:
    """Measures its block."""
    spent = Spent()
    cpu, wall = time.process_time(), time.perf_counter()
    try:
        yield spent
    finally:
        spent.cpu_s = time.process_time() - cpu
        spent.wall_s = time.perf_counter() - wall


def run_apart(function: str, python: str = sys.executable, **arguments: Any) -> dict[str, Any]:
    """What `module:function` returns when a new process calls it. Raises RuntimeError."""
    command = [python, "-m", "benchmarks.process", function, json.dumps(arguments)]
    # the command is this module itself with our own arguments
    run = subprocess.run(  # noqa: S603
        command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    lines = run.stdout.splitlines()
    if run.returncode != 0 or not lines:
        raise RuntimeError(f"{function}({arguments}) failed:\n{run.stdout[-1000:]}{run.stderr[-3000:]}")
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def main(function: str, arguments: str) -> None:
    """The command."""
    module, name = function.split(":")
    answer = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sys.stdout.write("\n" + json.dumps({**answer, "peak_mib": peak_kib / 1024}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
