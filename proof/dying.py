"""`impact`, made to kill itself (kill -9) the nth time that the log has taken an append.

usage: python -m proof.dying after_append NTH COMMAND...
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from impact_cli.main import app
from impact_eventlog.embedded import EmbeddedWriter
from impact_eventlog.kafka import KafkaWriter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Append = "Callable[..., Awaitable[None]]"


def arm(nth: int) -> None:
    """The log has the events, and nobody will ever hear of it."""
    left = nth

    def dying(append: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def append_and_die(*arguments: Any) -> None:
            nonlocal left
            await append(*arguments)
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        return append_and_die

    for writer in (EmbeddedWriter, KafkaWriter):
        writer.append = dying(writer.append)  # type: ignore[method-assign, assignment]  # that is how it is armed


if __name__ == "__main__":
    arm(int(sys.argv[2]))
    app(sys.argv[3:], prog_name="impact")
