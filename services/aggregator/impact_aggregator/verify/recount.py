"""The recomputation: the log's events in DuckDB, what counts of them, and what every metric makes of it.

Nothing of the fold's code is used. Memory is bounded: DuckDB keeps its tables in a file of a temporary
folder and spills what does not fit.
"""

# ruff: noqa: S608 (every name is ours, every text is quoted by `literal`)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb

from impact_aggregator.verify.definitions import by_product, formula_of, paths_of
from impact_aggregator.verify.flatten import (
    CORRECTION,
    INTEGERS,
    RETRACTION,
    TEXTS,
    Rows,
    columns_of_path,
    count_rejections,
)
from impact_aggregator.verify.measured import measured_of, value_sql
from impact_aggregator.verify.metric_sql import Span, aggregation, floored, listed, selection

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from impact_aggregator.verify.definitions import Definition, Formula, Metric
    from impact_aggregator.verify.measured import Measured
    from impact_eventlog import Record
    from impact_schemas.identity import Identities

BATCH_EVENTS = 20_000  # in Python at a time: about 20 MiB
MINUTE, HOUR, DAY = 60_000_000, 3_600_000_000, 86_400_000_000

# resolution -> step, and how old an event may be on receipt to be in it
RESOLUTIONS = {"1m": (MINUTE, 7 * DAY), "1h": (HOUR, 400 * DAY), "1d": (DAY, None)}
# window -> length and step
WINDOWS = {
    "5m": (5 * MINUTE, MINUTE),
    "1h": (HOUR, MINUTE),
    "24h": (DAY, HOUR),
    "7d": (7 * DAY, DAY),
    "28d": (28 * DAY, DAY),
    "90d": (90 * DAY, DAY),
    "365d": (365 * DAY, DAY),
}
PERIODS = ("month", "quarter", "year")

_TABLES = """
CREATE TABLE aside (partition BIGINT, log_offset BIGINT, position BIGINT, code VARCHAR);
CREATE TABLE expected (metric INTEGER, kind VARCHAR, place VARCHAR, start BIGINT, segment VARCHAR,
    split VARCHAR, n BIGINT, total HUGEINT, least HUGEINT, greatest HUGEINT, value HUGEINT,
    tolerance HUGEINT);
CREATE TABLE seen_period (metric INTEGER, place VARCHAR, start BIGINT);
"""


class Recount:
    """The events of some products, counted anew."""

    def __init__(
        self,
        metrics: Sequence[Metric],
        products: Iterable[str],
        identities: Identities,
        folder: Path,
        memory_mib: int,
    ) -> None:
        """Counts `metrics`, and the ledgers of `products`, with or without metrics."""
        self.metrics = metrics
        self.sql = duckdb.connect(
            ":memory:",
            config={"memory_limit": f"{memory_mib}MiB", "temp_directory": str(folder), "threads": 2},
        )
        self.sql.execute("SET preserve_insertion_order = false")
        self.sql.execute(_TABLES)
        self.events = 0
        self.rejections: dict[str, int] = {}
        self._tables: dict[str, str] = {}
        self._rows: dict[str, Rows] = {}
        self._places: dict[str, dict[str, int]] = {}
        self._path_columns: dict[str, dict[str, str]] = {}
        self._measured: dict[int, list[Measured]] = {}
        grouped = by_product(metrics)
        for number, product in enumerate(dict.fromkeys((*grouped, *products))):
            self._make_table(number, product, grouped.get(product, ()), identities)

    def formula(self, metric: Metric) -> Formula:
        """What the metric is worked out of."""
        by_name = {one.name: one for one in self.metrics if one.product == metric.product}
        return formula_of(metric, by_name)

    def close(self) -> None:
        """Gives everything back; the folder is the caller's to delete."""
        self.sql.close()

    def _make_table(
        self, number: int, product: str, metrics: Sequence[Metric], identities: Identities
    ) -> None:
        paths = paths_of(metrics)
        self._measured |= (measured := measured_of(metrics))
        columns_measured = [one for every in measured.values() for one in every]
        values: dict[str, str] = {}
        for place, use in enumerate(paths.values()):
            values |= columns_of_path(place, use)
        values |= {one.column: "HUGEINT" for one in columns_measured}
        columns = dict.fromkeys(INTEGERS, "BIGINT") | dict.fromkeys(TEXTS, "VARCHAR") | values
        table = f"event_{number}"
        described = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        self.sql.execute(f"CREATE TABLE {table} ({described})")
        self._tables[product] = table
        self._path_columns[product] = values
        self._places[product] = {path: place for place, path in enumerate(paths)}
        self._rows[product] = Rows(product, paths, columns_measured, identities)

    # --- loading --------------------------------------------------------------------------------------

    def set_aside(self, rows: Iterable[tuple[int, int, int, str]]) -> None:
        """Positions (partition, offset, index, code) of events that stand in quarantine for a reason that
        cannot be judged from the log alone: a catalog of its time, or a limit on segments."""
        given = list(rows)
        if given:
            self.sql.executemany("INSERT INTO aside VALUES (?, ?, ?, ?)", given)

    def add(self, records: Sequence[Record]) -> None:
        """Takes in records of the event log."""
        for record in records:
            rows = self._rows.get(record.product)
            if rows is None:
                continue
            rows.add(record)
            if len(rows) >= BATCH_EVENTS:
                self._flush(record.product)

    def add_rejections(self, records: list[Record]) -> None:
        """Takes in records of the quarantine log."""
        for product, count in count_rejections(records).items():
            self.rejections[product] = self.rejections.get(product, 0) + count

    def _flush(self, product: str) -> None:
        rows = self._rows[product]
        if len(rows):
            self.events += len(rows)
            chunk = rows.take()
            names = ", ".join(chunk)
            self.sql.register("chunk", chunk)
            self.sql.execute(f"INSERT INTO {self._tables[product]} ({names}) SELECT {names} FROM chunk")
            self.sql.unregister("chunk")

    # --- what counts ----------------------------------------------------------------------------------

    def resolve(self) -> None:
        """Decides what counts, once all is loaded: first copies, less what was taken back, corrected."""
        for product, table in self._tables.items():
            self._flush(product)
            self.sql.execute(_VERDICTS.format(table=table))
            columns = ", ".join(
                f"CASE WHEN h.seq IS NULL THEN e.{name} ELSE h.{name} END AS {name}"
                for name in self._path_columns[product]
            )
            self.sql.execute(_COUNTED.format(table=table, columns=f", {columns}" if columns else ""))

    def ledger(self) -> dict[str, tuple[int, int, int]]:
        """(counted, duplicates, quarantined) of each product."""
        found = {}
        for product, table in self._tables.items():
            query = f"SELECT verdict, count(*) FROM verdict_{table} GROUP BY verdict"
            verdicts = dict(self.sql.execute(query).fetchall())
            quarantined = verdicts.get("aside", 0) + verdicts.get("conflict", 0)
            quarantined += self._rows[product].unreadable + self.rejections.get(product, 0)
            found[product] = (verdicts.get("first", 0), verdicts.get("duplicate", 0), quarantined)
        return found

    def first_of(self, product: str) -> str:
        """The SQL table of a product's events that are counted, retracted ones marked."""
        return f"counted_{self._tables[product]}"

    # --- what the metrics make of it ------------------------------------------------------------------

    def select(self, metric: Metric) -> None:
        """Makes the table `matched`: the events of one metric that is counted, retracted ones too."""
        measured = self._measured.get(metric.number)
        value = None if measured is None else value_sql(measured)
        places, events = self._places[metric.product], self.first_of(metric.product)
        query = selection(metric.definition, places, events, value)
        self.sql.execute(f"CREATE OR REPLACE TEMP TABLE matched AS {query}")

    def count_anew(self, metric: Metric, moments: Mapping[str, int]) -> None:
        """Adds all numbers of a metric that is counted to the table `expected`.

        `moments`: the windows that are wanted, and when.
        """
        self.select(metric)
        spans = [*bucket_spans(metric.definition), *window_spans(moments), *PERIOD_SPANS]
        query = aggregation(metric.definition, spans, "matched")
        self.sql.execute(f"INSERT INTO expected SELECT {metric.number}, * FROM ({query})")

    def note_seen(self, metric: Metric) -> None:
        """Adds the calendar periods in which events of the metric's types came to the table `seen_period`."""
        types = listed(metric.definition.event)
        for span in PERIOD_SPANS:
            self.sql.execute(
                f"INSERT INTO seen_period SELECT DISTINCT {metric.number}, '{span.place}', {span.start}"
                f" FROM {self.first_of(metric.product)} WHERE NOT retracted AND type IN {types}"
            )

    def seen(self, metric: Metric, window: str, as_of: int) -> int:
        """How many events of the metric's types came in the window, matching or not."""
        types = listed(metric.definition.event)
        ((count,),) = self.rows(
            f"SELECT count(*) FROM {self.first_of(metric.product)}"
            f" WHERE NOT retracted AND type IN {types} AND {within(window, as_of)}"
        )
        return int(count)

    def last_time(self, metric: Metric) -> int | None:
        """The latest event of the metric's types, matching or not."""
        row = self.sql.execute(
            f"SELECT max(time) FROM {self.first_of(metric.product)}"
            f" WHERE NOT retracted AND type IN {listed(metric.definition.event)}"
        ).fetchone()
        last: int | None = row[0] if row else None
        return last

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """A query's rows."""
        return self.sql.execute(query).fetchall()


def bucket_spans(definition: Definition) -> list[Span]:
    """The buckets that are kept of a metric: fine ones not for an event that was too old on receipt."""
    spans = []
    for resolution, (step, age) in RESOLUTIONS.items():
        start = floored(step)
        if age is not None:
            start = f"CASE WHEN received_at - time <= {age} THEN {start} END"
        if resolution != "1m" or definition.has_minutes:
            spans.append(Span("bucket", resolution, start))
    return spans


def window_spans(moments: Mapping[str, int]) -> list[Span]:
    """Rolling windows at their moments; their rows have no start of their own."""
    return [
        Span("rolling", window, f"CASE WHEN {within(window, as_of)} THEN 0 END")
        for window, as_of in moments.items()
    ]


PERIOD_SPANS = [
    Span("period", period, f"epoch_us(date_trunc('{period}', make_timestamp(time)))") for period in PERIODS
]


def window_start(window: str, as_of: int) -> int | None:
    """When a window begins at a moment; None for all time."""
    if window == "all":
        return None
    length, step = WINDOWS[window]
    return as_of - as_of % step - (length - step)


def within(window: str, as_of: int) -> str:
    """The SQL condition that `time` is in a window at a moment, its running step included."""
    start = window_start(window, as_of)
    if start is None:
        return "TRUE"
    return f"time >= {start} AND time < {start + WINDOWS[window][0]}"


# Copies of one identity stand in one partition, so that the order of reading is the order of the log.
_VERDICTS = """
CREATE TABLE verdict_{table} AS
SELECT seq, CASE WHEN is_aside THEN 'aside' WHEN rank = 1 THEN 'first'
    WHEN content = first_content THEN 'duplicate' ELSE 'conflict' END AS verdict
FROM (
    SELECT e.seq, e.content, a.code IS NOT NULL AS is_aside,
        row_number() OVER copies AS rank, first_value(e.content) OVER copies AS first_content
    FROM {table} e LEFT JOIN aside a USING (partition, log_offset, position)
    WINDOW copies AS (PARTITION BY e.source, e.id, a.code IS NOT NULL ORDER BY e.seq)
)
"""

_COUNTED = f"""
CREATE TABLE counted_{{table}} AS
WITH first AS (
    SELECT e.* FROM {{table}} e JOIN verdict_{{table}} v USING (seq) WHERE v.verdict = 'first'
), retraction AS (
    SELECT DISTINCT target_source, target_id FROM first WHERE type = '{RETRACTION}'
), held AS (
    SELECT * FROM first WHERE type = '{CORRECTION}'
    QUALIFY row_number() OVER (PARTITION BY target_source, target_id ORDER BY time DESC, id DESC) = 1
)
SELECT e.seq, e.type, e.time, e.received_at, e.subject, e.tiebreak,
    r.target_id IS NOT NULL AS retracted, h.seq IS NOT NULL AS corrected{{columns}}
FROM first e
LEFT JOIN retraction r ON r.target_source = e.source AND r.target_id = e.id
LEFT JOIN held h ON h.target_source = e.source AND h.target_id = e.id
WHERE e.type NOT IN ('{RETRACTION}', '{CORRECTION}')
"""
