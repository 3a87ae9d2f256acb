"""`impact status` tells what the numbers mean, from the same views."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from rich.console import Console

from impact_aggregator.windows import DAY
from impact_cli import status
from impact_schemas.wording import THIN
from tests.mission.conftest import NOON, visit

if TYPE_CHECKING:
    from impact_aggregator.events import Event
    from tests.mission.conftest import Mission


ES = '{"language":"es"}'


def _day(day: int) -> list[Event]:
    """Four visits, one of them missed; in the last 28 days two more in Spanish, one of them missed."""
    groups = {"en": 4, "es": 2} if day < 28 else {"en": 4}
    visits = [
        visit(f"{group}{day}-{n}", NOON - day * DAY, received_at=NOON, language=group, kept=n > 0)
        for group, count in groups.items()
        for n in range(count)
    ]
    return [*visits, visit(f"f{day}", NOON - day * DAY, None, NOON, "clinic.fee.v1", usd=90 - day)]


async def test_status_tells_targets_warnings_groups_and_pairs(clinic_on_both: Mission) -> None:
    clinic = clinic_on_both
    await clinic.pipeline.count([one for day in range(60) for one in _day(day)])
    await clinic.tick()
    (product,) = await status.read(clinic.pipeline.engine.url.render_as_string(hide_password=False))
    meaning = product.meaning
    (target,) = meaning.targets
    assert (target.metric, target.status, target.due) == ("visits", "met", "2026-03-31")
    (warned,) = meaning.warnings
    assert (warned.rule, warned.kind, warned.severity) == ("missed_max", "guardrail", "critical")
    behind = {(gap.metric, gap.segment, gap.window) for gap in meaning.gaps}
    assert behind == {("no_show_rate", ES, "28d"), ("visits", ES, "all")}
    assert {(pair.impact_metric, pair.diverges) for pair in meaning.pairs} == {
        ("visits", False),
        ("no_show_rate", True),
    }
    assert [one.window for one in product.numbers if one.metric == "visits"] == ["24h", "7d", "28d", "all"]
    console = Console(file=io.StringIO(), width=200)
    status.show([product], console)
    assert isinstance(console.file, io.StringIO)
    told = console.file.getvalue()
    told = " ".join(told.replace(THIN, " ").split())
    assert re.search(r"critical Missed is \d+ over the last 7 days; the bound is 3, since 2025-11-", told)
    assert (
        "behind No-show rate (language: es): 50 % over the last 28 days, 25 % for language: en; gap" in told
    )
    assert "apart No-show rate +33.3 % on the 28 days before, while Revenue +" in told
    assert re.search(r"No-show rate 33.3 % [\d,]+ ", told)


def _number(metric: str, window: str) -> status.Number:
    return status.Number(metric, metric, "impact", "1", window, 1, 1, "ok", "2026-01-31 12:00:00")


def test_a_metric_is_shown_whatever_its_windows_are() -> None:
    numbers = [*(_number("visits", window) for window in ("24h", "28d", "all")), _number("calls", "1h")]
    shown = status._for_people([*numbers, _number("calls", "7d")])
    assert [(one.metric, one.window) for one in shown] == [
        ("visits", "28d"),
        ("visits", "all"),
        ("calls", "7d"),
    ]
