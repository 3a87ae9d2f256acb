"""The views that analysts query: the same names and columns on PostgreSQL and SQLite, each with its comment.

A column's expression is portable SQL. Exact decimals leave the store as NUMERIC on PostgreSQL and as the
nearest double on SQLite. What the numbers mean is in `mission_views`.
"""

from __future__ import annotations

from impact_schemas.mission_views import MISSION_VIEWS
from impact_schemas.view import (
    METRIC,
    OWN_SEGMENT,
    PRODUCT,
    SEGMENT,
    View,
    columns,
    create_statements,
    number,
)

__all__ = ["VIEWS", "View", "create_statements"]

PRODUCTS = View(
    "products",
    "One row a product: its mission as the catalog states it.",
    columns(
        (PRODUCT[0], "product", PRODUCT[1]),
        ("title", "title", "the product's title"),
        ("statement", "statement", "the mission statement"),
        ("beneficiaries", "beneficiaries", "whom the mission serves"),
        ("north_star", "north_star", "the metric that stands for the mission"),
    ),
    "FROM product WHERE active",
)


def _of_definition(field: str, comment: str) -> tuple[str, str, str, str]:
    on_postgresql = f"CAST(definition AS json) ->> '{field}'"
    return field, on_postgresql, comment, f"json_extract(definition, '$.{field}')"


METRICS = View(
    "metrics",
    "One row a metric: its definition now in force.",
    columns(
        (PRODUCT[0], "product", PRODUCT[1]),
        (METRIC[0], "metric", METRIC[1]),
        ("version", "version", "counts up when what decides the numbers is changed"),
        ("title", "title", "the metric's title"),
        ("unit", "unit", "UCUM unit, or ISO 4217 code for money; 1 is a plain number"),
        ("quantity", "quantity", "quantity kind: unlike kinds never add"),
        ("role", "role", "impact, business or guardrail"),
        ("level", "level", "input, activity, output, outcome or impact"),
        ("direction", "direction", "which way is better: up or down"),
        ("aggregate", "aggregate", "count, sum, mean, min, max, latest, unique, p50 to p99, or ratio"),
        ("evidence", "evidence", "how the number is known: counted, estimated, modelled or compared"),
        ("method", "method", "how it is worked out"),
        ("source", "source", "where method or factor come from"),
        ("owner", "owner", "who answers for the number"),
        ("sdg", "sdg", "SDG targets and indicators, a JSON array"),
        ("iris", "iris", "IRIS+ metric ids, a JSON array"),
        ("min_cell", "min_cell", "cells of fewer subjects than this are suppressed; NULL: none are"),
        ("block", "block", "day, week or month: the grid on which it is published; NULL: it is live"),
        ("definition", "definition", "the catalog's entry as JSON, defaults filled in"),
        _of_definition("description", "what it means, in a sentence or two"),
        _of_definition("leads_to", "the metrics that it leads to, a JSON array"),
        _of_definition("visibility", "internal, or public: whether a public report may show it"),
        _of_definition("cadence", "a longer silence than this means stale: an ISO 8601 duration"),
        (
            "reviewed",
            "CAST(definition AS json) -> 'evidence' ->> 'reviewed'",
            "the day on which its evidence was last reviewed",
            "json_extract(definition, '$.evidence.reviewed')",
        ),
    ),
    "FROM metric_version WHERE active",
)

ROLLING_METRICS = View(
    "rolling_metrics",
    "One row a series and window: the value that people look at, right as of as_of.",
    columns(
        (PRODUCT[0], "s.product", PRODUCT[1]),
        (METRIC[0], "s.metric", METRIC[1]),
        ("role", "m.role", "impact, business or guardrail"),
        ("unit", "m.unit", "unit of value"),
        ("time_window", "r.time_window", "5m, 1h, 24h, 7d, 28d, 90d, 365d or all"),
        (SEGMENT[0], "s.segment", SEGMENT[1]),
        ("value", number("r.value"), "NULL unless status is ok or stale: unknown is never 0"),
        ("n", "r.n", "events counted in the value (of a ratio: of its denominator)"),
        ("status", "r.status", "suppressed, no_data, stale or ok"),
        ("as_of", "w.as_of", "the value is right at this time (UTC)"),
        (
            "window_start",
            "COALESCE(r.window_start, w.window_start)",
            "the window covers [window_start, window_end]; NULL: all time",
        ),
        (
            "window_end",
            "COALESCE(r.window_end, w.as_of)",
            "as_of; of a metric with min_cell the end of the last closed block (UTC)",
        ),
        (
            "hidden_blocks",
            "r.hidden_blocks",
            "of a metric with min_cell: blocks of the window whose cell is hidden, and not in value and n",
        ),
        ("version", "s.version", "the metric's version"),
        ("changed_at", "r.changed_at", "when this row last changed (UTC)"),
    ),
    "FROM rolling_value r JOIN series s ON s.series_id = r.series_id"
    " JOIN metric_version m ON m.product = s.product AND m.metric = s.metric AND m.version = s.version"
    f" JOIN window_position w ON w.time_window = r.time_window WHERE m.active AND {OWN_SEGMENT}",
)

# A sketch's estimates cannot be added: of one shard its own holds, of several the merged one. A shard that
# saw only events which do not belong to the metric has none.
_ESTIMATE = (
    "CASE WHEN COUNT(b.estimate) < 2 THEN "
    + number("MAX(b.estimate)")
    + " ELSE "
    + number("MAX(e.estimate)")
    + " END"
)
_SUM = f"SUM({number('b.sum')})"
_MEAN = f"{_SUM} / NULLIF(SUM(b.count), 0)"
_LATEST = (
    "(SELECT " + number("l.latest_value") + " FROM bucket l WHERE l.series_id = s.series_id"  # noqa: S608 (constants alone)
    " AND l.resolution = b.resolution AND l.bucket_start = b.bucket_start AND l.latest_time IS NOT NULL"
    " ORDER BY l.latest_time DESC, l.latest_tiebreak DESC LIMIT 1)"
)
_VALUE = (
    "CASE m.aggregate WHEN 'count' THEN SUM(b.count)"
    f" WHEN 'sum' THEN COALESCE({_SUM}, 0) WHEN 'mean' THEN {_MEAN}"
    f" WHEN 'min' THEN MIN({number('b.min')}) WHEN 'max' THEN MAX({number('b.max')})"
    f" WHEN 'latest' THEN COALESCE({_ESTIMATE}, {_LATEST})"
    f" WHEN 'unique' THEN COALESCE({_ESTIMATE}, 0) ELSE {_ESTIMATE} END"
)


def _published(expression: str) -> str:
    return f"CASE WHEN NOT c.is_hidden THEN {expression} END"


# Of a protected metric only closed blocks are shown, as they were decided.
_BLOCKS = (
    " UNION ALL SELECT s.product, s.metric, s.version,"  # noqa: S608 (constants alone)
    " CASE m.block WHEN 'day' THEN '1d' WHEN 'week' THEN '1w' ELSE '1mo' END, c.block_start, s.segment,"
    f" {_published('c.count')}, {_published(number('c.sum'))},"
    f" {_published(number('c.sum') + ' / NULLIF(c.count, 0)')},"
    f" CAST(NULL AS NUMERIC), CAST(NULL AS NUMERIC), {_published(number('c.value'))},"
    " c.decided_at, c.is_restated"
    " FROM block_cell c JOIN series s ON s.series_id = c.series_id"
    " JOIN metric_version m ON m.product = s.product AND m.metric = s.metric AND m.version = s.version"
    f" WHERE m.active AND m.block IS NOT NULL AND {OWN_SEGMENT}"
)


_LIVE_BUCKETS = (
    "FROM bucket b JOIN series s ON s.series_id = b.series_id"
    " JOIN metric_version m ON m.product = s.product AND m.metric = s.metric AND m.version = s.version"
    " LEFT JOIN merged_estimate e ON e.series_id = b.series_id AND e.resolution = b.resolution"
    " AND e.bucket_start = b.bucket_start"
    f" WHERE m.active AND b.resolution <> 'all' AND {OWN_SEGMENT}"
)
_GROUPED = (
    "GROUP BY s.series_id, s.product, s.metric, s.version, s.segment, m.aggregate,"
    " b.resolution, b.bucket_start"
)

METRIC_BUCKETS = View(
    "metric_buckets",
    "One row a series, resolution and start: a partial aggregate of the events whose time falls into it.",
    columns(
        (PRODUCT[0], "s.product", PRODUCT[1]),
        (METRIC[0], "s.metric", METRIC[1]),
        ("version", "s.version", "the metric's version"),
        ("resolution", "b.resolution", "1m, 1h or 1d; of a metric with min_cell its block: 1d, 1w or 1mo"),
        ("bucket_start", "b.bucket_start", "start of the bucket (UTC)"),
        (SEGMENT[0], "s.segment", SEGMENT[1]),
        ("count", "CAST(SUM(b.count) AS BIGINT)", "events counted; NULL: a hidden cell"),
        ("sum", _SUM, "sum of their values; NULL where the aggregate has none"),
        ("mean", _MEAN, "sum / count"),
        ("min", f"MIN({number('b.min')})", "least value"),
        ("max", f"MAX({number('b.max')})", "greatest value"),
        ("value", _VALUE, "what the metric's aggregate gives for this bucket alone"),
        ("updated_at", "MAX(b.updated_at)", "when an event last changed it, or the block was decided (UTC)"),
        ("restated", "FALSE", "true: a block that holds what came late for blocks before it, too"),
    ),
    f"{_LIVE_BUCKETS} AND m.block IS NULL {_GROUPED}{_BLOCKS}",
)

TRUE_BUCKETS = View(
    "true_buckets",  # not one of VIEWS: what the numbers are recomputed from and checked against
    "As metric_buckets, with the live buckets of protected metrics.",
    METRIC_BUCKETS.columns,
    f"{_LIVE_BUCKETS} {_GROUPED}",
)

_OF_SERIES = (
    " JOIN series s ON s.series_id = r.series_id"
    " JOIN metric_version m ON m.product = s.product AND m.metric = s.metric AND m.version = s.version"
)

ROLLING_HISTORY = View(
    "rolling_history",
    "One row a series, window and day: the rolling value as it stood at the end of that day.",
    columns(
        (PRODUCT[0], "s.product", PRODUCT[1]),
        (METRIC[0], "s.metric", METRIC[1]),
        ("version", "s.version", "the metric's version"),
        ("time_window", "r.time_window", "5m, 1h, 24h, 7d, 28d, 90d, 365d or all"),
        (SEGMENT[0], "s.segment", SEGMENT[1]),
        ("at", "r.at", "the midnight (UTC) that ended the day"),
        ("value", number("r.value"), "NULL unless status is ok or stale: unknown is never 0"),
        ("n", "r.n", "events counted in the value"),
        ("status", "r.status", "suppressed, no_data, stale or ok"),
    ),
    f"FROM rolling_day r{_OF_SERIES} WHERE {OWN_SEGMENT}",
)

PERIOD_METRICS = View(
    "period_metrics",
    "One row a series and calendar month, quarter or year (UTC) with events of the series.",
    columns(
        (PRODUCT[0], "s.product", PRODUCT[1]),
        (METRIC[0], "s.metric", METRIC[1]),
        ("version", "s.version", "the metric's version"),
        ("period", "r.period", "month, quarter or year"),
        ("starts_at", "r.starts_at", "start of the period (UTC)"),
        ("ends_at", "r.ends_at", "start of the next one (UTC)"),
        (SEGMENT[0], "s.segment", SEGMENT[1]),
        ("value", number("r.value"), "NULL unless status is ok: unknown is never 0"),
        ("n", "r.n", "events counted in the value (of a ratio: of its denominator)"),
        ("status", "r.status", "suppressed, no_data or ok"),
        ("closed", "r.ends_at <= w.as_of", "whether the period is over; late events still correct it"),
        ("updated_at", "r.changed_at", "when this row last changed (UTC)"),
        ("hidden_blocks", "r.hidden_blocks", "as in rolling_metrics; of blocks that lie within the period"),
    ),
    f"FROM period_value r{_OF_SERIES} JOIN window_position w ON w.time_window = 'all'"
    f" WHERE m.active AND {OWN_SEGMENT}",
)

_NEXT = "LEAD(r.old_value) OVER (PARTITION BY r.series_id, r.resolution, r.bucket_start ORDER BY r.id)"
_NOW = (
    "(SELECT v.value FROM metric_buckets v WHERE v.product = s.product AND v.metric = s.metric"
    " AND v.version = s.version AND v.segment = s.segment AND v.resolution = r.resolution"
    " AND v.bucket_start = r.bucket_start)"
)

METRIC_REVISIONS = View(
    "metric_revisions",
    "One row a bucket that changed after its day, and why: what was reported then, and what is known now.",
    columns(
        (PRODUCT[0], "s.product", PRODUCT[1]),
        (METRIC[0], "s.metric", METRIC[1]),
        ("version", "s.version", "the metric's version"),
        ("resolution", "r.resolution", "1d"),
        ("bucket_start", "r.bucket_start", "start of the bucket (UTC)"),
        (SEGMENT[0], "s.segment", SEGMENT[1]),
        ("reported_at", "r.reported_at", "when the change was counted (UTC)"),
        ("old_value", number("r.old_value"), "the bucket's value before"),
        (
            "new_value",
            f"COALESCE({number('r.new_value')}, {number(_NEXT)}, {_NOW})",
            "its value after; for late events that before the next revision, or now",
        ),
        ("reason", "r.reason", "retraction, correction, late, rebuild, or factor (a new edition)"),
        ("caused_by", "r.caused_by", "ids of the events that said so; NULL for late ones"),
    ),
    # the days of a protected metric are not shown: its blocks say whether they were restated
    f"FROM metric_revision r{_OF_SERIES} WHERE m.block IS NULL AND {OWN_SEGMENT}",
)

_OF_BUCKET = (
    " JOIN series s ON s.series_id = b.series_id"
    " JOIN metric_version m ON m.product = s.product AND m.metric = s.metric AND m.version = s.version"
)
_WITH_DISTRIBUTION = (
    f"WHERE m.active AND m.block IS NULL AND b.resolution <> 'all' AND {OWN_SEGMENT}"
    " AND m.aggregate IN ('p50', 'p90', 'p95', 'p99')"
)

METRIC_DISTRIBUTIONS = View(
    "metric_distributions",
    "One row a bucket and class of values of metrics with a percentile: counts add up to any percentile.",
    columns(
        (PRODUCT[0], "s.product", PRODUCT[1]),
        (METRIC[0], "s.metric", METRIC[1]),
        ("version", "s.version", "the metric's version"),
        ("resolution", "b.resolution", "1m, 1h or 1d"),
        ("bucket_start", "b.bucket_start", "start of the bucket (UTC)"),
        (SEGMENT[0], "s.segment", SEGMENT[1]),
        (
            "value",
            "CAST(d.class ->> 1 AS NUMERIC)",
            "the values of this class are within 1 % of this one",
            "CAST(json_extract(d.value, '$[1]') AS REAL)",
        ),
        (
            "count",
            "CAST(d.class ->> 2 AS BIGINT)",
            "how many there are",
            "CAST(json_extract(d.value, '$[2]') AS INTEGER)",
        ),
    ),
    f"FROM bucket b{_OF_BUCKET} CROSS JOIN LATERAL"
    f" json_array_elements(convert_from(substr(b.sketch, 2), 'UTF8')::json) AS d(class) {_WITH_DISTRIBUTION}",
    f"FROM bucket b{_OF_BUCKET} JOIN json_each(CAST(substr(b.sketch, 2) AS TEXT)) AS d {_WITH_DISTRIBUTION}",
)

QUARANTINED_EVENTS = View(
    "quarantined_events",
    "One row an event that could be read but not counted, with its reason. It can be replayed.",
    columns(
        (PRODUCT[0], "product", PRODUCT[1]),
        ("code", "code", "the verdict's code"),
        ("detail", "detail", "what is wrong, in words"),
        ("pointer", "pointer", "JSON pointer to the place in the event"),
        ("received_at", "received_at", "when the door received it (UTC)"),
        ("event_id", "event_id", "the event's id"),
        ("event_source", "event_source", "the event's source"),
        ("event_type", "event_type", "the event's type"),
        ("payload", "payload", "the event as JSON; its subject is a pseudonym"),
        ("replayed_at", "replayed_at", "when it was sent again (UTC); NULL: not yet"),
    ),
    "FROM quarantine",
)

LEDGER = View(
    "ledger",
    "One row a product: every event read from the event log and the quarantine log, and what became of it.",
    columns(
        (PRODUCT[0], "product", PRODUCT[1]),
        (
            "received",
            "CAST(SUM(counted + duplicates + quarantined) AS BIGINT)",
            "counted + duplicates + quarantined, always",
        ),
        ("counted", "CAST(SUM(counted) AS BIGINT)", "events counted, each identity once"),
        ("duplicates", "CAST(SUM(duplicates) AS BIGINT)", "identical copies of counted events"),
        ("quarantined", "CAST(SUM(quarantined) AS BIGINT)", "events in quarantine"),
    ),
    "FROM ledger_count GROUP BY product",
)

LOG_POSITIONS = View(
    "log_positions",
    "One row a partition: what is before next_offset is in metric_buckets and ledger, nothing else is.",
    columns(
        ("topic", "topic", "the log's topic"),
        ("partition", "partition", "partition number, from 0"),
        ("next_offset", "next_offset", "the first record that is not yet counted"),
        ("updated_at", "updated_at", "when it last moved (UTC)"),
    ),
    "FROM claim WHERE topic NOT LIKE 'rebuild of %'",
)

LOG_HOLES = View(
    "log_holes",
    "One row a run of records that the log itself lost.",
    columns(
        ("topic", "topic", "the log's topic"),
        ("partition", "partition", "partition number, from 0"),
        ("first_offset", "first_offset", "the first record that is gone"),
        ("last_offset", "last_offset", "the last record that is gone"),
        ("reason", "reason", "what the log said"),
        ("found_at", "found_at", "when it was found (UTC)"),
    ),
    "FROM log_hole",
)

SEGMENT_MEMBERS = View(
    "segment_members",
    "One row a segment of a metric and dimension that it is of: segments without taking JSON apart.",
    columns(
        (PRODUCT[0], "s.product", PRODUCT[1]),
        (METRIC[0], "s.metric", METRIC[1]),
        (SEGMENT[0], "s.segment", SEGMENT[1]),
        ("dimension", "d.key", "the dimension's name"),
        (
            "member",
            "d.value",
            "the group; NULL: the unknown group",
            "CASE d.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(d.value AS TEXT) END",
        ),
        (
            "dimensions",
            "(SELECT COUNT(*) FROM jsonb_object_keys(CAST(s.segment AS jsonb)))",
            "how many dimensions the segment is of: 1, or those of a cut. Do not mix",
            "(SELECT COUNT(*) FROM json_each(s.segment))",
        ),
    ),
    "FROM series s JOIN metric_version m ON m.product = s.product AND m.metric = s.metric"
    " AND m.version = s.version CROSS JOIN LATERAL jsonb_each_text(CAST(s.segment AS jsonb)) AS d"
    f" WHERE m.active AND {OWN_SEGMENT}",
    "FROM series s JOIN metric_version m ON m.product = s.product AND m.metric = s.metric"
    f" AND m.version = s.version JOIN json_each(s.segment) AS d WHERE m.active AND {OWN_SEGMENT}",
)

VIEWS: tuple[View, ...] = (
    PRODUCTS,
    METRICS,
    SEGMENT_MEMBERS,
    ROLLING_METRICS,
    METRIC_BUCKETS,
    METRIC_DISTRIBUTIONS,
    ROLLING_HISTORY,
    PERIOD_METRICS,
    METRIC_REVISIONS,
    QUARANTINED_EVENTS,
    LEDGER,
    LOG_POSITIONS,
    LOG_HOLES,
    *MISSION_VIEWS,
)
