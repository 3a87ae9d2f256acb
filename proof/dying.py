"""`impact`, made to kill itself (kill -9) at the nth append that the log took, or around a rebuild's swap.

usage: python -m proof.dying after_append|before_swap|after_swap NTH COMMAND...
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from impact_aggregator.rebuild import Rebuild
from impact_cli.main import app
from impact_eventlog.embedded import EmbeddedWriter
from impact_eventlog.kafka import KafkaWriter

Call = Callable[..., Awaitable[Any]]


class Countdown:
    """Kills the process the nth time that it is passed."""

    def __init__(self, nth: int) -> None:
        self.left = nth

    def passes(self) -> None:
        """Once more."""
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def dying(call: Call, countdown: Countdown, *, before: bool) -> Call:
    """The call, with the end of the process before or after it."""

    async def wrapped(*arguments: Any) -> Any:
        if before:
            countdown.passes()
        result = await call(*arguments)
        if not before:
            countdown.passes()
        return result

    return wrapped


def arm(point: str, nth: int) -> None:
    """Puts the point's call into the place of the plain one."""
    countdown = Countdown(nth)
    if point == "after_append":
        for writer in (EmbeddedWriter, KafkaWriter):
            _replace(writer, "append", dying(writer.append, countdown, before=False))
    else:
        _replace(Rebuild, "_swap", dying(Rebuild._swap, countdown, before=point == "before_swap"))


def _replace(owner: Any, name: str, call: Call) -> None:
    setattr(owner, name, call)


if __name__ == "__main__":
    arm(sys.argv[1], int(sys.argv[2]))
    app(sys.argv[3:], prog_name="impact")
