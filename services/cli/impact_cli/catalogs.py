"""Reads the catalog files of a folder, and takes up their changes while a process runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from impact_schemas.catalog import Catalog, CatalogFaults, beside, files_beside, parse_catalogs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

LOOK_EVERY_S = 2.0  # a change is taken up within 10 s

log = structlog.get_logger(__name__)


class NoCatalog(Exception):
    """There is no catalog file where one was looked for."""


def read_texts(path: Path) -> dict[str, str]:
    """The text of every catalog file by its name: `path` is a file, or a folder of *.yaml and *.yml.

    With them come the CSV files beside them that they refer to. Raises NoCatalog.
    """
    try:
        texts = {str(file): file.read_text("utf-8") for file in _files(path)}
        tables = {beside(file, name) for file, text in texts.items() for name in files_beside(text)}
        # one that is not there is a fault of the catalog, which knows the place that names it
        there = [Path(table) for table in sorted(tables) if Path(table).is_file()]
        return texts | {str(table): table.read_text("utf-8") for table in there}
    except (OSError, UnicodeDecodeError) as error:
        raise NoCatalog(f"cannot read the catalog {path}: {error}") from error


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise NoCatalog(f"there is no catalog at {path}: give a folder of YAML files, or one file")
    files = sorted(
        file
        for file in path.iterdir()
        if file.suffix in {".yaml", ".yml"} and not file.name.startswith(".") and file.is_file()
    )
    if not files:
        raise NoCatalog(f"the folder {path} has no .yaml file: a catalog is one YAML file a product")
    return files


def load(path: Path) -> dict[str, Catalog]:
    """Every catalog by its product. Raises NoCatalog, or CatalogFaults with every fault of every file."""
    return parse_catalogs(read_texts(path))


def write_new(file: Path, text: str) -> None:
    """Writes a catalog file that is not there yet, and its folder. Raises NoCatalog."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise NoCatalog(f"cannot write {file}: {error.strerror}") from error


async def watch(
    path: Path, use: Callable[[Mapping[str, Catalog]], Awaitable[None]], every_s: float = LOOK_EVERY_S
) -> None:
    """Calls `use` whenever the files have changed and have no fault; runs until cancelled.

    With a fault, or without any file, the old catalogs stay in use and the log says why, once a change.
    """
    known = await asyncio.to_thread(_texts_or_reason, path)
    while True:
        await asyncio.sleep(every_s)
        found = await asyncio.to_thread(_texts_or_reason, path)
        if found == known:
            continue
        known = found
        try:
            if isinstance(found, str):
                raise NoCatalog(found)  # noqa: TRY301 (both kinds of refusal are told in one place)
            catalogs = await asyncio.to_thread(parse_catalogs, found)
        except (NoCatalog, CatalogFaults) as error:
            log.warning("catalog_refused", path=str(path), kept="the catalog from before", reason=str(error))
        else:
            await use(catalogs)
            log.info("catalog_changed", path=str(path), products=sorted(catalogs))


def _texts_or_reason(path: Path) -> dict[str, str] | str:
    try:
        return read_texts(path)
    except NoCatalog as error:
        return str(error)
