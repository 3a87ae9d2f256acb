from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from impact_aggregator.fold import BucketKey, Folded, Known, fold
from impact_aggregator.partial import Partial
from impact_aggregator.rules import MAX_SEGMENTS, Rules
from impact_schemas import numbers
from impact_schemas.catalog import parse_catalog
from tests.aggregator.conftest import HOUR, NOON, TEXT, visit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from impact_aggregator.events import Event

ONE = numbers.ONE
CATALOG = parse_catalog(TEXT, "clinic.yaml")
VERSIONS = {("clinic", name): 1 for name in CATALOG.metrics}


def fresh_rules() -> Rules:
    return Rules({"clinic": CATALOG}, VERSIONS)


def states(folded: Folded) -> dict[BucketKey, tuple[object, ...]]:
    return {key: state(partial) for key, partial in folded.buckets.items()}


def state(partial: Partial) -> tuple[object, ...]:
    sketch = partial.sketch.to_bytes() if partial.sketch else None
    plain = (partial.seen, partial.last_time, partial.count, partial.sum, partial.min, partial.max)
    return (*plain, partial.latest, sketch)


def total(folded: Folded, rules: Rules, metric: str, segment: str = "{}") -> Partial:
    for series_id, series in rules.book.items():
        if (series.metric, series.segment) == (metric, segment):
            return folded.buckets[BucketKey(series_id, "all", 0)]
    raise LookupError(metric)


def value(folded: Folded, rules: Rules, metric: str, aggregate: str, segment: str = "{}") -> Fraction | None:
    nanos = total(folded, rules, metric, segment).value(aggregate)
    return None if nanos is None else Fraction(nanos, ONE)


def test_each_aggregate_of_a_few_events(rules: Rules) -> None:
    folded = fold(
        [
            visit("a", NOON, "p1", language="es", region="north", kept=True, minutes=10),
            visit("b", NOON + 1, "p2", language="es", region="south", kept=False, minutes=Decimal("0.1")),
            visit("c", NOON - HOUR, "p1", language="en", region="west", kept=False, minutes=-4),
            visit("d", NOON + 2, None, kept=True),
        ],
        rules,
        {},
    )
    assert value(folded, rules, "visits", "count") == 4
    assert value(folded, rules, "missed", "count") == 2
    assert value(folded, rules, "patients", "unique") == 2
    assert value(folded, rules, "minutes", "sum") == Fraction("6.1")
    assert value(folded, rules, "mean_minutes", "mean") == Fraction("2.033333333")
    assert value(folded, rules, "least", "min") == -4
    assert value(folded, rules, "longest", "max") == 10
    assert value(folded, rules, "last", "latest") == Fraction("0.1")
    assert folded.tallies["clinic"].counted == 4


def test_segments_unknown_undeclared_and_cut(rules: Rules) -> None:
    folded = fold(
        [
            visit("a", language="es", region="north"),
            visit("b", language=None, region="west"),
            visit("c", region="south"),
        ],
        rules,
        {},
    )
    assert value(folded, rules, "visits", "count", '{"language":"es"}') == 1
    assert value(folded, rules, "visits", "count", '{"language":null}') == 2
    assert value(folded, rules, "visits", "count", '{"region":"(other)"}') == 1
    assert value(folded, rules, "visits", "count", '{"language":"es","region":"north"}') == 1


def test_an_event_that_matches_nothing_is_seen_but_not_counted(rules: Rules) -> None:
    folded = fold([visit("a", kept=True, language="es")], rules, {})
    missed = total(folded, rules, "missed")
    assert (missed.seen, missed.count, missed.value("count")) == (1, 0, 0)
    assert not any(series.segment != "{}" for series in rules.book.values() if series.metric == "missed")


def test_true_is_not_one_and_text_is_no_number(rules: Rules) -> None:
    folded = fold([visit("a", kept=0, minutes=True), visit("b", kept=False, minutes="7")], rules, {})
    assert value(folded, rules, "missed", "count") == 1
    assert value(folded, rules, "minutes", "sum") == 0


def test_a_copy_is_a_duplicate_and_other_content_is_a_conflict(rules: Rules) -> None:
    first, copy, other = visit("a", minutes=1), visit("a", minutes=1), visit("a", minutes=2)
    folded = fold([first, copy, other], rules, {})
    tally = folded.tallies["clinic"]
    assert (tally.counted, tally.duplicates, tally.quarantined) == (1, 1, 1)
    assert [entry.code for entry in folded.quarantined] == ["id_conflict"]
    assert value(folded, rules, "minutes", "sum") == 1


def test_what_was_counted_before_is_not_counted_again(rules: Rules) -> None:
    event = visit("a", minutes=1)
    folded = fold([event], rules, {event.identity: Known(event.digest, 0, 0, 0)})
    assert folded.tallies["clinic"].duplicates == 1
    assert not folded.buckets
    assert not folded.identities


def test_an_unknown_type_is_quarantined_and_claims_no_identity(rules: Rules) -> None:
    stranger = visit("a", event_type="clinic.other.v1")
    folded = fold([stranger, visit("a")], rules, {})
    assert [entry.code for entry in folded.quarantined] == ["unknown_type"]
    assert folded.tallies["clinic"].counted == 1


def test_too_many_segments_quarantine_the_event_in_log_order(rules: Rules) -> None:
    events = [visit(f"e{n}", language=f"l{n}") for n in range(MAX_SEGMENTS + 5)]
    events.append(visit("known", language="l3"))
    folded = fold(events, rules, {})
    assert [entry.code for entry in folded.quarantined] == ["too_many_segments"] * 5
    assert [entry.event_id for entry in folded.quarantined] == [f"e{MAX_SEGMENTS + n}" for n in range(5)]
    assert value(folded, rules, "visits", "count") == MAX_SEGMENTS + 1


def test_segments_known_from_before_count_towards_the_limit(rules: Rules) -> None:
    before = fresh_rules()
    fold([visit(f"e{n}", language=f"l{n}") for n in range(MAX_SEGMENTS)], before, {})
    rules.admit(before.book.values())
    folded = fold([visit("new", language="new"), visit("old", language="l7")], rules, {})
    assert [entry.event_id for entry in folded.quarantined] == ["new"]


def test_a_value_out_of_range_is_quarantined_and_the_rest_counts(rules: Rules) -> None:
    events = [visit("a", minutes=10**15), visit("b", minutes=5)]
    events[1] = replace(events[1], index=1)
    folded = fold(events, rules, {})
    assert [(entry.code, entry.event_id) for entry in folded.quarantined] == [("value_out_of_range", "a")]
    assert value(folded, rules, "minutes", "sum") == 5
    assert folded.tallies["clinic"].counted == 1


def test_old_events_open_day_buckets_only(rules: Rules) -> None:
    folded = fold([visit("a", NOON, received_at=NOON + 500 * 24 * HOUR)], rules, {})
    assert {key.resolution for key in folded.buckets} == {"1d", "all"}


data = st.fixed_dictionaries(
    {},
    optional={
        "language": st.sampled_from(["es", "en", None, "zz"]),
        "region": st.sampled_from(["north", "south", "east", 3]),
        "kept": st.booleans(),
        "minutes": st.one_of(
            st.integers(-1000, 1000),
            st.decimals(-100, 100, allow_nan=False, places=11),
        ),
    },
)


@st.composite
def event_lists(draw: st.DrawFn) -> list[Event]:
    events = []
    for n in range(draw(st.integers(1, 25))):
        fields: dict[str, Any] = draw(data)
        time = NOON + draw(st.integers(-40 * 24, 0)) * HOUR // 2
        subject = draw(st.sampled_from(["p1", "p2", "p3", None]))
        events.append(visit(f"e{n % 12}", time, subject, received_at=NOON, **fields))
    return events


def merged(parts: Iterable[Folded]) -> dict[BucketKey, tuple[object, ...]]:
    together: dict[BucketKey, Partial] = {}
    for part in parts:
        for key, partial in part.buckets.items():
            together.setdefault(key, Partial()).merge(partial)
    return {key: state(partial) for key, partial in together.items()}


@settings(max_examples=150, deadline=None)
@given(event_lists(), st.lists(st.integers(0, 25), max_size=4))
def test_any_split_into_batches_gives_the_same_buckets(events: list[Event], cuts: list[int]) -> None:
    whole = fold(events, fresh_rules(), {})
    rules, known, parts = fresh_rules(), dict[bytes, Known](), []
    edges = [0, *sorted(cuts), len(events)]
    for start, end in pairwise(edges):
        part = fold(events[start:end], rules, known)
        known |= {identity: Known(event.digest, 0, 0, 0) for identity, event in part.identities.items()}
        parts.append(part)
    assert merged(parts) == states(whole)
    counts = [sum(part.tallies["clinic"].counted for part in parts if part.tallies)]
    assert counts == [whole.tallies["clinic"].counted]


@settings(max_examples=100, deadline=None)
@given(event_lists(), st.randoms(use_true_random=False))
def test_any_order_of_different_events_gives_the_same_buckets(events: list[Event], random: Any) -> None:
    distinct = list({event.identity: event for event in events}.values())
    shuffled = list(distinct)
    random.shuffle(shuffled)
    assert states(fold(shuffled, fresh_rules(), {})) == states(fold(distinct, fresh_rules(), {}))


@settings(max_examples=100, deadline=None)
@given(event_lists())
def test_sums_equal_exact_fractions_of_the_rounded_values(events: list[Event]) -> None:
    rules = fresh_rules()
    distinct = list({event.identity: event for event in events}.values())
    folded = fold(distinct, rules, {})
    expected = sum(
        (Fraction(round(Decimal(event.data["minutes"]), 9)) for event in distinct if "minutes" in event.data),
        Fraction(0),
    )
    assert value(folded, rules, "minutes", "sum") == expected


def test_the_text_of_a_number_is_not_the_number() -> None:
    text = TEXT.replace("aggregate: unique, of: subject", "aggregate: unique, of: data.language")
    rules = Rules({"clinic": parse_catalog(text, "clinic.yaml")}, VERSIONS)
    folded = fold([visit("a", language="1"), visit("b", language=1), visit("c", language="1")], rules, {})
    assert value(folded, rules, "patients", "unique") == 2


def test_a_ratios_short_window_gives_its_parts_minute_buckets() -> None:
    text = TEXT.replace("windows: [5m, 1h, 24h, 28d, all]", "windows: [28d, all]")
    rules = Rules({"clinic": parse_catalog(text, "clinic.yaml")}, VERSIONS)
    folded = fold([visit("a", kept=False)], rules, {})
    minutes = {rules.book[key.series_id].metric for key in folded.buckets if key.resolution == "1m"}
    assert minutes == {"missed", "visits"}
