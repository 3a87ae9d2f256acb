"""Recomputes the numbers from the event log, apart from the aggregator's own code path, and compares.

    definitions, values   what a metric is, and what a value of an event is
    flatten               records of the log as columns
    metric_sql            a definition as SQL
    recount               events, verdicts and expected numbers in DuckDB
    published             one snapshot of what the service says
    comparison            the two beside each other
    run                   the steps in their order
    explanation           one number: what it is made of, and what was left out

Only here is DuckDB known. The fold, its partial aggregates, sketches and rolling values are not imported.
"""

from impact_aggregator.verify.comparison import Compared, Difference
from impact_aggregator.verify.explanation import Explanation, Facts, explain
from impact_aggregator.verify.run import Log, LogBeginsLate, Report, Scope, TooLittleMemory, verify

__all__ = [
    "Compared",
    "Difference",
    "Explanation",
    "Facts",
    "Log",
    "LogBeginsLate",
    "Report",
    "Scope",
    "TooLittleMemory",
    "explain",
    "verify",
]
