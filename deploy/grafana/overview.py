"""Makes the operators' dashboard, dashboards/overview.json: the numbers, and the health of what counts them.

The JSON is committed, because Grafana reads it from disk; after a change here run
`.venv/bin/python -m deploy.grafana.overview`. A test compares the two.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.grafana.panels import FOLDER, figure, graph, quantiles, query, rendered, rows, variable

FILE = FOLDER / "overview.json"

NUMBERS_SQL = """\
SELECT m.title, r.metric, r.role, r.value, m.unit, r.n, r.status, m.evidence, m.direction, r.as_of
FROM impact.rolling_metrics r JOIN impact.metrics m ON m.product = r.product AND m.metric = r.metric
WHERE r.product = ${product:sqlstring} AND r.time_window = ${window:sqlstring} AND r.segment = '{}'
ORDER BY CASE r.role WHEN 'impact' THEN 1 WHEN 'business' THEN 2 ELSE 3 END, r.metric"""
SEGMENTS_SQL = """\
SELECT metric, segment, value, n, unit, status
FROM impact.rolling_metrics
WHERE product = ${product:sqlstring} AND time_window = ${window:sqlstring} AND segment <> '{}'
ORDER BY metric, value DESC NULLS LAST, segment"""
LEDGER_SQL = "SELECT product, received, counted, duplicates, quarantined FROM impact.ledger ORDER BY product"
QUARANTINE_SQL = """\
SELECT product, code, count(*) AS events, max(received_at) AS last_received, max(detail) AS for_example
FROM impact.quarantined_events
WHERE replayed_at IS NULL
GROUP BY product, code ORDER BY events DESC"""
HOLES_SQL = "SELECT topic, partition, first_offset, last_offset, reason, found_at FROM impact.log_holes"


def overview() -> Dashboard:
    """The whole page."""
    page = (
        Dashboard("Impact: numbers and pipeline")
        .uid("impact-overview")
        .tags(["impact"])
        .description("Impact beside business, and the health of the pipeline that counts both.")
        .readonly()
        .refresh("10s")
        .time("now-1h", "now")
        .with_variable(variable("product", "Product", "label_values(impact_catalog_info, product)"))
        .with_variable(
            variable("window", "Window", 'label_values(impact_metric_state{product="$product"}, window)')
        )
    )
    return pipeline(numbers(page))


def numbers(page: Dashboard) -> Dashboard:
    """What was achieved: the totals, their course, and who is behind them."""
    # a total is named after its metric, `impact_<metric>_by_<dimension>` after none; what has a metric's name
    # as a label (states, progress) would lose it here, and two series would become one
    totals = (
        'max by (metric) (label_replace({__name__=~"impact_.+", metric="",'
        ' product="$product", window="$window"}, "metric", "$1", "__name__", "impact_(.+)")'
        " and on (product, window, metric) impact_metric_state)"
    )
    return (
        page.with_row(Row("Numbers of $product, window $window"))
        .with_panel(
            rows(
                "Totals",
                "Unknown is never 0: no_data and suppressed have no value. n is the events behind a value.",
                NUMBERS_SQL,
                width=24,
            )
        )
        .with_panel(
            graph(
                "Course of the totals",
                "Each metric as Prometheus saw it.",
                "short",
                query(totals, "{{metric}}"),
            )
        )
        .with_panel(
            rows(
                "By group",
                "Every segment of every metric. The group null is unknown.",
                SEGMENTS_SQL,
                width=12,
            )
        )
    )


def pipeline(page: Dashboard) -> Dashboard:
    """Whether the numbers can be trusted now: what comes in, how fast it counts, what is left out."""
    return (
        page.with_row(Row("Pipeline"))
        .with_panel(
            figure(
                "Accepted events",
                "Durably in the event log.",
                "cps",
                'sum(rate(impact_ingest_events_total{outcome="accepted"}[$__rate_interval]))',
            )
        )
        .with_panel(
            figure(
                "Records not yet counted",
                "Should come back to 0. If it only grows, add aggregators: up to one a partition.",
                "short",
                "sum(max by (partition) (impact_aggregator_lag_records))",
            )
        )
        .with_panel(
            figure(
                "Freshness, p99",
                "From receipt at the door to visible in SQL. The promise is 2 s.",
                "s",
                "histogram_quantile(0.99,"
                " sum by (le) (rate(impact_aggregator_freshness_seconds_bucket[$__rate_interval])))",
            )
        )
        .with_panel(
            figure(
                "Processes that answer",
                "Ingest and aggregator, as Prometheus reaches them.",
                "short",
                'sum(up{job=~"ingest|aggregator"})',
            )
        )
        .with_panel(
            graph(
                "Events at the door, by outcome",
                "Anything but accepted needs a look: the table below has the reasons.",
                "cps",
                query("sum by (outcome) (rate(impact_ingest_events_total[$__rate_interval]))", "{{outcome}}"),
            )
        )
        .with_panel(
            graph(
                "Events folded, by outcome",
                "Duplicates are harmless: each event counts once.",
                "cps",
                query(
                    "sum by (outcome) (rate(impact_aggregator_events_total[$__rate_interval]))", "{{outcome}}"
                ),
            )
        )
        .with_panel(
            graph("Time of a request", "At the door.", "s", *quantiles("impact_ingest_request_seconds"))
        )
        .with_panel(
            graph("Freshness", "From receipt to SQL.", "s", *quantiles("impact_aggregator_freshness_seconds"))
        )
        .with_panel(
            graph(
                "Records not yet counted, by partition",
                "One partition that lags alone points at a stuck aggregator.",
                "short",
                query("max by (partition) (impact_aggregator_lag_records)", "partition {{partition}}"),
            )
        )
        .with_panel(
            graph(
                "Requests, by status",
                "429: a product is over its rate. 503: the event log, or too much in flight.",
                "reqps",
                query("sum by (status) (rate(impact_ingest_requests_total[$__rate_interval]))", "{{status}}"),
            )
        )
        .with_panel(
            graph(
                "Batches dropped and read again, by cause",
                "database, log: mend these, counting goes on by itself. Single ones are the design at work.",
                "cps",
                query(
                    "sum by (cause) (rate(impact_aggregator_errors_total[$__rate_interval])) or vector(0)",
                    "{{cause}}",
                ),
            )
        )
        .with_panel(
            graph(
                "Refused events, bytes",
                "By product. A flood has an alert, and a limit an hour.",
                "Bps",
                query(
                    "sum by (product) (rate(impact_ingest_quarantine_bytes_total[$__rate_interval]))"
                    " or vector(0)",
                    "{{product}}",
                ),
            )
        )
        .with_panel(
            graph(
                "Time of a tick",
                "To bring the rolling values up to date.",
                "s",
                *quantiles("impact_aggregator_tick_seconds"),
            )
        )
        .with_panel(
            rows("Ledger", "received = counted + duplicates + quarantined, always.", LEDGER_SQL, width=12)
        )
        .with_panel(
            rows(
                "Quarantine",
                "Events that could not be counted, and why. They can be replayed once that is mended.",
                QUARANTINE_SQL,
                width=12,
            )
        )
        .with_panel(
            rows(
                "Holes in the log", "Records that the log itself lost. Should be empty.", HOLES_SQL, width=12
            )
        )
    )


if __name__ == "__main__":
    FILE.write_text(rendered(overview()), encoding="utf-8")
