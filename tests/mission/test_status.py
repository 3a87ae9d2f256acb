"""`impact status` tells what the numbers mean, from the same views."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console

from impact_aggregator.windows import DAY
from impact_cli import status
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
    console = Console(file=io.StringIO(), width=200)
    status.show([product], console)
    assert isinstance(console.file, io.StringIO)
    told = console.file.getvalue()
    assert "critical guardrail since 2025-11-" in told
    assert "Behind: No-show rate over 28d is 0.5" in told
    assert "Apart over 28d: no_show_rate +33.3%, while revenue +" in told
