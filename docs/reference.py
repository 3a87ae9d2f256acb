"""Writes the parts of the documents that come from the code: `python -m docs.reference`.

Such a part stands between `<!-- generated: NAME -->` and `<!-- end -->`; a test finds one that is behind.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from impact_schemas.views import VIEWS, View

REPOSITORY = Path(__file__).resolve().parent.parent
FILES = ("ARCHITECTURE.md", "docs/analysts.md")

_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_PACKAGES = (  # in the order of the layers, with what each is for
    (
        "libs/schemas/impact_schemas",
        "the contracts: catalog, identity, numbers, wire, tables, views; pure",
    ),
    ("libs/eventlog/impact_eventlog", "the event log: two ports, two adapters"),
    ("libs/database/impact_database", "the metrics database: connections, migrations, keys"),
    ("services/ingest/impact_ingest", "the door"),
    ("services/aggregator/impact_aggregator", "counting"),
    ("services/reports/impact_reports", "what people read: pages, the query API, editions; partners' files"),
    ("services/cli/impact_cli", "the command `impact`: the only place that puts services together"),
)


def view_tables() -> str:
    """A heading, a sentence and a table of the columns for each view."""
    return "\n".join(_view(view) for view in VIEWS)


def _view(view: View) -> str:
    rows = "".join(f"| `{column.name}` | {_cell(column.comment)} |\n" for column in view.columns)
    return f"### {view.name}\n\n{view.comment}\n\n| column | means |\n| --- | --- |\n{rows}"


def module_tables() -> str:
    """A table of each package's modules, with the first sentence of their docstrings."""
    return "\n".join(_package(REPOSITORY / folder, folder, purpose) for folder, purpose in _PACKAGES)


def _package(folder: Path, name: str, purpose: str) -> str:
    rows = "".join(
        f"| `{module}` | {_cell(sentence)} |\n"
        for path in sorted(folder.rglob("*.py"))
        if (module := _module(path.relative_to(folder))) and (sentence := _first_sentence(path))
    )
    return f"**{name}**: {purpose}.\n\n| module | does |\n| --- | --- |\n{rows}"


def _module(path: Path) -> str:
    """Nothing for the package itself, and for migrations, which are named by what they change."""
    if "versions" in path.parts:
        return ""
    return path.with_suffix("").as_posix().removesuffix("__init__").rstrip("/")


def _first_sentence(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z])", paragraph, maxsplit=1)[0].rstrip(".:")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def filled(document: str) -> str:
    """The document with its generated parts as they should be."""
    parts = {"views": view_tables, "modules": module_tables}
    return _PART.sub(lambda match: f"{match[1]}{parts[match[2]]()}{match[3]}", document)


if __name__ == "__main__":
    for name in FILES:
        file = REPOSITORY / name
        file.write_text(filled(file.read_text("utf-8")), "utf-8")
