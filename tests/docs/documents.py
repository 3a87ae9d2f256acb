"""Reads the documents: their blocks, tables and links.

What a block is, is said by the word after its fence:

- `sh` is run, in the order of the document, in one folder and with what earlier blocks exported. A block that
  is `impact up ...` alone starts the service. A comment before the block can say `<!-- exit code 1 -->`,
  or `<!-- run by FILE -->` for what a file that is run elsewhere does, or `<!-- not run: REASON -->`.
- `text` after a block that is run: lines that it prints, blanks aside; `...` stands for any lines.
- `yaml` that begins with `# path` is a file of that folder.
- `sql` is run on SQLite and on PostgreSQL; `sql sqlite` and `sql postgresql` on one of them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.rig.servers import REPOSITORY

DOCUMENTS = (
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "docs/analysts.md",
    "docs/backends.md",
    "docs/ops.md",
    "docs/product-managers.md",
    "docs/reports.md",
)
# the same and the others, whose blocks are tested where they belong
ALL_DOCUMENTS = tuple(
    str(path.relative_to(REPOSITORY))
    for folder in ("", "benchmarks", "deploy", "docs", "examples/*")
    for path in sorted(REPOSITORY.glob(f"{folder}/*.md".lstrip("/")))
)

_BLOCK = re.compile(
    r"(?:^<!-- (?P<note>.+?) -->\n)?^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """One fenced block."""

    line: int  # where its text begins, from 1
    kind: str
    text: str
    note: str  # of the comment before it


def read(document: str) -> str:
    return (REPOSITORY / document).read_text("utf-8")


def blocks(text: str) -> list[Block]:
    return [
        Block(
            line=text.count("\n", 0, match.start("text")) + 1,
            kind=match["kind"].strip(),
            text=match["text"],
            note=match["note"] or "",
        )
        for match in _BLOCK.finditer(text)
    ]


def table(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table under the heading, without its head."""
    _, found, rest = text.partition(f"\n{heading}\n")
    assert found, f"no heading {heading!r}"
    lines = [line for line in rest.partition("\n#")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def prose(text: str) -> str:
    """The document without its blocks."""
    return _BLOCK.sub("", text)
