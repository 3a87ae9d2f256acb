"""The layer under a process (shim.c), compiled when it is first needed, and what it wrote down."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOURCE = Path(__file__).with_name("shim.c")
_SECTOR = 512  # what a disk writes whole or not at all


class CompilerMissingError(Exception):
    """The machine has no C compiler; the message says how to get one."""


class Step(NamedTuple):
    """One thing that a process did to a file below the folder."""

    what: str  # W write, T truncate, S sync, D delete, R rename
    path: str
    offset: int  # of a write; the length of a truncation
    body: bytes
    new_path: str
    end: int  # of the step in the journal: what is beyond it has not happened yet


def compiled() -> Path:
    """The shared object, readable for every user."""
    version = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:12]
    library = Path(tempfile.gettempdir()) / f"impact-shim-{version}.so"
    if library.exists():
        return library
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CompilerMissingError("a C compiler is needed: apt-get install gcc libc6-dev")
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / library.name
        command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(made), str(_SOURCE), "-ldl"]
        subprocess.run(command, check=True)
        made.chmod(0o755)
        made.replace(library)
    return library


def environment(
    folder: Path, *, journal: Path | None = None, full: Path | None = None, clock: Path | None = None
) -> dict[str, str]:
    """What a process must find in its environment."""
    paths = {"SHIM_FOLDER": folder, "SHIM_JOURNAL": journal, "SHIM_FULL": full, "SHIM_CLOCK": clock}
    given = {name: str(path.absolute()) for name, path in paths.items() if path is not None}
    return {"LD_PRELOAD": str(compiled()), **given}


def read_journal(journal: Path) -> Iterator[Step]:
    """All whole steps, in order."""
    with journal.open("rb") as stream:
        while line := stream.readline():
            if not line.endswith(b"\n"):
                return  # torn by the kill
            what, path, *rest = line.decode().split()
            offset, body, new_path = 0, b"", ""
            if what == "W":
                offset, length = map(int, rest)
                body = stream.read(length)
                if len(body) < length:
                    return
            elif what == "T":
                offset = int(rest[0])
            elif what == "R":
                new_path = rest[0]
            yield Step(what, path, offset, body, new_path, stream.tell())


def parts_of(step: Step) -> Iterator[Step]:
    """A write in the pieces that a power cut may tear it into."""
    position = 0
    while position < len(step.body):
        length = _SECTOR - (step.offset + position) % _SECTOR
        yield step._replace(offset=step.offset + position, body=step.body[position : position + length])
        position += length
