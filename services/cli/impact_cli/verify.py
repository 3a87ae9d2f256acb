"""`impact verify`: the numbers recomputed from the event log, beside those of the service."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from impact_aggregator.verify import Log, Report, Scope, TooLittleMemory, verify
from impact_cli import event_logs
from impact_cli.terminal import Refused, progress_bar
from impact_database.engine import connect
from impact_database.migrate import check
from impact_schemas.identity import Identities

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from impact_aggregator.verify import Difference
    from impact_cli.settings import Settings

SHOWN = 20  # differences; --json has more


LEAST_MEMORY_MIB = 1024


async def run(
    settings: Settings, product: str | None, metric: str | None, memory_mib: int | None = None
) -> Report:
    """Works in half of the machine's memory, if nothing is said.

    Raises SettingsError, SchemaOutOfDate, LogError, and Refused for an unknown product or metric.
    """
    engine = connect(settings.required_database_url())
    try:
        await check(engine)
        with progress() as tell:
            return await verify(
                engine,
                open_log(settings),
                Identities(settings.master_key()),
                Scope(product, metric),
                memory_mib=memory_mib or max(LEAST_MEMORY_MIB, _machine_mib() // 2),
                progress=tell,
            )
    except TooLittleMemory as error:
        raise Refused(
            f"{error}: give it more with --memory, or one metric at a time with --metric"
        ) from error
    except LookupError as error:
        raise Refused(str(error)) from error
    finally:
        await engine.dispose()


def _machine_mib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def open_log(settings: Settings) -> Log:
    """The whole log, for a reader that belongs to no group."""
    return Log(event_logs.open_reader(settings, group=None), *event_logs.topics_of(settings))


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for what takes long, and a function that moves it."""
    with progress_bar("{task.fields[counted]}") as bar:
        task = bar.add_task("", total=None, counted="", trouble="")

        def tell(what: str, done: int, total: int) -> None:
            counted = f"{done:,}" + (f" / {total:,}" if total else "") if done or total else ""
            bar.update(task, description=what, completed=done, total=total or None, counted=counted)

        yield tell


def show(report: Report, console: Console) -> None:
    """A line a metric, the first differences, and the verdict."""
    table = Table("product", "metric", "buckets", "rolling", "periods", "differences")
    for column in table.columns[2:]:
        column.justify = "right"
    for one in report.metrics:
        rolling = one.skipped or f"{one.rolling:,}"
        wrong = f"{one.differences:,}" if one.differences else "-"
        cells = (one.product, one.metric, f"{one.buckets:,}", rolling, f"{one.periods:,}", wrong)
        table.add_row(*map(escape, cells), style="red" if one.differences else None)
    console.print(table)
    for difference in report.differences[:SHOWN]:
        console.print(_line(difference), style="red", markup=False)
    if report.differences_total > SHOWN:
        console.print(f"... {report.differences_total - SHOWN:,} more (--json shows up to 100)", markup=False)
    verdict = "equal" if report.equal else f"{report.differences_total:,} differences"
    ledgers = f", ledger of {', '.join(report.ledgers)}" if report.ledgers else ""
    console.print(f"{verdict}: recomputed from {report.events:,} events of the log{ledgers}", markup=False)


def _line(one: Difference) -> str:
    if one.kind == "ledger":
        return f"{one.product}: ledger, {one.field}: expected {one.expected}, found {one.found}"
    where = f"{one.kind} {one.place}" + (f" {one.start}" if one.start else "")
    what = f"{one.product} {one.metric}: {where} {one.segment} {one.field}"
    return f"{what}: expected {one.expected or 'none'}, found {one.found or 'none'}"
