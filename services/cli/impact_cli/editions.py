"""Editions from the database of the settings: one, or all that are due."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from impact_cli.databases import migrated
from impact_cli.terminal import Refused, WrongUse
from impact_reports import edition_files, periods
from impact_reports.edition import NothingToReport
from impact_reports.edition_files import Order

if TYPE_CHECKING:
    from pathlib import Path

    from impact_cli.settings import Settings
    from impact_reports.edition_files import Written


async def write_one(
    settings: Settings, product: str, period: str, stakeholder: str | None, out: Path
) -> Written:
    """Raises WrongUse for a period that is none, Refused where there is nothing to report."""
    try:
        order = Order(product, periods.parse(period), stakeholder)
    except ValueError as error:
        raise WrongUse(str(error)) from error
    [written] = await _write(settings, [order], out)
    return written


async def write_due(settings: Settings, product: str | None, out: Path) -> list[Written]:
    """Raises Refused where there is nothing to report."""
    async with migrated(settings) as engine:
        orders = await edition_files.due(engine, product, out)
    return await _write(settings, orders, out)


async def _write(settings: Settings, orders: list[Order], out: Path) -> list[Written]:
    made_with = version("impact-telemetry")
    async with migrated(settings) as engine:
        try:
            return [await edition_files.write(engine, order, out, made_with) for order in orders]
        except NothingToReport as error:
            raise Refused(str(error)) from error
        except OSError as error:
            raise Refused(f"cannot write to {out}: {error.strerror}") from error
