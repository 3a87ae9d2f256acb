"""`impact send`: a file or standard input through `send`, with a progress bar and a summary."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rich.markup import escape
from rich.table import Table

from impact_cli import terminal
from impact_cli.event_files import UnreadableEvents, chosen_format, open_stream, read_events
from impact_cli.keys import read_keys_file
from impact_cli.send import KEPT_REJECTIONS, SendError, Summary, Target, send
from impact_cli.terminal import Refused, WrongUse

if TYPE_CHECKING:
    from pathlib import Path

SHOWN_REJECTIONS = 20
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def find_key(given: str | None, keys_file: Path | None, default_file: Path, product: str | None) -> str:
    """The key itself, or the one of `product` (or the only one) in the keys file. Raises WrongUse."""
    if given:
        return given
    file = keys_file or default_file
    keys = read_keys_file(file)
    if not keys:
        raise WrongUse(
            f"no key: give one with --key or IMPACT_KEY, or a keys file with --keys-file (not {file})"
        )
    if product is None and len(keys) == 1:
        return next(iter(keys.values()))
    if product not in keys:
        raise WrongUse(f"{file} has keys of {', '.join(sorted(keys))}: say whose with --product")
    return keys[product]


def run(file: str, target: Target, form: str | None) -> Summary:
    """Sends the events of `file` ("-": standard input). Raises WrongUse and Refused."""
    with ExitStack() as stack:
        stream, size = open_stream(file, stack)
        events = read_events(stream, chosen_format(form, file, stream))
        bar = stack.enter_context(terminal.progress_bar("{task.fields[events]:,} events"))
        task = bar.add_task("sending", total=size, events=0, trouble="")

        def progress(so_far: Summary) -> None:
            read = None if size is None else size if stream.closed else stream.tell()
            bar.update(task, completed=read, events=so_far.events, trouble=so_far.trouble or "")

        try:
            return asyncio.run(send(events, target, progress))
        except UnreadableEvents as error:
            raise Refused(f"{file}: {error}. What came before it may have been sent") from error
        except SendError as error:
            raise Refused(str(error)) from error


def compress_for(url: str) -> bool:
    """Compression costs more than it saves where nothing leaves the machine."""
    return urlsplit(url).hostname not in LOOPBACK


def print_summary(summary: Summary, dry_run: bool) -> None:
    """One line of totals, then the first rejections and how to go on."""
    console = terminal.out()
    rate = summary.events / summary.seconds if summary.seconds else 0
    console.print(
        f"{summary.accepted:,} accepted, {summary.rejected:,} rejected in {summary.seconds:.1f} s "
        f"({rate:,.0f} events/s, {summary.requests:,} requests, {summary.retries:,} retries)"
        + (" - a dry run: nothing was kept" if dry_run else "")
    )
    if not summary.rejected:
        return
    for code, count in summary.codes.most_common():
        console.print(f"  {count:,} x {code}", markup=False)
    table = Table("event", "id", "code", "where", "what is wrong")
    for one in summary.rejections[:SHOWN_REJECTIONS]:
        cells = (str(one.index), one.id or "", one.code, one.pointer or "", one.detail or "")
        table.add_row(*map(escape, cells))
    console.print(table)
    if summary.rejected > SHOWN_REJECTIONS:
        console.print(
            f"The first {SHOWN_REJECTIONS} of {summary.rejected:,}; --json gives {KEPT_REJECTIONS:,}. "
            "Events are numbered from 0."
        )
