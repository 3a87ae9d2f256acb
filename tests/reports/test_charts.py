"""Charts: where things stand, what they say, and that nothing in a label becomes markup."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from impact_reports import charts
from impact_reports.charts import Aim, Bar, Bet, Forecast, LineChart, Mark, Point

DAY = datetime(2026, 1, 1, tzinfo=UTC)
values = st.floats(min_value=-1e12, max_value=1e12, allow_nan=False)


def days(*known: float | None) -> list[Point]:
    return [Point(DAY + timedelta(days=place), value) for place, value in enumerate(known)]


def parsed(chart: str) -> ElementTree.Element:
    return ElementTree.fromstring(chart)


def paths(chart: str, kind: str) -> list[str]:
    return re.findall(rf'<path class="{kind}"[^>]* d="([^"]*)"', chart)


def test_an_unknown_day_breaks_the_curve() -> None:
    [curve] = paths(charts.line(LineChart("says", days(1, 2, None, 4, 5), str)), "curve")
    assert curve.count("M") == 2


def test_the_path_to_the_target_and_the_cone_are_drawn_to_its_day() -> None:
    due = DAY + timedelta(days=9)
    chart = LineChart(
        "says",
        days(1, 2),
        str,
        path=[Point(DAY, 1), Point(due, 10)],
        forecast=Forecast(due, 8, 6, 11),
        marks=[Mark(DAY + timedelta(days=1), "launch")],
    )
    drawn = charts.line(chart)
    assert paths(drawn, "path") != []
    [cone] = paths(drawn, "cone")
    assert cone.endswith("Z")
    assert cone.count("L100 ") == 2
    assert ">launch</title>" in drawn


def test_the_target_is_named_on_the_side_from_which_the_curve_does_not_come() -> None:
    def side(last: float) -> int:
        aim = Aim(DAY + timedelta(days=9), 5, "target 5")
        drawn = charts.line(LineChart("says", days(1, last), str, target=aim))
        [(dy, words)] = re.findall(r'<text class="aim"[^>]* dy="(-?\d+)"[^>]*>([^<]*)<', drawn)
        assert words == "target 5"
        return int(dy)

    assert side(2) < 0 < side(8)


@given(st.lists(values, min_size=2, max_size=50), st.one_of(st.none(), values))
def test_every_value_is_within_the_drawing_and_the_markup_is_sound(
    known: list[float], limit: float | None
) -> None:
    drawn = charts.line(LineChart("a & b", days(*known), str, limit=limit))
    parsed(drawn)
    [curve] = paths(drawn, "curve")
    for x, y in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", curve):
        assert -0.01 <= float(x) <= 100.01
        assert -0.01 <= float(y) <= 100.01


@given(st.lists(values, min_size=1, max_size=50))
def test_a_scale_is_even_and_spans_the_values(known: list[float]) -> None:
    ticks = charts._ticks(known)
    steps = [later - earlier for earlier, later in pairwise(ticks)]
    assert 2 <= len(ticks) <= 9
    assert max(steps) - min(steps) <= max(abs(tick) for tick in ticks) * 1e-6 + 1e-9
    span = max(abs(value) for value in known) * 1e-9 + 1e-9
    assert ticks[0] <= min(known) + span
    assert ticks[-1] >= max(known) - span


def test_labels_are_text() -> None:
    evil = "</title><script>alert(1)</script>"
    drawn = charts.two_by_two(evil, [Bet(evil, 1, 0.2, certain=True)]) + charts.bars(
        evil, [Bar(evil, 1)], lambda _: evil
    )
    assert "<script" not in drawn


def test_impact_is_to_the_right_and_business_upwards() -> None:
    drawn = parsed(
        charts.two_by_two("says", [Bet("good", 1, 0.2, certain=True), Bet("bad", -1, -0.2, certain=False)])
    )
    good, bad = drawn.findall("circle")
    assert float(good.attrib["cx"].rstrip("%")) > 50 > float(bad.attrib["cx"].rstrip("%"))
    assert float(good.attrib["cy"].rstrip("%")) < 50 < float(bad.attrib["cy"].rstrip("%"))
    assert "ring" in bad.attrib["class"]


def test_the_running_month_is_told_apart() -> None:
    drawn = charts.bars("says", [Bar("Oct", 3), Bar("Nov", 1, complete=False)], str)
    assert 'class="bar open"' in drawn


def test_without_two_values_there_is_no_curve() -> None:
    assert charts.sparkline("says", [1.0, None]) == ""
    assert charts.line(LineChart("says", days(1), str)) == ""
