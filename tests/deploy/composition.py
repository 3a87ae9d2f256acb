"""docker-compose.yml as Docker Compose reads it: YAML with merges, and ${VARIABLE} filled in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from tests.rig.servers import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Mapping

COMPOSE_FILE = REPOSITORY / "docker-compose.yml"
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<kind>:-|:\?)(?P<rest>[^}]*))?\}")


def compose(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The parsed file. Without `variables`, required ones are filled with their own name."""
    text = COMPOSE_FILE.read_text("utf-8")
    loaded: dict[str, Any] = YAML(typ="safe").load(
        _VARIABLE.sub(lambda found: _value(found, variables), text)
    )
    return loaded


def required_variables() -> set[str]:
    """The variables without which Docker Compose refuses to start."""
    found = _VARIABLE.finditer(COMPOSE_FILE.read_text("utf-8"))
    return {each["name"] for each in found if each["kind"] == ":?"}


def _value(found: re.Match[str], variables: Mapping[str, str] | None) -> str:
    name, kind, rest = found["name"], found["kind"], found["rest"]
    if variables is not None and name in variables:
        return variables[name]
    if kind == ":-":
        return str(rest)
    if variables is None:
        return str(name)
    raise KeyError(f"{COMPOSE_FILE.name} needs {name}")
