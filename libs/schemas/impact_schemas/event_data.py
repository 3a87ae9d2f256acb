"""What stands at a path of an event's data, and whether it meets the conditions of a metric. Pure."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from impact_schemas.catalog import OneOf

if TYPE_CHECKING:
    from collections.abc import Callable

    from impact_schemas.catalog import Compare, Metric

ABSENT = object()


@lru_cache(maxsize=1 << 12)  # those who read the same can tell by it
def reader(path: str) -> Callable[[Any], Any]:
    """A function from an event's data to the value at `data.<path>`, ABSENT if there is none."""
    keys = path.split(".")[1:]
    if len(keys) == 1:
        key = keys[0]
        return lambda data: data.get(key, ABSENT) if type(data) is dict else ABSENT

    def read(data: Any) -> Any:
        for key in keys:
            if type(data) is not dict:
                return ABSENT
            data = data.get(key, ABSENT)
        return data

    return read


def exact_reader(path: str) -> Callable[[Any], Any]:
    """The same for data that may hold floats: as the decimals that their texts are."""
    read = reader(path)

    def read_exact(data: Any) -> Any:
        value = read(data)
        return Decimal(repr(value)) if type(value) is float else value

    return read_exact


def is_scalar(value: Any) -> bool:
    """Whether it can be compared and shown: null, text, a number, true or false."""
    return value is None or isinstance(value, (str, bool, int, Decimal))


def is_number(value: Any) -> bool:
    """Whether it can be computed with; true is not 1."""
    return isinstance(value, (int, Decimal)) and not isinstance(value, bool)


def conditions_of(
    metric: Metric, read_at: Callable[[str], Callable[[Any], Any]] = reader
) -> tuple[Callable[[Any], bool], ...]:
    """What an event's data must all fulfil to belong to the metric: its conditions, and its consent."""
    tests = [_test_of(read_at(path), condition) for path, condition in metric.where.items()]
    if metric.consent is not None:
        consented = read_at(metric.consent)
        tests.append(lambda data: consented(data) is True)
    return tuple(tests)


def _test_of(read: Callable[[Any], Any], condition: OneOf | Compare) -> Callable[[Any], bool]:
    if isinstance(condition, OneOf):
        wanted = frozenset(_typed(value) for value in condition.values)
        return lambda data: is_scalar(value := read(data)) and _typed(value) in wanted
    return lambda data: (value := read(data)) is not ABSENT and _compares(condition, value)


def _typed(value: Any) -> tuple[bool, Any]:
    return isinstance(value, bool), value  # True is not 1


def _compares(condition: Compare, value: Any) -> bool:
    if condition.ne and (not is_scalar(value) or _typed(value) in {_typed(other) for other in condition.ne}):
        return False
    bounds = (condition.gt, condition.gte, condition.lt, condition.lte)
    if all(bound is None for bound in bounds):
        return True
    return is_number(value) and (
        (condition.gt is None or value > condition.gt)
        and (condition.gte is None or value >= condition.gte)
        and (condition.lt is None or value < condition.lt)
        and (condition.lte is None or value <= condition.lte)
    )
