"""What a metric's definition says, in one line and as the catalog has it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def rule(definition: Mapping[str, Any]) -> str:
    """What turns events into the number, in one line."""
    ratio = definition.get("ratio")
    if ratio:
        return f"{ratio['numerator']} divided by {ratio['denominator']}, each added up first"
    if definition.get("aggregate"):
        of = f" of {definition['of']}" if definition.get("of") else ""
        conditions = " and ".join(
            _condition(path, one) for path, one in (definition.get("where") or {}).items()
        )
        where = f", where {conditions}" if conditions else ""
        return f"{definition['aggregate']}{of} over {', '.join(definition['event'])}{where}"
    if definition.get("sum_of"):
        return f"{' + '.join(definition['sum_of'])}"
    if definition.get("difference"):
        return f"{definition['difference']['of']} less {definition['difference']['minus']}"
    return "worked out from other metrics, see its definition"


_COMPARED = {"gt": ">", "gte": "≥", "lt": "<", "lte": "≤", "ne": "is not"}


def _condition(path: str, one: Mapping[str, Any]) -> str:
    if one.get("values"):
        return f"{path} is {' or '.join(_scalar(value) for value in one['values'])}"
    bounds = {name: one[name] for name in _COMPARED if one.get(name) not in (None, [])}
    return " and ".join(f"{path} {_COMPARED[name]} {_scalar(bound)}" for name, bound in bounds.items())


def _scalar(value: object) -> str:
    if isinstance(value, list):
        return " or ".join(map(_scalar, value))
    return value if isinstance(value, str) else json.dumps(value)


def definition_text(metric: Mapping[str, Any]) -> str:
    """What the catalog says of the metric, as JSON, without what it leaves at nothing."""
    return json.dumps(
        _written(json.loads(metric["definition"])), indent=2, ensure_ascii=False, sort_keys=True
    )


def _written(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: _written(one) for name, one in value.items()}
        return {name: one for name, one in kept.items() if one not in (None, {}, [], "")}
    return [_written(one) for one in value] if isinstance(value, list) else value
