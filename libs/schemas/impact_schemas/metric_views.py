"""A typed view a metric, `m_<product>_<metric>`: every published value, with a column for each dimension."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

from impact_schemas.view import View, columns

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

Name = tuple[str, str]  # product, metric

PREFIX = "m_"
_LONGEST = 63  # bytes of a name in PostgreSQL
_OWN = ("span", "starts_at", "ends_at", "split", "value", "n", "status", "updated_at")

_ROLLING = (
    "SELECT time_window AS span, window_start AS starts_at, window_end AS ends_at, segment, value, n, status"
)
_PERIODS = "SELECT period AS span, starts_at, ends_at, segment, value, n, status"


def view_names(metrics: Collection[Name]) -> dict[Name, str]:
    """The name of each metric's view; one that is too long or not unique ends with a hash."""
    plain = {name: PREFIX + "_".join(name) for name in metrics}
    times = Counter(plain.values())
    return {
        name: text if times[text] == 1 and len(text) <= _LONGEST else _hashed(name, text)
        for name, text in plain.items()
    }


def _hashed(name: Name, text: str) -> str:
    digest = hashlib.sha256("/".join(name).encode()).hexdigest()[:8]
    return f"{text[: _LONGEST - 9]}_{digest}"


def metric_views(dimensions: Mapping[Name, Sequence[str]]) -> list[View]:
    """The views of these metrics, each with the dimensions that it is split by."""
    names = view_names(dimensions.keys())
    return [_view(names[name], name, split) for name, split in dimensions.items()]


def _view(view: str, name: Name, dimensions: Sequence[str]) -> View:
    product, metric = name
    of_metric = f"WHERE product = '{product}' AND metric = '{metric}'"
    source = (
        f"FROM ({_ROLLING}, changed_at AS updated_at FROM rolling_metrics {of_metric}"
        f" UNION ALL {_PERIODS}, updated_at FROM period_metrics {of_metric}) AS v"
    )
    return View(
        view,
        f"One row a published value of the metric {metric} of {product}: a window or a calendar period.",
        columns(
            ("span", "v.span", "5m to 365d or all: a rolling window; or month, quarter, year"),
            ("starts_at", "v.starts_at", "the span begins (UTC); NULL: all time"),
            ("ends_at", "v.ends_at", "the span ends, or until when it is known (UTC)"),
            (
                "split",
                "COALESCE((SELECT string_agg(k, ',' ORDER BY k)"
                " FROM jsonb_object_keys(CAST(v.segment AS jsonb)) AS k), '')",
                "the dimensions that this row is split by, comma-separated; empty: the total. Choose one",
                "COALESCE((SELECT group_concat(d.key, ',') FROM json_each(v.segment) AS d), '')",
            ),
            *(_dimension(dimension) for dimension in dimensions),
            ("value", "v.value", "NULL unless status is ok or stale: unknown is never 0"),
            ("n", "v.n", "events counted in the value (of a ratio: of its denominator)"),
            ("status", "v.status", "suppressed, no_data, stale or ok"),
            ("updated_at", "v.updated_at", "when this row last changed (UTC): for incremental models"),
        ),
        source,
    )


def _dimension(dimension: str) -> tuple[str, str, str, str]:
    column = f"by_{dimension}" if dimension in _OWN else dimension
    path = f"'$.\"{dimension}\"'"
    return (
        column,
        f"CASE WHEN jsonb_exists(CAST(v.segment AS jsonb), '{dimension}')"
        f" THEN COALESCE(CAST(v.segment AS jsonb) ->> '{dimension}', '(unknown)') END",
        f"the group by {dimension}; NULL: not split by it; (unknown): of unknown group",
        f"CASE json_type(v.segment, {path}) WHEN 'null' THEN '(unknown)' WHEN 'true' THEN 'true'"
        f" WHEN 'false' THEN 'false' ELSE CAST(json_extract(v.segment, {path}) AS TEXT) END",
    )
