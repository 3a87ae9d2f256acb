"""What pyproject.toml and requirements/ list is what the code has and needs: nothing is forgotten."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.utils import canonicalize_name

from tests.rig.servers import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
TOOLS = PROJECT["tool"]
PACKAGES = sorted(
    str(path.parent.relative_to(REPOSITORY))
    for part in ("libs", "services")
    for path in (REPOSITORY / part).glob("*/*/__init__.py")
)


def test_every_package_is_shipped_typed_checked_and_under_the_import_rules() -> None:
    folders = sorted(str(Path(package).parent) for package in PACKAGES)
    names = sorted(Path(package).name for package in PACKAGES)
    assert sorted(TOOLS["hatch"]["build"]["targets"]["wheel"]["packages"]) == PACKAGES
    assert sorted(TOOLS["hatch"]["build"]["dev-mode-dirs"]) == folders
    assert sorted(TOOLS["mypy"]["mypy_path"]) == folders
    assert sorted(TOOLS["importlinter"]["root_packages"]) == names
    layers = TOOLS["importlinter"]["contracts"][0]["layers"]
    assert sorted(name.strip() for layer in layers for name in layer.split("|")) == names
    assert [package for package in PACKAGES if not (REPOSITORY / package / "py.typed").exists()] == []


def test_the_licence_is_the_one_that_the_project_states() -> None:
    assert PROJECT["project"]["license"] == "Apache-2.0"
    text = (REPOSITORY / "LICENSE").read_text("utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text


# what runs elsewhere than in an image: clients (`impact send`, `impact demo`), and `impact privacy audit`,
# whose solver is larger than all the rest; it says how to get it
NOT_IN_IMAGES = {"httpx", "scipy"}


@pytest.mark.parametrize("service", ["ingest", "aggregator", "reports"])
def test_an_image_installs_everything_that_its_code_imports(service: str) -> None:
    listed = (REPOSITORY / "requirements" / f"{service}.txt").read_text("utf-8")
    installed = {canonicalize_name(name) for name in re.findall(r"^([\w.-]+)==", listed, re.MULTILINE)}
    folders = ("libs", "services/cli", f"services/{service}")
    files = [file for folder in folders for file in (REPOSITORY / folder).rglob("*.py")]
    imported = {name for file in files for name in imports(ast.parse(file.read_text("utf-8")))}
    known = packages_distributions()
    foreign = {name for name in imported - sys.stdlib_module_names if not name.startswith("impact_")}
    wanted = {canonicalize_name(known[name][0]) for name in foreign - NOT_IN_IMAGES}
    assert len(wanted) > 5
    assert wanted - installed == set()


def imports(tree: ast.AST) -> Iterator[str]:
    """The top-level names of all modules that the code needs when it runs."""
    if isinstance(tree, ast.If) and isinstance(tree.test, ast.Name) and tree.test.id == "TYPE_CHECKING":
        return
    if isinstance(tree, ast.Import):
        yield from (alias.name.split(".")[0] for alias in tree.names)
    if isinstance(tree, ast.ImportFrom) and tree.module:
        yield tree.module.split(".")[0]
    for child in ast.iter_child_nodes(tree):
        yield from imports(child)
