"""The lists of packages in pyproject.toml name every package of ours: a new one is not forgotten in any."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tests.rig.servers import REPOSITORY

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
