"""`make proof`: one fault at a time under load, then the laws of the ledger are checked; a table and JSON.

    python -m proof [--fault NAME,...] [--seed N] [--seeds N] [--pace 0.2] [--json FILE] [--write]

Every run prints its seed; `--fault zombie --seed 7` repeats one. `--write` puts the results into
docs/reliability.md.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from rich.console import Console

from proof import blind_rounds, report, rounds
from proof.faults import FAULTS

ROOT = Path(__file__).resolve().parent.parent
JSON = ROOT / ".cache" / "proof.json"


def main() -> int:
    """The exit code: 1 if a law was broken."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers and processes are ended on the way out
    console = Console(stderr=True)
    if arguments.blind:
        seen = list(blind_rounds.run(arguments.pace, console))
        report.add_blind(arguments.json, seen)
        return 0 if all(one.broken for one in seen) else 1
    wanted = set(arguments.fault.split(",")) if arguments.fault else {fault.name for fault in FAULTS}
    unknown = wanted - {fault.name for fault in FAULTS} - {fault.number for fault in FAULTS}
    if unknown:
        console.print(f"no fault is called {', '.join(sorted(unknown))}; there are:", markup=False)
        for fault in FAULTS:
            console.print(f"  {fault.number:>3} {fault.name}: {fault.what}", markup=False)
        return 2
    chosen = [fault for fault in FAULTS if fault.name in wanted or fault.number in wanted]
    results = report.Results(arguments.json)
    for result in rounds.run(chosen, arguments.seed, arguments.seeds, arguments.pace, console):
        results.add(result)
    console.print(results.table())
    if arguments.write:
        report.write_page(arguments.json)
    return 0 if results.green else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m proof", description=__doc__)
    parser.add_argument("--fault", help="names or numbers, with commas; without it all")
    parser.add_argument("--seed", type=int, help="this seed alone")
    parser.add_argument(
        "--seeds", type=int, help="so many seeds of each, from 1 on; without it each fault's own number"
    )
    parser.add_argument("--pace", type=float, default=1.0, help="shorter faults: 0.1 is a tenth of the time")
    parser.add_argument("--json", type=Path, default=JSON, help="results, added to those that are there")
    parser.add_argument("--blind", action="store_true", help="take guards out: each must turn its fault red")
    parser.add_argument("--write", action="store_true", help="bring docs/reliability.md up to date")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
