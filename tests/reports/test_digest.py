"""The digest of a clinic: what it says, to whom, and that it is short."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest

from impact_aggregator.active import activate
from impact_reports import digest, queries
from impact_reports.digest import NoSuchStakeholder
from impact_schemas.catalog import parse_catalog
from tests.aggregator.conftest import HOUR, NOON, visit
from tests.cli.in_process import impact
from tests.reports.conftest import CATALOG, DAY

if TYPE_CHECKING:
    from pathlib import Path

    from impact_reports.digest import Digest
    from tests.reports.conftest import Clinic, Counted

REVIEW = "The review of the risk 'Villages depend on one van' was due on 30 August 2025 (operations)."


async def digest_of(clinic: Clinic, stakeholder: str | None = None) -> Digest:
    async with queries.snapshot(clinic.engine) as one:
        found = digest.digest(await queries.digest(one, "clinic"), 7, stakeholder)
    assert found is not None
    return found


# --- from the views, on both databases --------------------------------------------------------------------


async def test_a_quiet_week_needs_no_decision(clinic: Clinic) -> None:
    with_review = await digest_of(clinic)
    assert list(with_review.to_decide or ()) == [REVIEW]
    reviewed = CATALOG.replace("reviewed: 2025-06-01", "reviewed: 2025-12-20")
    await activate(clinic.engine, {"clinic": parse_catalog(reviewed, "clinic.yaml")}, NOON)
    assert (await digest_of(clinic)).markdown.splitlines() == [
        "## Clinic \\<b\\>on wheels\\</b\\>, 25 December 2025 to 31 December 2025",
        "- **Changed**: Nothing changed beyond noise.",
        "- **At risk**: Nothing is known to be at risk.",
        "- **To decide**: Nothing needs a decision.",
    ]


async def test_what_changed_is_told_to_those_whom_it_concerns(clinic: Clinic) -> None:
    yesterday = [
        visit(f"new{n}", NOON - DAY - n * HOUR // 10, f"new-{n}", kept=n % 10 != 0, minutes=7.5)
        for n in range(40)
    ]
    await clinic.pipeline.count(yesterday)
    await clinic.tick()
    all_of_it = [sentence.replace("\u00a0", " ") for sentence in (await digest_of(clinic)).changed or ()]
    assert "Visits: 47 in 7 days, 7 in the 7 days before." in all_of_it
    assert any(one.startswith("Patients over the last 28 days: ") for one in all_of_it)
    public = await digest_of(clinic, "everyone")
    assert [one.split(" over ")[0] for one in public.changed or ()] == ["Patients"]
    assert public.to_decide is None
    assert "To decide" not in public.markdown
    assert public.markdown.splitlines()[0].endswith(", for Everyone")


async def test_a_stakeholder_whom_nobody_named_is_refused(clinic: Clinic) -> None:
    with pytest.raises(NoSuchStakeholder, match="'mayor': there are everyone, funder"):
        await digest_of(clinic, "mayor")


# --- choosing and wording ---------------------------------------------------------------------------------


def rows(**views: list[dict[str, Any]]) -> queries.Rows:
    metric = {
        "product": "clinic",
        "metric": "missed",
        "title": "Missed",
        "unit": "1",
        "aggregate": "count",
        "role": "guardrail",
        "direction": "down",
        "visibility": "internal",
        "definition": "{}",
        "quantity": None,
    }
    trend = {"metric": "missed", "time_window": "28d", "at": datetime(2026, 11, 22, tzinfo=UTC)}
    none = ("stakeholders", "target_progress", "violations", "equity_gaps", "bets", "bet_results", "risks")
    return {
        **{view: [] for view in (*none, "annotations", "intervals")},
        "products": [{"product": "clinic", "title": "Clinic"}],
        "metrics": [metric],
        "metric_trends": [{**trend, "value": 3, "n": 3}],
        **views,
    }


def said(**views: list[dict[str, Any]]) -> Digest:
    found = digest.digest(rows(**views), 7)
    assert found is not None
    return found


def violation(number: int = 1, severity: str = "critical", answer: str | None = None) -> dict[str, Any]:
    return {
        "kind": "guardrail",
        "metric": "missed",
        "segment": "{}",
        "severity": severity,
        "until": None,
        "since": datetime(2026, 11, number, tzinfo=UTC),
        "observed": 5 + number,
        "expected": 3,
        "detail": "",
        "answered_by": answer,
        "value_at_answer": 9,
        "value_now": 4,
    }


def bet(status: str, by: date = date(2026, 10, 31)) -> dict[str, list[dict[str, Any]]]:
    result = {
        "bet": "bus",
        "metric": "missed",
        "segment": "{}",
        "by": by,
        "status": status,
        "measured": -2,
        "expected": -10,
    }
    launched = {"bet": "bus", "title": "A *bus*", "launched": date(2026, 3, 1)}
    return {"bets": [launched], "bet_results": [result]}


def decision(day: date, bet_name: str = "bus", kind: str = "decision") -> dict[str, Any]:
    return {"kind": kind, "bet": bet_name, "at": datetime(day.year, day.month, day.day, 9, tzinfo=UTC)}


def test_a_warning_waits_for_a_decision_until_one_answers_it() -> None:
    (open_one,) = said(violations=[violation()]).to_decide or ()
    assert open_one == "Missed is 6; the limit is 3, since 1 November 2026. No decision answers it."
    answered = said(violations=[violation(answer="More vans")])
    assert answered.to_decide == []
    assert answered.at_risk[0].endswith("Answered by 'More vans': 9 then, 4 now.")
    assert said(violations=[{**violation(), "until": datetime(2026, 11, 20, tzinfo=UTC)}]).to_decide == []


@pytest.mark.parametrize("status", ["proven", "failed", "holding"])
def test_a_bet_whose_day_is_over_waits_for_a_decision_made_since(status: str) -> None:
    (asked,) = said(**bet(status)).to_decide or ()
    assert asked.startswith(
        f"Bet 'A *bus*' {'has' if status == 'failed' else 'is'} {status}: Missed \u22122,"
    )
    before, since = date(2026, 10, 30), date(2026, 11, 2)
    assert said(**bet(status), annotations=[decision(since)]).to_decide == []
    for other in (decision(before), decision(since, "van"), decision(since, kind="launch")):
        assert said(**bet(status), annotations=[other]).to_decide == [asked]


def test_a_bet_that_is_early_is_left_alone_unless_it_goes_the_wrong_way() -> None:
    later = date(2027, 6, 30)
    assert said(**bet("holding", later)).to_decide == []
    assert said(**bet("too_early", later)).to_decide == []
    assert len(said(**bet("failed", later)).to_decide or ()) == 1
    assert said(**bet("failed", later), annotations=[decision(date(2026, 5, 1))]).to_decide == []


def test_ten_lines_show_every_kind_and_how_much_is_left_out() -> None:
    many = [violation(number, "warning") for number in range(1, 9)]
    risk = {"overdue": True, "due": None, "statement": "Noise.", "owner": "ops", "metric": None}
    found = said(violations=[*many, violation(9)], risks=[risk], **bet("failed"))
    lines = found.markdown.splitlines()
    assert len(lines) <= 10
    shown = [line for line in lines if line.startswith("- **To decide**")]
    assert "is 14; the limit is 3" in shown[0]  # the critical one
    assert "A \\*bus\\*" in shown[1]
    assert shown[2].endswith("The review of the risk 'Noise' has never been done (ops). And 8 more.")


# --- the command ------------------------------------------------------------------------------------------


def test_the_command_prints_markdown_or_json(counted: Counted, tmp_path: Path) -> None:
    shutil.copy(counted.file, tmp_path / "metrics.db")
    told = impact("digest", "--product", "clinic", "--since", "2w", "--data", str(tmp_path))
    assert told.exit_code == 0
    assert f"- **To decide**: {REVIEW}" in told.output
    as_json = impact("digest", "--data", str(tmp_path), "--json")
    (found,) = json.loads(as_json.output)
    assert (found["since"], found["until"], found["to_decide"]) == ("2025-12-25", "2025-12-31", [REVIEW])
    for wrong in (("--since", "1y"), ("--since", "0d"), ("--stakeholder", "mayor"), ("--product", "school")):
        refused = impact("digest", *wrong, "--data", str(tmp_path))
        assert refused.exit_code != 0
        assert wrong[1] in refused.output
