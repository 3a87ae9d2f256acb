"""Catalog files: found, read, and taken up again when they change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from impact_cli import catalogs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from impact_schemas.catalog import Catalog

CATALOG = """\
apiVersion: impact/v1
product: {product}
title: {title}
sources: ["/{product}"]
events:
  {product}.visit.v1: {{}}
metrics:
  visits: {{title: Visits, event: {product}.visit.v1, aggregate: count, role: impact}}
"""


def write(folder: Path, product: str, title: str = "A product") -> None:
    (folder / f"{product}.yaml").write_text(CATALOG.format(product=product, title=title))


def test_every_yaml_file_of_a_folder_is_a_product(tmp_path: Path) -> None:
    write(tmp_path, "clinic")
    write(tmp_path, "school")
    (tmp_path / "README.md").write_text("no catalog")
    (tmp_path / ".clinic.yaml.swp").write_text("an editor's")
    assert sorted(catalogs.load(tmp_path)) == ["clinic", "school"]
    assert sorted(catalogs.load(tmp_path / "clinic.yaml")) == ["clinic"]


def test_no_folder_and_an_empty_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(catalogs.NoCatalog, match="there is no catalog at"):
        catalogs.load(tmp_path / "none")
    with pytest.raises(catalogs.NoCatalog, match=r"has no \.yaml file"):
        catalogs.load(tmp_path)


async def test_a_change_is_taken_up_and_a_faulty_one_leaves_the_old_in_use(tmp_path: Path) -> None:
    used: asyncio.Queue[Mapping[str, Catalog]] = asyncio.Queue()
    write(tmp_path, "clinic", "first")
    watching = asyncio.create_task(catalogs.watch(tmp_path, used.put, every_s=0.02))
    await asyncio.sleep(0.1)
    assert used.empty()

    (tmp_path / "clinic.yaml").write_text("product: [")
    await asyncio.sleep(0.1)
    (tmp_path / "clinic.yaml").unlink()
    await asyncio.sleep(0.1)
    assert used.empty()

    write(tmp_path, "clinic", "second")
    write(tmp_path, "school", "new")
    async with asyncio.timeout(5):
        while "school" not in (latest := await used.get()):
            pass
    assert latest["clinic"].title == "second"
    assert not watching.done()
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


def test_a_change_is_seen_well_within_ten_seconds() -> None:
    assert catalogs.LOOK_EVERY_S <= 5


async def test_a_table_beside_the_file_is_read_with_it_and_its_change_is_taken_up(tmp_path: Path) -> None:
    write(tmp_path, "clinic")
    with (tmp_path / "clinic.yaml").open("a") as file:
        file.write("factors: {co2: {unit: kg/km, file: co2.csv}}\n")
    (tmp_path / "other.csv").write_text("named,by,nobody\n")
    table = tmp_path / "co2.csv"
    table.write_text("version,valid_from,value\nA,2024-01-01,0.1\n")
    assert len(catalogs.read_texts(tmp_path)) == 2

    used: asyncio.Queue[Mapping[str, Catalog]] = asyncio.Queue()
    watching = asyncio.create_task(catalogs.watch(tmp_path, used.put, every_s=0.02))
    await asyncio.sleep(0.1)
    table.write_text("version,valid_from,value\nA,2024-01-01,0.1\nB,2026-01-01,0.2\n")
    taken = await asyncio.wait_for(used.get(), 5)
    watching.cancel()
    assert [edition.version for edition in taken["clinic"].factors["co2"].editions] == ["A", "B"]
