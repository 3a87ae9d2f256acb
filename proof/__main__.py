"""`make proof`: one fault at a time under load, then the laws of the ledger are checked; a table and JSON.

    python -m proof [--for 45m] [--pace 0.1] [--write]             what is left of the whole plan
    python -m proof --fault NAME,... [--seed N] [--pace 0.1]       these, whatever is stored
    python -m proof --blind                                        the runs without guards

The plan: one round of each fault, the runs without guards, then each fault's other seeds. Results are kept
in proof/results.json; a round that is green there is done, so that the plan can be worked off in pieces.
`--fault zombie --seed 7` repeats one. `--write` puts all stored results into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from proof import blind_rounds, plan, report, rounds
from proof.blindness import BLIND
from proof.faults import FAULTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from proof.blindness import Blind
    from proof.scene import Fault
    from proof.topologies import Servers

JSON = Path(__file__).with_name("results.json")


def main() -> int:
    """The exit code: 1 if a law was broken, or was not where it had to be."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers and processes are ended on the way out
    console = Console(stderr=True, soft_wrap=True)
    chosen = _chosen(arguments.fault, console)
    if chosen is None:
        return 2
    results = report.Results(arguments.json, arguments.pace)
    with rounds.servers_when_needed() as servers:
        for _ in _steps(arguments, chosen, results, console, servers):
            if time.monotonic() > arguments.until:
                console.print("the time is over; the same command goes on from here")
                break
    console.print(results.table())
    if arguments.write:
        report.write_page(arguments.json)
    return 0 if results.green else 1


def _steps(
    arguments: argparse.Namespace,
    chosen: Sequence[Fault],
    results: report.Results,
    console: Console,
    servers: Callable[[], Servers],
) -> Iterator[None]:
    """One round after another; its result is stored when it is over."""

    def play(pieces: Iterable[tuple[Fault, Sequence[int]]]) -> Iterator[None]:
        for result in rounds.run(pieces, arguments.pace, console, servers):
            results.add(result)
            yield

    def play_blind(blinds: Sequence[Blind]) -> Iterator[None]:
        for seen in blind_rounds.run(blinds, arguments.pace, console, servers):
            results.add_blind(seen)
            yield

    if arguments.blind:
        yield from play_blind(BLIND)
    elif arguments.fault or arguments.seed:
        own = [arguments.seed] if arguments.seed else None
        yield from play([(fault, own or range(1, (arguments.seeds or fault.seeds) + 1)) for fault in chosen])
    else:
        done = results.done()
        first, *others = plan.turns(chosen, done)
        yield from play(first)
        yield from play_blind([one for one in BLIND if report.blind_key(one.guards, one.fault) not in done])
        for turn in others:
            yield from play(turn)


def _chosen(names: str, console: Console) -> list[Fault] | None:
    wanted = set(names.split(",")) if names else {fault.name for fault in FAULTS}
    unknown = wanted - {fault.name for fault in FAULTS} - {fault.number for fault in FAULTS}
    if unknown:
        console.print(f"no fault is called {', '.join(sorted(unknown))}; there are:", markup=False)
        for fault in FAULTS:
            console.print(f"  {fault.number:>3} {fault.name}: {fault.what}", markup=False)
        return None
    return [fault for fault in FAULTS if fault.name in wanted or fault.number in wanted]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m proof", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fault", default="", help="names or numbers, with commas")
    parser.add_argument("--seed", type=int, help="this seed alone")
    parser.add_argument("--seeds", type=int, help="so many seeds of each of --fault, from 1 on")
    parser.add_argument("--pace", type=float, default=1.0, help="shorter faults: 0.1 is a tenth of the time")
    parser.add_argument(
        "--for",
        dest="until",
        type=lambda text: time.monotonic() + plan.seconds(text),
        default=float("inf"),
        metavar="TIME",
        help="no new round after 90s, 45m, 2h",
    )
    parser.add_argument("--json", type=Path, default=JSON, help="results, added to those that are there")
    parser.add_argument("--blind", action="store_true", help="take guards out: each must turn its fault red")
    parser.add_argument("--write", action="store_true", help="bring docs/reliability.md up to date")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
