"""The first page: every product with its mission and the number that stands for it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from impact_reports import metric_cards, mission_page
from impact_schemas import wording

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from impact_reports.metric_cards import Card
    from impact_reports.mission_page import Tally
    from impact_reports.queries import Row, Rows

GOALS = (  # the United Nations' short names of the Sustainable Development Goals
    *("No poverty", "Zero hunger", "Good health and well-being", "Quality education", "Gender equality"),
    *("Clean water and sanitation", "Affordable and clean energy", "Decent work and economic growth"),
    *(
        "Industry, innovation and infrastructure",
        "Reduced inequalities",
        "Sustainable cities and communities",
    ),
    *("Responsible consumption and production", "Climate action", "Life below water", "Life on land"),
    *("Peace, justice and strong institutions", "Partnerships for the goals"),
)


@dataclass(frozen=True, slots=True)
class ProductSays:
    """One product."""

    product: str
    title: str
    statement: str
    north_star: Card | None
    tally: Sequence[Tally]
    metrics: int


@dataclass(frozen=True, slots=True)
class Goal:
    """One of the Sustainable Development Goals, and the metrics that say that they serve it."""

    number: int
    title: str
    metrics: Sequence[Card]


@dataclass(frozen=True, slots=True)
class NeedSays:
    """A need of people, and what is tried for it."""

    statement: str
    people: str
    product: str
    bets: Sequence[str]


@dataclass(frozen=True, slots=True)
class PortfolioPage:
    """All that the page says."""

    products: Sequence[ProductSays]
    goals: Sequence[Goal]
    needs: Sequence[NeedSays]
    titles: dict[str, str]
    as_of: datetime | None


def page(rows: Rows) -> PortfolioPage:
    """People are never added between products: each number stands alone."""
    cards = metric_cards.cards(rows)
    return PortfolioPage(
        products=[_product(row, cards, rows) for row in rows["products"]],
        goals=_goals(cards),
        needs=[_need(row, rows["bets"]) for row in rows["needs"]],
        titles={row["product"]: row["title"] for row in rows["products"]},
        as_of=mission_page.as_of(rows),
    )


def _product(row: Row, cards: Sequence[Card], rows: Rows) -> ProductSays:
    name = row["product"]
    own = [card for card in cards if card.product == name]
    violations = [one for one in rows["violations"] if one["product"] == name]
    return ProductSays(
        product=name,
        title=row["title"],
        statement=row["statement"] or "",
        north_star=next((card for card in own if card.metric == row["north_star"]), None),
        tally=mission_page.tally([target for card in own for target in card.targets], violations),
        metrics=len(own),
    )


def _need(row: Row, bets: Sequence[Row]) -> NeedSays:
    people = "" if row["people"] is None else f"{wording.number(row['people'])} people"
    tried = [bet["title"] for bet in bets if (bet["product"], bet["need"]) == (row["product"], row["need"])]
    return NeedSays(row["statement"], people, row["product"], tried)


def _goals(cards: Sequence[Card]) -> list[Goal]:
    found: dict[int, list[Card]] = {}
    for card in cards:
        for number in sorted({int(code.split(".")[0]) for code in card.sdg}):
            found.setdefault(number, []).append(card)
    return [Goal(number, GOALS[number - 1], found[number]) for number in sorted(found)]
