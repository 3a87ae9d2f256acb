"""`impact`, made to kill itself (kill -9) at a named point around the aggregator's commit.

usage: python -m tests.end_to_end.crashing POINT NTH COMMAND...
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from impact_aggregator import store
from impact_cli.main import app
from impact_database import engine as database

if TYPE_CHECKING:
    from collections.abc import Callable

POINTS = ("before_begin", "after_upserts", "before_commit", "after_commit")


class Countdown:
    """Kills the process the nth time that its point is passed."""

    def __init__(self, wanted: str, nth: int) -> None:
        self.wanted = wanted
        self.left = nth
        self.counting = False  # only around the fold's transaction, not the tick's or the migration's

    def passes(self, point: str) -> None:
        if point != self.wanted or not self.counting:
            return
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def arm(countdown: Countdown) -> None:
    commit, write, connect = store.Store.commit, store.Store._write, database.connect

    async def commit_counted(*arguments: Any) -> None:
        countdown.counting = True
        countdown.passes("before_begin")
        try:
            await commit(*arguments)
        finally:
            countdown.counting = False

    async def write_counted(*arguments: Any) -> None:
        await write(*arguments)
        countdown.passes("after_upserts")

    store.Store.commit = commit_counted  # type: ignore[method-assign, assignment]  # that is how it is armed
    store.Store._write = write_counted  # type: ignore[method-assign, assignment]  # the same

    def connect_counted(url: str) -> Any:
        made = connect(url)
        dialect = made.sync_engine.dialect
        dialect.do_commit = _around(dialect.do_commit, countdown)  # type: ignore[method-assign, assignment]
        return made

    sys.modules["impact_cli.assemble"].connect = connect_counted  # type: ignore[attr-defined]


def _around(do_commit: Callable[[Any], None], countdown: Countdown) -> Callable[[Any], None]:
    def counted(connection: Any) -> None:
        countdown.passes("before_commit")
        do_commit(connection)
        countdown.passes("after_commit")

    return counted


if __name__ == "__main__":
    import impact_cli.assemble  # noqa: F401 (arm reaches into it)

    arm(Countdown(sys.argv[1], int(sys.argv[2])))
    app(sys.argv[3:], prog_name="impact")
