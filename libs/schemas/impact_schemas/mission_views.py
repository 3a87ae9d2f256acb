"""The views of what the numbers mean: trends, targets, gaps, pairs, violations, needs, bets, risks."""

from __future__ import annotations

from impact_schemas.view import METRIC, OWN_SEGMENT, PRODUCT, SEGMENT, View, columns, number

_PRODUCT = (PRODUCT[0], "r.product", PRODUCT[1])
_METRIC = (METRIC[0], "r.metric", METRIC[1])
_WINDOW = (
    "time_window",
    "r.time_window",
    "24h, 7d, 28d, 90d, 365d or all; 5m and 1h where the metric has them",
)
_SEGMENT = (SEGMENT[0], "r.segment", SEGMENT[1])
_UNIT = ("unit", "m.unit", "the metric's unit")
_CI = (
    ("ci_low", number("r.ci_low"), "lower end of its 95 % interval; NULL: there is no formula"),
    ("ci_high", number("r.ci_high"), "upper end of its 95 % interval; NULL: there is no formula"),
)
_OF_METRIC = " JOIN metric_version m ON m.product = r.product AND m.metric = r.metric AND m.active"

METRIC_TRENDS = View(
    "metric_trends",
    "One row a series, window and day: the window's value at the end of that day, as known now. At most 400"
    " days, of the total, of segments that targets or bets name, and of the first groups.",
    columns(
        (PRODUCT[0], "s.product", PRODUCT[1]),
        (METRIC[0], "s.metric", METRIC[1]),
        ("time_window", "r.time_window", "24h, 7d, 28d, 90d, 365d or all"),
        (SEGMENT[0], "s.segment", SEGMENT[1]),
        ("at", "r.at", "the midnight (UTC) that ended the day"),
        ("value", number("r.value"), "NULL unless status is ok: unknown is never 0"),
        ("n", "r.n", "events counted in the value (of a ratio: of its denominator)"),
        ("status", "r.status", "suppressed, no_data or ok"),
    ),
    "FROM trend_day r JOIN series s ON s.series_id = r.series_id"
    " JOIN metric_version m ON m.product = s.product AND m.metric = s.metric AND m.version = s.version"
    f" WHERE m.active AND {OWN_SEGMENT}",
)

TARGET_PROGRESS = View(
    "target_progress",
    "One row a target: how far it is, and whether it will be reached.",
    columns(
        _PRODUCT,
        _METRIC,
        _WINDOW,
        _SEGMENT,
        ("baseline", number("r.baseline"), "the value at the start; NULL: progress is counted from 0"),
        ("baseline_at", "r.baseline_at", "the day of the start"),
        ("target", number("r.target"), "the value to reach"),
        ("due", "r.due", "by the end of this day (UTC)"),
        ("value", number("r.value"), "the value now; NULL: unknown"),
        ("expected_now", number("r.expected_now"), "the value expected by now, on the path to the target"),
        ("forecast", number("r.forecast"), "the value at the due day if the trend goes on"),
        ("forecast_low", number("r.forecast_low"), "lower end of its 95 % prediction interval"),
        ("forecast_high", number("r.forecast_high"), "upper end of its 95 % prediction interval"),
        ("trend_days", "r.trend_days", "days that the forecast stands on; 0: the line from the baseline"),
        (
            "progress",
            number("r.progress"),
            "(value - baseline) / (target - baseline): 1 is there, below 0 is backwards",
        ),
        ("status", "r.status", "met, on_track, at_risk, off_track or no_data: unknown now, or suppressed"),
        _UNIT,
    ),
    f"FROM target_state r{_OF_METRIC}",
)

EQUITY_GAPS = View(
    "equity_gaps",
    "One row a window and group of a metric's equity dimension: its gap to the reference group.",
    columns(
        _PRODUCT,
        _METRIC,
        _WINDOW,
        ("dimension", "r.dimension", "the dimension by which groups are compared"),
        ("reference_segment", "r.reference_segment", "the group that the others are compared with"),
        _SEGMENT,
        ("reference_value", number("r.reference_value"), "the reference group's value"),
        ("value", number("r.value"), "the group's value"),
        ("gap", number("r.gap"), "value - reference_value"),
        ("ratio", number("r.ratio"), "value / reference_value"),
        ("status", "r.status", "of both values: suppressed, no_data, stale or ok"),
        ("standing", "r.standing", "worse, alike or better, in the metric's direction; alike: within chance"),
        ("reference_n", "r.reference_n", "events counted in reference_value"),
        ("n", "r.n", "events counted in value"),
        ("ci_low", number("r.ci_low"), "lower end of the gap's 95 % interval; NULL: no formula"),
        ("ci_high", number("r.ci_high"), "upper end of the gap's 95 % interval; NULL: no formula"),
        _UNIT,
    ),
    f"FROM equity_gap r{_OF_METRIC}",
)

POPULATION_COVERAGE = View(
    "population_coverage",
    "One row a window and group of known size: the share of its people who are reached.",
    columns(
        _PRODUCT,
        _METRIC,
        _WINDOW,
        ("dimension", "r.dimension", "the dimension of the groups"),
        _SEGMENT,
        ("value", number("r.value"), "the group's value"),
        ("population", "r.population", "people in the group, from the catalog"),
        ("share", number("r.share"), "value / population"),
    ),
    "FROM population_share r",
)

COVERAGE = View(
    "coverage",
    "One row a metric and dimension: of how many events the group is known. Bias in the measurement itself.",
    columns(
        _PRODUCT,
        _METRIC,
        ("dimension", "r.dimension", "the dimension"),
        ("known", "r.known", "events whose group is known; NULL: suppressed"),
        ("unknown", 'r."unknown"', "events of the unknown group; NULL: suppressed"),
        ("share_unknown", number("r.share_unknown"), "unknown / (known + unknown)"),
    ),
    "FROM dimension_coverage r",
)

CONTRIBUTIONS = View(
    "contributions",
    "One row a window, segment and arm of an experiment: its difference to the control.",
    columns(
        _PRODUCT,
        _METRIC,
        _WINDOW,
        _SEGMENT,
        ("arm", "r.arm", "the arm"),
        ("control", "r.control", "the arm that it is compared with"),
        ("value", number("r.value"), "the arm's value"),
        ("control_value", number("r.control_value"), "the control's value"),
        ("difference", number("r.difference"), "value - control_value"),
        *_CI,
        ("n", "r.n", "events counted in the arm"),
        ("n_control", "r.n_control", "events counted in the control"),
        ("method", "r.method", "the interval's: Newcombe 95 % for rates, Welch 95 % for means"),
        ("status", "r.status", "of both values: suppressed, no_data, stale or ok"),
    ),
    "FROM arm_contribution r",
)

FEATURE_RESULTS = View(
    "feature_results",
    "One row a window and feature of a metric with the dimension `feature`: which feature did it, for the"
    " mission and for the business.",
    columns(
        _PRODUCT,
        ("feature", "r.feature", "the feature; (unknown): the events do not say"),
        _METRIC,
        ("role", "m.role", "impact, business or guardrail"),
        _WINDOW,
        ("value", number("r.value"), "what came through the feature"),
        ("n", "r.n", "events counted in value"),
        ("share", number("r.share"), "of what adds up: value / total; of people shares overlap"),
        ("change", number("r.change"), "relative change against the window of the same length before"),
        ("rest_value", number("r.rest_value"), "of rates and means: the total without the feature"),
        ("rest_n", "r.rest_n", "events counted in rest_value"),
        ("difference", number("r.difference"), "value - rest_value"),
        *_CI,
        ("method", "r.method", "the interval's; people choose features: weaker than an experiment"),
        ("status", "r.status", "of the feature and the total: suppressed, no_data, stale or ok"),
        _UNIT,
    ),
    f"FROM feature_result r{_OF_METRIC}",
)

NET_VALUES = View(
    "net_values",
    "One row a series and window of a metric with `net`: what of it is owed to the product.",
    columns(
        _PRODUCT,
        _METRIC,
        _WINDOW,
        _SEGMENT,
        ("gross", number("r.gross"), "the value"),
        (
            "net",
            number("r.net"),
            "gross x (1 - deadweight) x attribution x (1 - displacement) x (1 - drop_off) ^ full years",
        ),
        ("deadweight", number("r.deadweight"), "the share that would have happened anyway"),
        ("attribution", number("r.attribution"), "the share that is due to this product"),
        ("displacement", number("r.displacement"), "the share that only moved harm elsewhere"),
        ("drop_off", number("r.drop_off"), "the share that is lost each full year since the first baseline"),
        ("source", "r.source", "where the shares come from"),
    ),
    "FROM net_value r",
)

INTERVALS = View(
    "intervals",
    "One row a series and window of a rate or a mean: how sure it is.",
    columns(
        _PRODUCT,
        _METRIC,
        _WINDOW,
        _SEGMENT,
        ("value", number("r.value"), "the value"),
        ("ci_low", number("r.ci_low"), "lower end: Wilson's 95 % interval of a rate, Student's of a mean"),
        ("ci_high", number("r.ci_high"), "upper end of the same interval"),
        ("n", "r.n", "events counted in the value"),
        (
            "top_box_share",
            number("r.top_box_share"),
            "the share of scores in the top box of the metric's scale",
        ),
    ),
    "FROM value_interval r",
)

VALUE_PAIRS = View(
    "value_pairs",
    "One row an impact metric, a business metric and a window that both have: two kinds of value at once.",
    columns(
        _PRODUCT,
        ("impact_metric", "r.impact_metric", "the impact metric"),
        ("business_metric", "r.business_metric", "the business metric"),
        _WINDOW,
        ("impact_value", number("r.impact_value"), "the total of the impact metric"),
        ("business_value", number("r.business_value"), "the total of the business metric"),
        ("impact_per_business", number("r.impact_per_business"), "impact_value / business_value"),
        (
            "impact_change",
            number("r.impact_change"),
            "relative change against the window of the same length before; of all: against 28 days ago",
        ),
        ("business_change", number("r.business_change"), "the same of the business metric"),
        ("diverges", "r.diverges", "business changes for the better, impact for the worse"),
        ("both_up", "r.both_up", "both change for the better, each in its direction"),
    ),
    "FROM value_pair r",
)

# REPLACE finds the quoted name as it stands: LIKE would take its _ for any character
_ANSWER = (
    "(SELECT a.{column} FROM annotation a WHERE a.product = r.product AND a.kind = 'decision'"
    " AND a.at >= r.since AND REPLACE(a.metrics, '\"' || r.metric || '\"', '') <> a.metrics"
    " ORDER BY a.at, a.event_id LIMIT 1)"
)

# the window's value at the end of the last day before that decision, as the trends have it
_BEFORE_ANSWER = (
    "(SELECT " + number("t.value") + " FROM trend_day t JOIN series s ON s.series_id = t.series_id"  # noqa: S608 (constants alone)
    " JOIN metric_version m ON m.product = s.product AND m.metric = s.metric AND m.version = s.version"
    " WHERE m.active AND s.product = r.product AND s.metric = r.metric AND s.segment = r.segment"
    f" AND t.time_window = r.time_window AND t.at <= {_ANSWER.format(column='at')}"
    " ORDER BY t.at DESC LIMIT 1)"
)

VIOLATIONS = View(
    "violations",
    "One row a spell in which a rule was violated: early warnings, and those that are over.",
    columns(
        _PRODUCT,
        ("rule", "r.rule", "the rule's name"),
        ("kind", "r.kind", "guardrail, divergence, consistency or left_behind"),
        _METRIC,
        _SEGMENT,
        ("time_window", "r.time_window", "the window that is judged"),
        ("since", "r.since", "start (UTC) of the first day of the spell"),
        ("until", "r.until", "when it ended (UTC); NULL: it goes on"),
        ("observed", number("r.observed"), "the value; of a divergence the impact metric's relative change"),
        (
            "expected",
            number("r.expected"),
            "the bound, the whole, or the group's value before; of a divergence the business metric's change",
        ),
        ("severity", "r.severity", "critical, or warning where it may be chance or nobody has asked"),
        ("detail", "r.detail", "what is wrong, in words"),
        ("answered_by", _ANSWER.format(column="title"), "the first decision since that names the metric"),
        ("answered_at", _ANSWER.format(column="at"), "when that was decided (UTC)"),
        (
            "value_at_answer",
            _BEFORE_ANSWER,
            "the value at the end of the day before: compare it with value_now",
        ),
        (
            "value_now",
            "(SELECT " + number("v.value") + " FROM rolling_metrics v WHERE v.product = r.product"  # noqa: S608 (constants alone)
            " AND v.metric = r.metric AND v.segment = r.segment AND v.time_window = r.time_window)",
            "the value now",
        ),
    ),
    "FROM violation r",
)

METRIC_RECORDS = View(
    "metric_records",
    "One row a metric and window: the best total at the end of a day, over the days that metric_trends has.",
    columns(
        _PRODUCT,
        _METRIC,
        _WINDOW,
        ("best", number("r.best"), "the best value, in the metric's direction; only full windows"),
        ("best_at", "r.best_at", "start of that day (UTC)"),
    ),
    "FROM metric_record r",
)

BENCHMARKS = View(
    "benchmarks",
    "One row a benchmark of a metric: what others reach, or the usual way, beside the total.",
    columns(
        _PRODUCT,
        _METRIC,
        ("label", "r.label", "what it is"),
        ("benchmark", number("r.benchmark"), "its value"),
        ("unit", "r.unit", "its unit"),
        ("source", "r.source", "where it comes from"),
        ("year", "r.year", "the year that it is of"),
        (
            "time_window",
            "r.time_window",
            "its window: of what grows a year or all, else the main one",
        ),
        ("value", number("r.value"), "the metric's total"),
        ("ratio", number("r.ratio"), "value / benchmark"),
    ),
    "FROM benchmark r",
)

NEEDS = View(
    "needs",
    "One row a need that the catalog states.",
    columns(
        _PRODUCT,
        ("need", "r.need", "its name"),
        ("statement", "r.statement", "what people lack"),
        ("people", "r.people", "how many have this need"),
        ("source", "r.source", "how that is known"),
    ),
    "FROM need r",
)

BETS = View(
    "bets",
    "One row a bet that the catalog states: what is built for a need, and why it should help.",
    columns(
        _PRODUCT,
        ("bet", "r.bet", "its name"),
        ("title", "COALESCE(r.title, r.bet)", "the name that people read"),
        ("need", "r.need", "the need that it is for"),
        ("hypothesis", "r.hypothesis", "why it should help"),
        ("feature", "r.feature", "the feature, as events name it"),
        ("launched", "r.launched", "the day of the launch; NULL: not yet"),
        ("cost", number("r.cost"), "what it cost"),
        ("cost_unit", "r.cost_unit", "ISO 4217"),
        ("business_metric", "r.business_metric", "the business metric that it may move too"),
    ),
    "FROM bet r",
)

BET_RESULTS = View(
    "bet_results",
    "One row an expectation of a bet: what was expected, what was measured, and what that says.",
    columns(
        _PRODUCT,
        ("bet", "r.bet", "the bet"),
        ("need", "r.need", "the need that it is for"),
        _METRIC,
        _SEGMENT,
        ("by", "r.by", "the day by which it shall have changed"),
        ("expected", number("r.expected"), "the expected change, in the metric's unit"),
        ("measured", number("r.measured"), "the measured change; NULL: not yet"),
        *_CI,
        ("method", "r.method", "how it is measured"),
        ("evidence", "r.evidence", "compared (with a control), or the weaker before/after"),
        ("business_metric", "r.business_metric", "the business metric that it may move too"),
        ("business_change", number("r.business_change"), "its relative change, before and after the launch"),
        (
            "quadrant",
            "r.quadrant",
            "what changed for the better: both, impact_only, business_only or neither",
        ),
        ("status", "r.status", "too_early, holding, proven or failed"),
    ),
    "FROM bet_result r",
)

RISKS = View(
    "risks",
    "One row a risk that the catalog states: a harm that the product could do, and when it is reviewed.",
    columns(
        _PRODUCT,
        ("risk", "r.risk", "its name"),
        ("statement", "r.statement", "what could go wrong"),
        ("who", "r.who", "who would be harmed"),
        ("metric", "r.metric", "the guardrail that would show it; NULL: none"),
        ("review_every_days", "r.review_every_days", "how often it is to be reviewed"),
        ("reviewed", "r.reviewed", "the day of the last review; NULL: never"),
        (
            "due",
            "r.reviewed + r.review_every_days",
            "the day of the next review",
            "date(r.reviewed, '+' || r.review_every_days || ' days')",
        ),
        (
            "overdue",
            "r.review_every_days IS NOT NULL AND (r.reviewed IS NULL"
            " OR r.reviewed + r.review_every_days < CAST(w.as_of AT TIME ZONE 'UTC' AS DATE))",
            "whether that day is over; NULL: nobody knows what day it is yet",
            "r.review_every_days IS NOT NULL AND (r.reviewed IS NULL"
            " OR date(r.reviewed, '+' || r.review_every_days || ' days') < date(w.as_of))",
        ),
        ("owner", "r.owner", "who answers for it"),
    ),
    "FROM risk r LEFT JOIN window_position w ON w.time_window = 'all'",
)

STAKEHOLDERS = View(
    "stakeholders",
    "One row a stakeholder that the catalog names, and what concerns them.",
    columns(
        _PRODUCT,
        ("stakeholder", "r.stakeholder", "the name"),
        ("title", "COALESCE(r.title, r.stakeholder)", "the name that people read"),
        ("audience", "r.audience", "public, funder, board or partner"),
        ("metrics", "r.metrics", "the metrics that concern them, a JSON array; []: all that they may see"),
        ("period", "r.period", "how often they are told: month, quarter or year"),
    ),
    "FROM stakeholder r",
)

FACTOR_VALUES = View(
    "factor_values",
    "One row a factor and edition: emission factors, conversions, exchange rates.",
    columns(
        _PRODUCT,
        ("factor", "r.factor", "the factor set"),
        ("version", "r.version", "the edition"),
        ("valid_from", "r.valid_from", "the first day (UTC) that it holds for, until the next edition's"),
        ("key", "NULLIF(r.key, '')", "the key; NULL: the set has one value"),
        ("value", number("r.value"), "the factor"),
        ("unit", "r.unit", "its unit"),
        ("source", "r.source", "where it comes from"),
    ),
    "FROM factor_value r",
)

ANNOTATIONS = View(
    "annotations",
    "One row an event of type impact.annotation.v1: launches, decisions and incidents on the time line.",
    columns(
        _PRODUCT,
        ("at", "r.at", "when it was (UTC)"),
        ("kind", "r.kind", "launch, decision, incident, method or external"),
        ("title", "r.title", "what it was"),
        ("url", "r.url", "where more is to be read"),
        ("metrics", "r.metrics", "the metrics that it concerns, a JSON array"),
        ("bet", "r.bet", "the bet that it belongs to"),
        ("event_id", "r.event_id", "the event's id"),
    ),
    "FROM annotation r",
)

METRIC_PEERS = View(
    "metric_peers",
    "One row a product and window of a metric that several products share, by name, unit and direction.",
    columns(
        (PRODUCT[0], "r.product", PRODUCT[1]),
        (METRIC[0], "r.metric", METRIC[1]),
        ("time_window", "r.time_window", "the window"),
        ("value", "r.value", "the product's total"),
        ("unit", "r.unit", "unit of value"),
        (
            "place",
            "RANK() OVER (PARTITION BY r.metric, r.unit, m.direction, r.time_window"
            " ORDER BY CASE m.direction WHEN 'up' THEN -r.value ELSE r.value END)",
            "1 is the best; of products of unlike size compare rates and means only",
        ),
        (
            "products",
            "COUNT(*) OVER (PARTITION BY r.metric, r.unit, m.direction, r.time_window)",
            "how many products have a value",
        ),
    ),
    "FROM rolling_metrics r JOIN metrics m ON m.product = r.product AND m.metric = r.metric"
    " WHERE r.segment = '{}' AND r.value IS NOT NULL AND EXISTS (SELECT 1 FROM metrics o"
    " WHERE o.metric = m.metric AND o.unit = m.unit AND o.direction = m.direction"
    " AND o.product <> m.product)",
)

_OF_GOALS = (
    "FROM metrics m {each} LEFT JOIN rolling_metrics r"
    " ON r.product = m.product AND r.metric = m.metric AND r.segment = '{{}}'"
)

PORTFOLIO_SDG = View(
    "portfolio_sdg",
    "One row an SDG code, metric that names it, and window. Never add values of products: people may be in"
    " several.",
    columns(
        (PRODUCT[0], "m.product", PRODUCT[1]),
        (METRIC[0], "m.metric", METRIC[1]),
        ("sdg", "e.value", "the target or indicator of the Sustainable Development Goals, such as 3.8.1"),
        ("title", "m.title", "the metric's title"),
        ("time_window", "r.time_window", "the window; NULL: nothing is counted yet"),
        ("value", "r.value", "the product's total in that window; stands for itself, adds to no other"),
        ("unit", "m.unit", "unit of value"),
        ("status", "COALESCE(r.status, 'no_data')", "suppressed, no_data, stale or ok"),
    ),
    _OF_GOALS.format(each="CROSS JOIN jsonb_array_elements_text(CAST(m.sdg AS jsonb)) AS e(value)"),
    _OF_GOALS.format(each="JOIN json_each(m.sdg) AS e"),
)

PORTFOLIO_NEEDS = View(
    "portfolio_needs",
    "One row a need of a product and bet that is made for it. Never add people of needs: they may be the"
    " same.",
    columns(
        ("need", "n.need", "the need's name"),
        ("statement", "n.statement", "what people lack"),
        (PRODUCT[0], "n.product", PRODUCT[1]),
        ("bet", "b.bet", "the bet; NULL: none is made for it"),
        (
            "status",
            "(SELECT CASE MIN(CASE r.status WHEN 'failed' THEN 1 WHEN 'too_early' THEN 2"
            " WHEN 'holding' THEN 3 ELSE 4 END) WHEN 1 THEN 'failed' WHEN 2 THEN 'too_early'"
            " WHEN 3 THEN 'holding' WHEN 4 THEN 'proven' END"
            " FROM bet_result r WHERE r.product = b.product AND r.bet = b.bet)",
            "of its expectations the worst: failed, too_early, holding or proven",
        ),
    ),
    "FROM need n LEFT JOIN bet b ON b.product = n.product AND b.need = n.need",
)

MISSION_VIEWS = (
    METRIC_TRENDS,
    TARGET_PROGRESS,
    EQUITY_GAPS,
    POPULATION_COVERAGE,
    COVERAGE,
    CONTRIBUTIONS,
    FEATURE_RESULTS,
    NET_VALUES,
    INTERVALS,
    VALUE_PAIRS,
    VIOLATIONS,
    METRIC_RECORDS,
    BENCHMARKS,
    METRIC_PEERS,
    PORTFOLIO_SDG,
    PORTFOLIO_NEEDS,
    NEEDS,
    BETS,
    BET_RESULTS,
    RISKS,
    STAKEHOLDERS,
    FACTOR_VALUES,
    ANNOTATIONS,
)
