"""The examples that `impact demo` plays: their catalogs and their events, as of a day."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from impact_cli import catalogs
from impact_cli.terminal import WrongUse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from types import ModuleType

ALL = "all"
OF_A_CATALOG = ("*.yaml", "*.csv")  # itself, and the tables that it refers to


@dataclass(frozen=True)
class Example:
    """One product; `count` is the number of its events, `files` are its catalog's, text by name."""

    product: str
    statement: str
    north_star: str | None
    title: str
    count: int
    events: Callable[[], Iterator[dict[str, Any]]]
    files: dict[str, str]


def load(name: str, now: datetime) -> list[Example]:
    """The example `name`, or every story where it is "all". Raises WrongUse with the examples that there are.

    An example is a folder of examples/ with its catalog, there or in `catalog`, and a module of its name with
    TITLE, COUNT and events(now). That of a story has `moved` too: the story is told as of today, and so that
    they go with it, the days in its catalog are moved.
    """
    there = {
        code.parent.name: code
        for root in _roots()
        for code in root.glob("examples/*/*.py")
        if _is_example(code)
    }
    if name != ALL and name not in there:
        raise WrongUse(f"no example {name!r}: there are {', '.join([*sorted(there), ALL])}")
    modules = {one: _import(code) for one, code in sorted(there.items()) if name in (one, ALL)}
    return [
        _example(module, there[one].parent, now)
        for one, module in modules.items()
        if name != ALL or hasattr(module, "moved")
    ]


def write_catalogs(examples: list[Example], folder: Path) -> None:
    """The catalogs of all of them in one folder, as `impact up` takes them."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for example in examples:
        for file, text in example.files.items():
            name = f"{example.product}.yaml" if file.endswith(".yaml") else file
            (folder / name).write_text(text, "utf-8")


def _roots() -> list[Path]:
    """The folders that have examples/: the one that is worked in, and the checkout."""
    return [Path.cwd(), Path(__file__).resolve().parents[3]]


def _is_example(code: Path) -> bool:
    return code.stem == code.parent.name


def _import(code: Path) -> ModuleType:
    sys.path += [str(root) for root in _roots() if str(root) not in sys.path]  # of the module examples.story
    spec = importlib.util.spec_from_file_location(f"impact_example_{code.stem}", code)
    if spec is None or spec.loader is None:
        raise WrongUse(f"{code} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _example(module: ModuleType, folder: Path, now: datetime) -> Example:
    catalog = folder / "catalog" if (folder / "catalog").is_dir() else folder
    [known] = catalogs.load(catalog).values()
    move = getattr(module, "moved", lambda text, _: text)
    files = {
        file.name: move(file.read_text("utf-8"), now.date())
        for pattern in OF_A_CATALOG
        for file in catalog.glob(pattern)
    }
    mission = known.mission
    return Example(
        product=known.product,
        statement=mission.statement if mission else known.title,
        north_star=mission.north_star if mission else None,
        title=module.TITLE,
        count=module.COUNT,
        events=lambda: module.events(now),
        files=files,
    )
