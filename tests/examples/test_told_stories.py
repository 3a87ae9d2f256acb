"""What the stories show in the views; key numbers are worked out again from the events in plain Python.

One run of `impact demo --example all` plays them in; what it leaves behind is looked at.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from math import sqrt
from typing import TYPE_CHECKING, Any

import pytest
from scipy.stats import binomtest

from impact_cli import examples
from tests.cli.service import IMPACT, environment

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Event = dict[str, Any]

pytestmark = pytest.mark.timeout(900)  # two cores that are busy with other tests
STANDARD_ERROR = 0.0081  # of unique beyond 1,024, as ARCHITECTURE.md states


@dataclass(frozen=True)
class Told:
    """What the demo printed, and the folder that it left."""

    output: str
    data: Path

    @cached_property
    def now(self) -> datetime:
        return datetime.fromisoformat((self.data / "told-on").read_text().strip()).replace(tzinfo=UTC)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with sqlite3.connect(f"file:{self.data / 'metrics.db'}?mode=ro", uri=True) as database:
            return database.execute(query, values).fetchall()

    def of(self, product: str) -> Story:
        return Story(self, product)


@dataclass(frozen=True)
class Story:
    """One product: its events as they hold in the end, and its rows."""

    told: Told
    product: str

    @cached_property
    def events(self) -> list[Event]:
        """Without those that were taken back, with the corrected data: by source and id."""
        (example,) = examples.load(self.product, self.told.now)
        there: dict[tuple[str, str], Event] = {}
        for event in example.events():
            data = event["data"]
            if event["type"] == "impact.retraction.v1":
                del there[data["source"], data["id"]]
            elif event["type"] == "impact.correction.v1":
                target = data["source"], data["id"]
                there[target] = {**there[target], "data": data["data"]}
            else:
                there[event["source"], event["id"]] = event
        return list(there.values())

    def last(self, days: int, kind: str, before: int = 0) -> list[Event]:
        """Events of a type within a window that ends on the day of the numbers, or so many days before."""
        ((as_of,),) = self.told.rows("SELECT MAX(as_of) FROM rolling_metrics")
        last = date.fromisoformat(as_of[:10]) - timedelta(days=before)
        first = last - timedelta(days=days - 1)
        return [one for one in self.all(kind) if str(first) <= one["time"][:10] <= str(last)]

    def all(self, kind: str) -> list[Event]:
        return [event for event in self.events if event["type"] == f"{self.product}.{kind}.v1"]

    def value(self, metric: str, window: str, segment: str = "{}") -> float:
        ((value, status),) = self.told.rows(
            "SELECT value, status FROM rolling_metrics WHERE product = ? AND metric = ? AND time_window = ?"
            " AND segment = ?",
            *(self.product, metric, window, segment),
        )
        assert status == "ok"
        return float(value)

    def bets(self) -> dict[str, str]:
        return dict(self._rows("bet, status", "bet_results"))

    def violations(self) -> dict[tuple[str, str], str | None]:
        """Open ones by metric and segment, each with the decision that answered it."""
        rows = self._rows("metric, segment, answered_by", "violations", "AND until IS NULL")
        return {(metric, segment): answer for metric, segment, answer in rows}

    def kinds(self) -> set[tuple[str, str]]:
        return set(self._rows("kind, metric", "violations", "AND until IS NULL"))

    def target(self, metric: str, segment: str = "{}") -> str:
        rows = self._rows("metric, segment, status", "target_progress")
        return str({(name, of): status for name, of, status in rows}[metric, segment])

    def gap(self, metric: str, window: str, segment: str) -> tuple[float, float, float]:
        """The gap and its interval."""
        (row,) = self._rows(
            "gap, ci_low, ci_high",
            "equity_gaps",
            f"AND metric = '{metric}' AND time_window = '{window}' AND segment = '{segment}'",
        )
        return row

    def trend(self, metric: str, window: str) -> list[float]:
        """Of the total, day by day."""
        rows = self._rows(
            "value",
            "metric_trends",
            f"AND metric = '{metric}' AND time_window = '{window}' AND segment = '{{}}' AND value IS NOT NULL"
            " ORDER BY at",
        )
        return [float(value) for (value,) in rows]

    def _rows(self, columns: str, view: str, more: str = "") -> list[tuple[Any, ...]]:
        return self.told.rows(f"SELECT {columns} FROM {view} WHERE product = ? {more}", self.product)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("stories")
    command = [*IMPACT, "demo", "--example", "all", "--data", "data", "--port", "0", "--exit"]
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=880, check=False
    )
    assert done.returncode == 0, done.stderr
    return Told(done.stdout, folder / "data")


def segment(**values: object) -> str:
    return json.dumps(values, separators=(",", ":"), sort_keys=True)


def share(events: Iterable[Event], path: str, value: object = True) -> tuple[int, int]:
    """How many of the events have the value, and how many there are."""
    values = [event["data"].get(path) for event in events]
    return sum(one == value for one in values), len(values)


def having(events: Iterable[Event], **values: object) -> list[Event]:
    return [one for one in events if all(one["data"].get(name) == value for name, value in values.items())]


def newcombe(one: tuple[int, int], other: tuple[int, int]) -> tuple[float, float]:
    """The 95 % interval of the difference of two shares (Newcombe 1998, method 10), from scipy's Wilson."""
    p, q = one[0] / one[1], other[0] / other[1]
    of_p, of_q = (binomtest(*share).proportion_ci(method="wilson") for share in (one, other))
    return (
        p - q - sqrt((p - of_p.low) ** 2 + (of_q.high - q) ** 2),
        p - q + sqrt((of_p.high - p) ** 2 + (q - of_q.low) ** 2),
    )


def total(events: Iterable[Event], path: str) -> Decimal:
    return sum((Decimal(str(one["data"][path])) for one in events), Decimal(0))


def test_every_event_of_every_story_is_counted(told: Told) -> None:
    ledger = {
        row[0]: row[1:] for row in told.rows("SELECT product, received, counted, quarantined FROM ledger")
    }
    played = examples.load(examples.ALL, told.now)
    assert ledger == {one.product: (one.count, one.count, 0) for one in played}


def test_the_demo_says_in_the_end_what_the_numbers_mean(told: Told) -> None:
    for line in (
        "Help patients with low incomes get the care that they need.",
        "  off track  No-show rate (language: es)",
        "  behind     Active customers (gender: female)",
        "  proven     Reminders that can be answered",
        "  failed     Weekly texts about food and blood sugar",
        "  too early  Reminders in Spanish",
        "/products/caremessage",
    ):
        assert line in told.output


# --- CareMessage ----------------------------------------------------------------------------------------


def test_caremessage_leaves_those_behind_who_speak_spanish(told: Told) -> None:
    story = told.of("caremessage")
    assert story.bets() == {
        "answered_reminders": "proven",
        "nutrition_texts": "failed",
        "spanish_reminders": "too_early",
    }
    spanish = segment(language="es")
    assert story.target("no_show_rate", spanish) in ("off_track", "at_risk")
    assert story.target("patients_messaged") == "on_track"
    violations = story.violations()
    assert violations["no_show_rate", spanish] == "Reminders in Spanish come before any new feature"
    assert violations["opt_out_rate", "{}"] == "No patient gets more than one message a day"
    assert {("left_behind", "no_show_rate"), ("guardrail", "opt_out_rate")} <= story.kinds()


def test_caremessage_shows_what_the_closed_weeks_hold(told: Told) -> None:
    story = told.of("caremessage")
    ((begin, end),) = told.rows(
        "SELECT window_start, window_end FROM rolling_metrics WHERE product = 'caremessage'"
        " AND metric = 'no_show_rate' AND time_window = '90d' AND segment = '{}' AND hidden_blocks = 0"
    )
    monday = date.fromisoformat(begin[:10])
    monday += timedelta(days=-monday.weekday() % 7)  # of the first whole week
    visits = [one for one in story.all("appointment") if str(monday) <= one["time"][:10] < end[:10]]
    missed, held = share(visits, "kept", value=False)
    assert story.value("no_show_rate", "90d") == pytest.approx(missed / held, rel=1e-8)
    spanish, english = (share(having(visits, language=one), "kept", value=False) for one in ("es", "en"))
    gap, low, high = story.gap("no_show_rate", "90d", segment(language="es"))
    assert gap == pytest.approx(spanish[0] / spanish[1] - english[0] / english[1], abs=0.02)  # hidden weeks
    expected = newcombe(spanish, english)
    assert (low, high) == pytest.approx(expected, abs=0.02)
    assert low > 0.05


def test_caremessage_compares_arms_and_hides_small_groups(told: Told) -> None:
    story = told.of("caremessage")
    visits = [one for one in story.all("appointment") if "arm" in one["data"]]
    arms = {arm: share(having(visits, arm=arm), "kept", value=False) for arm in ("reminder", "none")}
    difference = arms["reminder"][0] / arms["reminder"][1] - arms["none"][0] / arms["none"][1]
    ((measured, low, high),) = told.rows(
        "SELECT measured, ci_low, ci_high FROM bet_results WHERE bet = 'answered_reminders'"
    )
    assert measured == pytest.approx(difference, abs=0.005)  # without the running week
    assert (low, high) == pytest.approx(newcombe(arms["reminder"], arms["none"]), abs=0.005)
    ((value, n, status),) = told.rows(
        "SELECT value, n, status FROM rolling_metrics WHERE product = 'caremessage' AND time_window = '28d'"
        " AND metric = 'no_show_rate' AND segment = ?",
        segment(language="ht"),
    )
    assert (value, n, status) == (None, None, "suppressed")


# --- Help Us Green --------------------------------------------------------------------------------------


def test_help_us_green_leaves_varanasi_behind(told: Told) -> None:
    story = told.of("help_us_green")
    assert story.bets() == {
        "bank_days": "proven",
        "drying_racks": "holding",  # of shares of kilograms nobody can say what is chance
        "temple_bins": "failed",
        "varanasi_hall": "too_early",
    }
    varanasi = segment(city="varanasi")
    assert story.target("upcycled_share", varanasi) in ("off_track", "at_risk")
    assert story.target("women_supported") in ("off_track", "at_risk")
    violations = story.violations()
    assert violations["upcycled_share", varanasi] == "Varanasi gets its own drying hall"
    assert violations["incidents", "{}"] == "No double shifts, whatever the season"
    assert ("left_behind", "upcycled_share") in story.kinds()


def test_help_us_green_counts_grams_and_tonnes_as_kilograms(told: Told) -> None:
    """And the load that was written in the wrong unit as what it was."""
    story = told.of("help_us_green")
    kilograms = {"g": Decimal("0.001"), "kg": Decimal(1), "t": Decimal(1000)}
    collected = story.all("collection")
    mass = sum(Decimal(str(one["data"]["mass"])) * kilograms[one["data"]["unit"]] for one in collected)
    assert story.value("flowers_collected", "all") == pytest.approx(float(mass), rel=1e-9)
    upcycled = total(story.all("production"), "kilograms")
    assert story.value("upcycled_share", "all") == pytest.approx(float(upcycled / mass), rel=1e-8)
    assert mass / len({one["time"][:10] for one in collected}) == pytest.approx(8_000, rel=0.1)


def test_help_us_green_uses_the_factor_of_each_day(told: Told) -> None:
    story = told.of("help_us_green")
    (new,) = told.rows(
        "SELECT valid_from FROM factor_values WHERE product = 'help_us_green' AND version = '2026'"
    )
    kept_out = sum(
        Decimal(str(one["data"]["kilograms"]))
        * Decimal("0.00012" if one["time"][:10] >= new[0][:10] else "0.00018")
        for one in story.all("production")
    )
    assert story.value("pesticide_kept_out", "all") == pytest.approx(float(kept_out), rel=1e-6)


def test_help_us_green_counts_each_woman_once(told: Told) -> None:
    story = told.of("help_us_green")
    women = len({one["subject"] for one in story.last(28, "wage")})
    assert women > 1_200
    assert story.value("women_supported", "28d") == pytest.approx(women, rel=4 * STANDARD_ERROR)


# --- Embrace --------------------------------------------------------------------------------------------


def test_embrace_leaves_the_smallest_babies_behind(told: Told) -> None:
    story = told.of("embrace")
    assert story.bets() == {"skin_to_skin": "proven", "rental": "failed", "small_sleeve": "too_early"}
    smallest = segment(weight_band="under_1500")
    assert story.target("hypothermia_rate", smallest) in ("off_track", "at_risk")
    assert story.target("cost_per_baby") in ("off_track", "at_risk")
    violations = story.violations()
    assert violations["hypothermia_rate", smallest] == "The next sleeve is made for the smallest babies"
    assert violations["overheated_babies", "{}"] == "The batch is taken back from all facilities"
    assert ("left_behind", "hypothermia_rate") in story.kinds()


def test_embrace_says_that_a_partner_has_not_reported(told: Told) -> None:
    story = told.of("embrace")
    reported = {one["data"]["facility"] for one in story.last(90, "report")}
    assert story.value("facilities_reporting", "90d") == len(reported) == 40
    assert story.value("facilities_reporting", "all") == 48
    assert ("guardrail", "facilities_reporting") in story.kinds()


def test_embrace_counts_corrected_reports_as_corrected(told: Told) -> None:
    story = told.of("embrace")
    for band in ("under_1500", "1500_1999", "2000_2499"):
        reports = having(story.all("report"), weight_band=band)
        rate = total(reports, "episodes") / total(reports, "admissions")
        found = story.value("hypothermia_rate", "all", segment(weight_band=band))
        assert found == pytest.approx(float(rate), rel=1e-8)


def test_embrace_adds_up_the_latest_stock_of_each_place(told: Told) -> None:
    story = told.of("embrace")
    latest: dict[str, tuple[str, int]] = {}
    for one in story.all("stock"):
        facility = one["data"]["facility"]
        latest[facility] = max(latest.get(facility, ("", 0)), (one["time"], one["data"]["warmers"]))
    assert story.value("warmers_in_use", "all") == sum(warmers for _, warmers in latest.values())


# --- M-Pesa ---------------------------------------------------------------------------------------------


def test_m_pesa_has_fewer_women_than_men(told: Told) -> None:
    story = told.of("m_pesa")
    assert story.bets() == {"savings_by_text": "proven", "ambassadors": "failed", "rural_float": "too_early"}
    women = len({one["subject"] for one in having(story.last(28, "activity"), gender="female")})
    assert story.value("active_customers", "28d", segment(gender="female")) == women  # exact below 1,024
    (row,) = told.rows(
        "SELECT share FROM population_coverage WHERE product = 'm_pesa' AND time_window = '28d'"
        " AND segment = ?",
        segment(gender="female"),
    )
    assert row[0] == pytest.approx(women / 2_401, rel=1e-8)
    assert story.target("active_customers", segment(gender="female")) in ("off_track", "at_risk")
    gap, low, high = story.gap("saving_share", "90d", segment(gender="female"))
    activities = story.last(90, "activity")
    savers = [share(having(activities, gender=one), "saved") for one in ("female", "male")]
    assert gap == pytest.approx(savers[0][0] / savers[0][1] - savers[1][0] / savers[1][1], abs=1e-8)
    assert (low, high) == pytest.approx(newcombe(*savers), abs=1e-8)


def test_m_pesa_takes_too_much_of_small_payments(told: Told) -> None:
    story = told.of("m_pesa")
    activities = story.last(28, "activity")
    fees = total(activities, "fee_kes") / total(activities, "kes")
    assert story.value("fee_share", "28d") == pytest.approx(float(fees), rel=1e-7)
    answer = "The tariff for small payments is taken back from December on"
    assert story.violations()["fee_share", "{}"] == answer


def test_m_pesa_has_all_agents_and_the_dollars_of_each_day(told: Told) -> None:
    story = told.of("m_pesa")
    assert story.value("agents", "all") == 247_869
    assert story.value("households_lifted", "all") == 194_000
    rates = told.rows(
        "SELECT valid_from, value FROM factor_values WHERE product = 'm_pesa' ORDER BY valid_from"
    )
    dollars = Decimal(0)
    for one in story.all("activity"):
        rate = [value for day, value in rates if day[:10] <= one["time"][:10]][-1]
        dollars += Decimal(one["data"]["kes"]) * Decimal(str(rate))
    assert story.value("value_moved_usd", "all") == pytest.approx(float(dollars), rel=1e-6)


# --- Duolingo -------------------------------------------------------------------------------------------


def test_duolingo_earns_more_and_teaches_fewer_for_free(told: Told) -> None:
    story = told.of("duolingo")
    assert story.bets() == {"first_words": "proven", "energy": "failed", "free_classrooms": "too_early"}
    kinds = story.kinds()
    assert ("divergence", "free_learners") in kinds
    assert ("guardrail", "free_share") in kinds
    assert story.violations()["free_share", "{}"].startswith("Energy stays off in schools")  # type: ignore[union-attr]
    assert story.target("free_learners") in ("off_track", "at_risk")
    ((quadrant,),) = told.rows("SELECT quadrant FROM bet_results WHERE bet = 'energy'")
    assert quadrant == "business_only"
    ((learners, revenue),) = told.rows(
        "SELECT observed, expected FROM violations WHERE product = 'duolingo' AND kind = 'divergence'"
        " AND metric = 'free_learners' AND until IS NULL"
    )
    assert learners < -0.1
    earned = [total(story.last(28, "revenue", before=before), "usd") for before in (0, 90)]
    assert revenue == pytest.approx(float(earned[0] / earned[1]) - 1, abs=1e-8)
    assert revenue > 0.1


def test_duolingo_leaves_learners_with_low_incomes_behind(told: Told) -> None:
    story = told.of("duolingo")
    low_income = segment(income="low")
    assert ("completion_rate", low_income) in story.violations()
    lessons = story.last(28, "lesson")
    shares = [share(having(lessons, income=one), "finished") for one in ("low", "high")]
    gap, low, high = story.gap("completion_rate", "28d", low_income)
    assert gap == pytest.approx(shares[0][0] / shares[0][1] - shares[1][0] / shares[1][1], abs=1e-8)
    assert (low, high) == pytest.approx(newcombe(*shares), abs=1e-8)
    assert story.target("completion_rate", low_income) in ("off_track", "at_risk")
    waivers = total(story.all("waivers"), "waivers")  # without the week that was sent twice
    assert story.value("fee_waivers", "all") == waivers


def test_duolingo_shows_that_energy_earns_and_does_not_teach(told: Told) -> None:
    story = told.of("duolingo")
    results = {
        (metric, feature): row
        for metric, feature, *row in story._rows(
            "metric, feature, share, rest_value, difference, ci_low, ci_high",
            "feature_results",
            "AND time_window = '28d'",
        )
    }
    revenue = story.last(28, "revenue")
    earned = total(having(revenue, feature="energy"), "usd") / total(revenue, "usd")
    assert results["revenue", "energy"][0] == pytest.approx(float(earned), rel=1e-8)
    assert earned > 0.25
    lessons = story.last(28, "lesson")
    ours = share(having(lessons, feature="energy"), "finished")
    rest = share([one for one in lessons if one["data"]["feature"] != "energy"], "finished")
    _, rest_value, difference, low, high = results["completion_rate", "energy"]
    assert rest_value == pytest.approx(rest[0] / rest[1], abs=1e-8)
    assert difference == pytest.approx(ours[0] / ours[1] - rest[0] / rest[1], abs=1e-8)
    assert (low, high) == pytest.approx(newcombe(ours, rest), abs=1e-8)
    assert high < 0


# --- Patagonia ------------------------------------------------------------------------------------------


def test_patagonia_emits_less_with_each_garment_and_more_in_all(told: Told) -> None:
    story = told.of("patagonia")
    each, together = story.trend("ghg_per_garment", "28d"), story.trend("ghg_total", "28d")
    assert each[-1] < 0.95 * each[27]
    assert together[-1] > 1.1 * together[27]
    assert ("guardrail", "ghg_total") in story.kinds()
    answer = "No new colours until the total is below its limit"
    assert story.violations()["ghg_total", "{}"] == answer
    assert story.target("ghg_total") in ("off_track", "at_risk")
    assert story.target("ghg_per_garment") in ("on_track", "met")
    assert story.target("giving_share") == "met"


def test_patagonia_uses_the_edition_of_each_day(told: Told) -> None:
    story = told.of("patagonia")
    editions: dict[str, list[tuple[str, Decimal]]] = defaultdict(list)
    for key, day, value in told.rows(
        "SELECT key, valid_from, value FROM factor_values WHERE product = 'patagonia' ORDER BY valid_from"
    ):
        editions[key].append((day[:10], Decimal(str(value))))
    emitted = Decimal(0)
    for one in story.all("footprint"):
        factors = editions[one["data"]["activity"]]
        factor = [value for day, value in factors if day <= one["time"][:10]][-1]
        emitted += Decimal(str(one["data"]["amount"])) * factor
    assert story.value("ghg_total", "all") == pytest.approx(float(emitted), rel=1e-6)
    made = total(story.all("made"), "garments")
    assert story.value("ghg_per_garment", "all") == pytest.approx(float(emitted / made), rel=1e-6)


def test_patagonia_keeps_fewer_garments_in_asia(told: Told) -> None:
    story = told.of("patagonia")
    assert story.bets() == {
        "recycled_polyester": "holding",  # of shares of kilograms nobody can say what is chance
        "spare_parts": "proven",
        "rental": "failed",
        "repair_truck": "too_early",
    }
    asia = segment(region="asia")
    assert ("garments_kept", asia) in story.violations()
    kept = total(having(story.last(28, "kept"), region="asia"), "garments")
    assert story.value("garments_kept", "28d", asia) == kept
