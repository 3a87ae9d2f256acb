"""A mapping in a file of its own: what `impact send --csv` reads with --map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from impact_cli.terminal import WrongUse
from impact_schemas.catalog.row_mapping import FileMapping, mapping_faults

if TYPE_CHECKING:
    from pathlib import Path


def read_mapping(file: Path) -> FileMapping:
    """The mapping. Raises WrongUse with everything that is wrong with it."""
    try:
        document = YAML(typ="safe", pure=True).load(file.read_text("utf-8"))
        mapping = FileMapping.model_validate(document)
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise WrongUse(f"cannot read the mapping {file}: {error}") from error
    except ValidationError as error:
        faults = [
            f"{file}: {'.'.join(map(str, fault['loc'])) or 'the mapping'}: {fault['msg']}"
            for fault in error.errors(include_url=False)
        ]
        raise WrongUse("\n".join(faults)) from error
    if faults := [f"{file}: {'.'.join(map(str, one.path))}: {one.reason}" for one in mapping_faults(mapping)]:
        raise WrongUse("\n".join(faults))
    return mapping
