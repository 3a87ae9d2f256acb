# ruff: noqa: E501  a case is one line
"""Every rule of units, factors, derived metrics, goals and the product's loop, broken: the place and the reason."""

from __future__ import annotations

import pytest

from impact_schemas.catalog import CatalogFaults, catalog_warnings, parse_catalog

HERE = "¦"  # stands before the character that the fault must point at

CATALOG = """\
apiVersion: impact/v1
product: shop
title: Shop
events:
  shop.sold.v1:
    pseudonymous: [data.buyer]
    data:
      type: object
      properties: {kg: {type: number}, unit: {type: string}, haul: {type: string}, score: {type: integer}, yes: {type: boolean},
        colour: {enum: [red, blue]}, city: {type: string}, buyer: {type: string}, arm: {type: string}, other: {type: string}}
metrics:
  sales: {title: Sales, event: shop.sold.v1, aggregate: count, role: business, windows: [24h]}
  money: {title: Money, event: shop.sold.v1, aggregate: sum, of: data.kg, unit: USD, role: business, quantity: money}
  kg: {title: Kg, event: shop.sold.v1, aggregate: sum, of: data.kg, unit: kg, role: impact, quantity: waste, windows: [28d, all]}
  lost: {title: Lost, event: shop.sold.v1, aggregate: sum, of: data.kg, unit: "kg{lost}", role: guardrail, quantity: waste}
  ghg: {title: GHG, event: shop.sold.v1, aggregate: sum, of: data.kg, unit: kg, role: guardrail, quantity: ghg}
  grams: {title: Grams, event: shop.sold.v1, aggregate: sum, of: data.kg, unit: g, role: impact}
  buyers: {title: Buyers, event: shop.sold.v1, aggregate: unique, of: data.buyer, unit: "{person}", role: impact}
  waste: {title: Waste, sum_of: [kg, lost], unit: kg, role: impact}
  share: {title: Share, ratio: {numerator: kg, denominator: waste}, role: impact}
  trial: {title: Trial, event: shop.sold.v1, aggregate: count, role: impact, experiment: {arm: data.arm, control: a}}
needs:
  food: {statement: Food is thrown away.}
factors:
  plain: {unit: kg/km, editions: [{version: "1", valid_from: 2024-01-01, value: 0.5}]}
  keyed: {unit: kg/km, editions: [{version: "1", valid_from: 2024-01-01, values: {short: 0.5}}]}
"""

COUNT = "event: shop.sold.v1, aggregate: count"
SUM = "event: shop.sold.v1, aggregate: sum, of: data.kg"
MEAN = "event: shop.sold.v1, aggregate: mean, of: data.score"


def metric(rest: str, path: str, phrase: str, role: str = "impact") -> tuple[str, str, str]:
    text = CATALOG.replace("needs:\n", f"  m: {{title: M, role: {role}, {rest}}}\nneeds:\n")
    return text, f"metrics.m.{path}".rstrip("."), phrase


def added(section: str, path: str, phrase: str) -> tuple[str, str, str]:
    return CATALOG + section + "\n", path, phrase


def bet(rest: str, path: str, phrase: str) -> tuple[str, str, str]:
    return added(f"bets: {{b: {{need: food, hypothesis: H, {rest}}}}}", f"bets.b.{path}", phrase)


def factors(rest: str, path: str, phrase: str) -> tuple[str, str, str]:
    return added(f"  f: {rest}", f"factors.f{path}", phrase)


ONE = 'version: "1", valid_from: 2024-01-01'
CASES = {
    # units
    "unit": metric(f"{COUNT}, unit: ¦kgCO2eq", "unit", "kgCO2eq is no UCUM unit and no ISO 4217 code (eq is a chemical"),
    "unit of a ratio": metric("ratio: {numerator: kg, denominator: lost}, unit: ¦L", "unit", "kg divided by kg{lost} is not L"),
    "unit_path of count": metric(f"{COUNT}, ¦unit_path: data.unit", "unit_path", "count has no value with a unit"),
    "unit_path that is a number": metric(f"{SUM}, unit_path: ¦data.score", "unit_path", "expected string at data.score, it is integer"),
    "unit_path that is not there": metric(f"{SUM}, unit_path: ¦data.units", "unit_path", "did you mean unit?"),
    # factors
    "factor set": metric(f"{SUM}, factor: {{set: ¦plane}}", "factor.set", 'unknown factor set "plane"; did you mean plain?'),
    "factor set, short form": metric(f"{SUM}, factor: ¦plane", "factor", "unknown factor set"),
    "factor of count": metric(f"{COUNT}, ¦factor: plain", "factor", "count has no values to multiply"),
    "factor without key": metric(f"{SUM}, factor: ¦keyed", "factor", "keyed has keys: say {set, key}"),
    "factor with a key too many": metric(f"{SUM}, factor: {{set: plain, ¦key: data.haul}}", "factor.key", "plain has no keys"),
    "factor's key": metric(f"{SUM}, factor: {{set: keyed, key: ¦data.hall}}", "factor.key", "did you mean haul?"),
    "factor's key that is a number": metric(f"{SUM}, factor: {{set: keyed, key: ¦data.score}}", "factor.key", "expected string"),
    "factor's unit": factors(f"{{unit: ¦kgs, editions: [{{{ONE}, value: 1}}]}}", ".unit", "kgs is no UCUM unit"),
    "factors of nothing": added("  ¦f: {unit: kg/km}", "factors.f", "needs editions, or the file"),
    "edition of nothing": factors(f"{{unit: kg, editions: [¦{{{ONE}}}]}}", ".editions[0]", "needs value or values"),
    "edition of both": factors(f"{{unit: kg, editions: [¦{{{ONE}, value: 1, values: {{a: 1}}}}]}}", ".editions[0]", "one of them"),
    "edition twice": factors(f'{{unit: kg, editions: [{{{ONE}, value: 1}}, {{version: ¦"1", valid_from: 2025-01-01, value: 1}}]}}', ".editions[1].version", "1 is there twice"),
    "editions at once": factors(f'{{unit: kg, editions: [{{{ONE}, value: 1}}, {{version: "2", valid_from: ¦2024-01-01, value: 1}}]}}', ".editions[1].valid_from", "two editions are valid from 2024-01-01"),
    "editions with and without keys": (CATALOG + f'  ¦f: {{unit: kg, editions: [{{{ONE}, value: 1}}, {{version: "2", valid_from: 2025-01-01, values: {{a: 1}}}}]}}\n', "factors.f", "some editions have keys"),
    "factor out of range": factors(f"{{unit: kg, editions: [¦{{{ONE}, value: 1000000000000000}}]}}", ".editions[0]", "between -10^15 and 10^15"),
    "factors in a file elsewhere": factors("{unit: kg, file: ¦../none.csv}", ".file", "a CSV file beside this one"),
    # scores
    "scale of a sum": metric(f"{SUM}, ¦scale: {{min: 0, max: 5}}", "scale", "a scale goes with the mean of scores"),
    "scale upside down": metric(f"{MEAN}, scale: {{min: 5, max: ¦0}}", "scale.max", "must be greater than min, 5"),
    "top box outside": metric(f"{MEAN}, scale: {{min: 0, max: 5, top_box: ¦6}}", "scale.top_box", "must be between 0 and 5"),
    "scale and unit": metric(f"{MEAN}, scale: {{min: 0, max: 5}}, ¦unit_path: data.unit", "unit_path", "not together with scale"),
    "consent that is text": metric(f"{MEAN}, consent: ¦data.city", "consent", "expected boolean at data.city, it is string"),
    # metrics made of others
    "sum of one": metric("¦sum_of: [kg], unit: kg", "sum_of", "two metrics or more"),
    "sum of unknown": metric("sum_of: [kg, ¦kgs], unit: kg", "sum_of[1]", "did you mean kg?"),
    "sum of itself": metric("sum_of: [kg, ¦m], unit: kg", "sum_of[1]", "a sum cannot be made of itself"),
    "sum of a sum": metric("sum_of: [kg, ¦waste], unit: kg", "sum_of[1]", "waste is made of others itself"),
    "sum of people": metric('sum_of: [¦buyers, trial], unit: "{person}"', "sum_of[0]", "who is in both would count twice"),
    "sum twice": metric("sum_of: [kg, ¦kg], unit: kg", "sum_of[1]", "kg is there twice"),
    "sum of unlike kinds": metric("sum_of: [kg, ¦ghg], unit: kg", "sum_of[1]", "ghg cannot be added to waste"),
    "sum of unlike units": metric("sum_of: [kg, ¦grams], unit: kg", "sum_of[1]", "its unit is g, that of the first is kg"),
    "sum in another unit": metric("sum_of: [kg, lost], unit: ¦t", "unit", "its metrics are in kg"),
    "sum in no unit": metric("¦sum_of: [kg, lost]", "sum_of", "say unit: kg"),
    "sum of another kind": metric("sum_of: [kg, lost], unit: kg, quantity: ¦money", "quantity", "of the kind waste"),
    "sum and more": metric("sum_of: [kg, lost], unit: kg, ¦where: {data.yes: true}", "where", "not together with sum_of"),
    "sum and ratio": metric("ratio: {numerator: kg, denominator: lost}, ¦sum_of: [kg, lost]", "sum_of", "not together with ratio"),
    "sum with a factor": metric("sum_of: [kg, lost], unit: kg, ¦factor: plain", "factor", "not together with sum_of"),
    "difference of one": metric("¦difference: {of: kg, minus: kg}, unit: kg", "difference", "it is always 0"),
    "difference of unknown": metric("difference: {of: kg, minus: ¦last}, unit: kg", "difference.minus", "did you mean lost?"),
    "difference of money and mass": metric("difference: {of: money, minus: ¦kg}, unit: USD", "difference.minus", "unlike kinds never add"),
    "ratio of unlike windows": metric("¦ratio: {numerator: kg, denominator: sales}", "ratio", "its metrics share no window: (28d, all) and (24h)"),
    "another arm": metric("ratio: {numerator: trial, denominator: lost}, experiment: {arm: ¦data.other, control: a}", "experiment.arm", "trial is split by data.arm"),
    # judging
    "SDG code": metric(f'{COUNT}, codes: {{sdg: ["3.8.1", ¦"4.9"]}}', "codes.sdg[1]", 'unknown SDG code "4.9"'),
    "SDG indicator": metric(f'{COUNT}, codes: {{sdg: [¦"3.8.9"]}}', "codes.sdg[0]", "did you mean 3.8.1?"),
    "IRIS code": metric(f"{COUNT}, codes: {{iris: [¦PI4061]}}", "codes.iris[0]", "did you mean PI4060?"),
    "leads to itself": metric(f"{COUNT}, leads_to: [¦m]", "leads_to[0]", "does not lead to itself"),
    "leads to unknown": metric(f"{COUNT}, leads_to: [kg, ¦sails]", "leads_to[1]", "did you mean sales?"),
    "target's segment": metric(f"{COUNT}, targets: [{{window: all, value: 1, due: 2026-12-31, segment: {{town: ¦x}}}}]", "targets[0].segment.town", "unknown dimension"),
    "target's group": metric(f"{COUNT}, dimensions: {{c: {{path: data.colour, values: [red]}}}}, targets: [{{window: all, value: 1, due: 2026-12-31, segment: {{c: ¦blue}}}}]", "targets[0].segment.c", "not one of the values of c"),
    "target's cut": metric(f"{COUNT}, dimensions: {{c: data.colour, t: data.city}}, targets: [{{window: all, value: 1, due: 2026-12-31, ¦segment: {{c: red, t: x}}}}]", "targets[0].segment", "no such cut"),
    "way back in time": metric(f"{COUNT}, targets: [{{window: all, value: 9, due: 2026-12-31, path: [{{at: 2026-06-01, value: 1}}, {{at: ¦2026-05-01, value: 2}}]}}]", "targets[0].path[1].at", "must be after 2026-06-01"),
    "way beyond the end": metric(f"{COUNT}, targets: [{{window: all, value: 9, due: 2026-12-31, path: [{{at: ¦2026-12-31, value: 1}}]}}]", "targets[0].path[0].at", "must be before the due day"),
    "limits of impact": metric(f"{COUNT}, ¦limits: {{max: 1}}", "limits", "limits are of guardrails, its role is impact"),
    "limits of nothing": metric(f"{COUNT}, ¦limits: {{window: all}}", "limits", "needs max or min", "guardrail"),
    "limits upside down": metric(f"{COUNT}, limits: {{max: 1, min: ¦2}}", "limits.min", "must be less than max", "guardrail"),
    "limit's window": metric(f"{COUNT}, limits: {{max: 1, window: ¦7d}}", "limits.window", "not one of this metric's windows", "guardrail"),
    "benchmark in another unit": metric(f"{SUM}, unit: kg, benchmarks: [{{label: L, value: 1, unit: ¦t}}]", "benchmarks[0].unit", "expected the metric's unit, kg, found t"),
    "benchmark in no unit": metric(f"{SUM}, unit: kg, benchmarks: [{{label: L, value: 1, unit: ¦kgs}}]", "benchmarks[0].unit", "no UCUM unit"),
    "divergence from impact": metric(f"{COUNT}, divergence: {{business: ¦kg}}", "divergence.business", "expected a business metric, kg is impact"),
    "divergence from unknown": metric(f"{COUNT}, divergence: {{business: ¦monney}}", "divergence.business", "did you mean money?"),
    "divergence without a shared window": metric(f"{COUNT}, windows: [all], divergence: {{business: ¦sales}}", "divergence.business", "shares no window"),
    "share above 1": metric(f"{COUNT}, net: {{deadweight: ¦1.5}}", "net.deadweight", "a share from 0 to 1"),
    "privacy and minutes": metric(f"{COUNT}, privacy: {{min_cell: 5}}, windows: [¦5m, all]", "windows[0]", "5m is shorter than any block"),
    "privacy and hours": metric(f"{COUNT}, privacy: {{min_cell: 5}}, windows: [24h, ¦1h]", "windows[1]", "1h is shorter"),
    "privacy and the greatest": metric("event: shop.sold.v1, aggregate: ¦max, of: data.kg, privacy: {min_cell: 5}", "aggregate", "max shows single people"),
    "privacy and a percentile": metric("event: shop.sold.v1, aggregate: ¦p90, of: data.kg, privacy: {min_cell: 5}", "aggregate", "p90 shows single people"),
    "population of a sum": metric(f"{SUM}, dimensions: {{c: data.colour}}, equity: {{dimension: c, reference: red, ¦population: {{values: {{red: 1}}}}}}", "equity.population", "worked out of unique or count"),
    "population of nobody": metric(f"{COUNT}, dimensions: {{c: data.colour}}, equity: {{dimension: c, reference: red, ¦population: {{year: 2024}}}}", "equity.population", "needs values, or the file"),
    "population of another group": metric(f"{COUNT}, dimensions: {{c: {{path: data.colour, values: [red]}}}}, equity: {{dimension: c, reference: red, population: {{values: {{red: 1, blue: ¦2}}}}}}", "equity.population.values.blue", "not one of the values"),
    # the loop
    "need's name": (CATALOG.replace("  food:", "  ¦Food:"), "needs.Food", "as a name"),
    "need without words": (CATALOG.replace("food: {statement: Food is thrown away.}", "¦food: {people: 5}"), "needs.food.statement", "is missing: what they lack"),
    "people of a need": (CATALOG.replace("thrown away.}", "thrown away., people: ¦many}"), "needs.food.people", "expected a whole number"),
    "bet's need": added("bets: {b: {need: ¦foot, hypothesis: H}}", "bets.b.need", 'unknown need "foot"; did you mean food?'),
    "bet's cost": bet("cost: {value: 1, unit: ¦Dollar}", "cost.unit", "no ISO 4217 code"),
    "bet's business metric": bet("business_metric: ¦kg", "business_metric", "expected a business metric, kg is impact"),
    "bet's unknown business metric": bet("business_metric: ¦moneys", "business_metric", "did you mean money?"),
    "bet's metric": bet("expects: [{metric: ¦kgs, change: 1, by: 2026-12-31}]", "expects[0].metric", "did you mean kg?"),
    "bet's segment": bet("expects: [{metric: kg, segment: {town: ¦x}, change: 1, by: 2026-12-31}]", "expects[0].segment.town", "unknown dimension"),
    "bet that ends before it begins": bet("launched: 2026-03-01, expects: [{metric: kg, change: 1, by: ¦2026-03-01}]", "expects[0].by", "must be after the launch"),
    "risk's metric": added("risks: [{id: a, statement: S, metric: ¦los}]", "risks[0].metric", "did you mean lost?"),
    "risk twice": added("risks: [{id: a, statement: S, metric: lost}, {id: ¦a, statement: S, metric: lost}]", "risks[1].id", "a is there twice"),
    "stakeholder's metric": added("stakeholders: [{name: a, audience: board, metrics: [kg, ¦los]}]", "stakeholders[0].metrics[1]", "did you mean lost?"),
    "stakeholder's audience": added("stakeholders: [{name: a, audience: ¦all}]", "stakeholders[0].audience", "expected one of public, funder, board, partner"),
    "stakeholder twice": added("stakeholders: [{name: a, audience: board}, {name: ¦a, audience: board}]", "stakeholders[1].name", "a is there twice"),
    "rule's part": added("consistency: [{rule: r, part: ¦los, whole: kg}]", "consistency[0].part", "did you mean lost?"),
    "rule of one": added("consistency: [{rule: r, part: ¦kg, whole: kg}]", "consistency[0].part", "the same metric"),
    "rule of unlike units": added("consistency: [{rule: r, part: ¦money, whole: lost}]", "consistency[0].part", "cannot be compared"),
    "rule without a shared window": added("consistency: [{rule: r, part: ¦sales, whole: kg}]", "consistency[0].part", "share no window"),
    "rule twice": added("consistency: [{rule: r, part: kg, whole: lost}, {rule: ¦r, part: kg, whole: lost}]", "consistency[1].rule", "r is there twice"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_broken_rule_is_the_one_fault_at_its_place(case: tuple[str, str, str]) -> None:
    text, path, phrase = case
    before, _, after = text.partition(HERE)
    assert HERE not in after
    with pytest.raises(CatalogFaults) as caught:
        parse_catalog(before + after, "shop.yaml")
    (fault,) = caught.value.faults
    assert phrase in fault.reason
    assert fault.path == path
    assert (fault.line, fault.column) == (before.count("\n") + 1, len(before) - before.rfind("\n"))


def test_the_catalog_of_these_tests_has_no_fault_itself() -> None:
    assert parse_catalog(CATALOG, "shop.yaml").metrics["waste"].derivation == "sum_of"


def warned(text: str) -> list[tuple[str, str]]:
    return [(one.path, one.reason) for one in catalog_warnings({"shop.yaml": text})]


def test_harm_that_nobody_would_see_is_warned_of() -> None:
    risks = "risks: [{id: a, statement: S}, {id: b, statement: S, metric: kg}, {id: c, statement: S, metric: lost}]\n"
    assert warned(CATALOG) == []
    assert warned(CATALOG + risks) == [
        ("risks[0]", "the risk a has no metric that would show it"),
        ("risks[1].metric", "kg is impact: a guardrail would warn of the risk b"),
    ]
    ((path, reason),) = warned(CATALOG.replace("role: guardrail", "role: impact"))
    assert path == "metrics"
    assert reason.startswith("no metric is a guardrail")


def test_what_the_public_is_not_shown_and_what_is_not_converted_is_warned_of() -> None:
    public = "stakeholders: [{name: city, audience: public, metrics: [kg]}, {name: board, audience: board, metrics: [kg]}]\n"
    assert warned(CATALOG + public) == [
        ("stakeholders[0].metrics[0]", "kg is internal: city is public and is not shown it")
    ]
    percent = CATALOG.replace("denominator: waste}", 'denominator: waste}, unit: "%"')
    assert [path for path, _ in warned(percent)] == ["metrics.share.unit"]
