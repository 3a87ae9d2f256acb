"""The plan of the proof, and what is kept of its rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proof import plan, report
from proof.blind_rounds import BY_NAME, Seen
from proof.blindness import BLIND
from proof.faults import FAULTS
from proof.rounds import Result

if TYPE_CHECKING:
    from pathlib import Path


def test_first_one_round_of_each_fault_then_more_and_nothing_twice() -> None:
    turns = list(plan.turns(FAULTS, {"zombie/1", "zombie/3"}))
    assert [seeds for _, seeds in turns[0]] == [[1]] * (len(FAULTS) - 1)
    planned = [f"{fault.name}/{seed}" for turn in turns for fault, seeds in turn for seed in seeds]
    assert len(planned) == len(set(planned)) == sum(fault.seeds for fault in FAULTS) - 2
    assert {fault.number for fault in FAULTS if fault.seeds >= 20} >= {"1", "2", "5", "6", "8"}
    assert {fault.seeds for fault in FAULTS} == {3, 20}
    assert {int(fault.number) for fault in FAULTS} == set(range(1, 41))


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("45m", 2700), ("1.5h", 5400)])
def test_durations(text: str, seconds: float) -> None:
    assert plan.seconds(text) == seconds
    with pytest.raises(ValueError, match="write 90s"):
        plan.seconds(text[:-1])


def result(*, green: bool) -> Result:
    return Result("zombie", 7, green, 1.0, [], None, "" if green else "L1 one is missing")


def test_a_red_round_is_due_again_and_stays_known_when_it_is_green(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    report.Results(file, 0.1).add(result(green=False))
    assert report.Results(file, 0.1).done() == set()
    report.Results(file, 0.1).add(result(green=True))
    again = report.Results(file, 0.1)
    assert again.done() == {"zombie/7"}
    assert report.read(file)["zombie/7"]["reds"] == 1
    assert again.green


def test_a_guard_that_nobody_missed_is_due_again(tmp_path: Path) -> None:
    results = report.Results(tmp_path / "results.json", 0.1)
    results.add_blind(Seen("epoch", "zombie", 5, ""))
    assert not results.green
    assert results.done() == set()
    results.add_blind(Seen("epoch", "zombie", 1, "L2 two too many"))
    assert results.done() == {report.blind_key(["epoch"], "zombie")}


def test_without_a_guard_only_the_right_law_counts() -> None:
    one = next(blind for blind in BLIND if blind.fault == "overload")
    assert one.seen_in("TimeoutError: too slow\nL7 not settled") == ""
    assert one.seen_in("L7 not settled\nL8 door-1 took 900 MiB") == "L8 door-1 took 900 MiB"
    assert {blind.fault for blind in BLIND} <= BY_NAME.keys()
