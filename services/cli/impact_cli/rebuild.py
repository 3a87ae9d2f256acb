"""`impact rebuild`: counts history again under the present catalog, then swaps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from impact_aggregator.rebuild import CannotRebuild, Rebuild, Rebuilt
from impact_aggregator.recount import History
from impact_aggregator.store import ClaimLost, Store
from impact_cli import catalogs, event_logs, terminal
from impact_cli.terminal import Refused
from impact_database import migrate
from impact_database.engine import connect
from impact_schemas.identity import Identities

if TYPE_CHECKING:
    from collections.abc import Collection

    from impact_cli.settings import Settings


async def rebuild(settings: Settings, only: Collection[str]) -> Rebuilt:
    """`only`: names of metrics, or `product.metric`; empty for all. Raises Refused, LogError, NoCatalog."""
    found = catalogs.load(settings.catalog_path())
    chosen = _chosen(only, {(product, name) for product, one in found.items() for name in one.metrics})
    engine = connect(settings.required_database_url())
    history = History(event_logs.open_reader(settings, group=None))
    try:
        await migrate.check(engine)
        with terminal.progress_bar("{task.completed:,} of {task.total:,} records") as bar:
            task = bar.add_task("recounting", total=0, trouble="")
            work = Rebuild(
                engine=engine,
                store=Store(engine, _now, "rebuild"),
                history=history,
                identities=Identities(settings.master_key()),
                catalogs=found,
                events_topic=event_logs.topics_of(settings)[0],
                clock=_now,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
            return await work.run(lambda product, metric: (product, metric) in chosen)
    except CannotRebuild as error:
        raise Refused(str(error)) from error
    except ClaimLost as error:
        raise Refused(f"{error}: run it again") from error
    finally:
        await history.stop()
        await engine.dispose()


def _chosen(only: Collection[str], names: set[tuple[str, str]]) -> set[tuple[str, str]]:
    if not only:
        return names
    found = {name for name in names if name[1] in only or ".".join(name) in only}
    missing = [text for text in only if not any(text in (name[1], ".".join(name)) for name in names)]
    if missing:
        raise Refused(f"no metric is called {', '.join(sorted(missing))}: 'impact status' lists them")
    return found


def _now() -> int:
    return time.time_ns() // 1000
