# ruff: noqa: E501  a case is one line
"""Every rule of the catalog, broken: the exact place, the path, and words that help."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from impact_schemas.catalog import CatalogFaults, Fault, parse_catalog, parse_catalogs

HERE = "¦"  # stands before the character that the fault must point at

CATALOG = """\
apiVersion: impact/v1
product: shop
title: Shop
events:
  shop.sold.v1:
    subject: none
    pseudonymous: [data.buyer]
    data:
      type: object
      properties: {kg: {type: number}, colour: {enum: [red, blue]}, city: {type: string}, buyer: {type: string},
        gift: {type: boolean}, box: {type: object, properties: {size: {type: integer}}}, any: {}}
  shop.noted.v1: {data: {type: object, properties: {city: {type: string}}}}
metrics:
  sales: {title: Sales, event: shop.sold.v1, aggregate: count, role: business}
  kg: {title: Kg, event: shop.sold.v1, aggregate: sum, of: data.kg, unit: kg, role: impact}
  share: {title: Share, ratio: {numerator: kg, denominator: sales}, role: impact}
  split: {title: Split, event: shop.sold.v1, aggregate: count, role: impact, dimensions: {city: data.city, colour: data.colour}, cuts: [[city, colour]]}
  half: {title: Half, event: shop.sold.v1, aggregate: count, role: impact, dimensions: {city: data.city, colour: data.colour}}
"""


class Case(NamedTuple):
    text: str
    path: str
    phrase: str


def metric(rest: str, path: str, phrase: str) -> Case:
    """A metric `m` that also has what a metric needs, unless `rest` says it."""
    needed = {"title": "M", "event": "shop.sold.v1", "aggregate": "count", "role": "impact"}
    if "ratio:" in rest:
        del needed["event"], needed["aggregate"]
    fields = [f"{name}: {value}" for name, value in needed.items() if f"{name}:" not in rest]
    return Case(CATALOG + f"  m: {{{rest}, {', '.join(fields)}}}\n", path, phrase)


def raw_metric(text: str, path: str, phrase: str) -> Case:
    return Case(CATALOG + f"  {text}\n", path, phrase)


def instead(old: str, new: str, path: str, phrase: str) -> Case:
    assert CATALOG.count(old) == 1, old
    return Case(CATALOG.replace(old, new), path, phrase)


def event(text: str, path: str, phrase: str) -> Case:
    return instead("metrics:\n", f"  {text}\nmetrics:\n", path, phrase)


def data(schema: str, path: str, phrase: str) -> Case:
    return event(f"x.y.v1: {{data: {schema}}}", f'events["x.y.v1"].data{path}', phrase)


CASES = {
    # YAML
    "syntax": Case("apiVersion: impact/v1\nproduct: [shop\ntitle¦: Shop\n", "", "this is not YAML: expected ',' or ']'"),
    "tab": Case("a: b\n¦\tc: d\n", "", "this is not YAML"),
    "empty file": Case("¦", "", "the file is empty"),
    "only a comment": Case("¦# nothing\n", "", "the file is empty"),
    "not a mapping": Case("¦- a\n", "", "expected a mapping that starts with apiVersion: impact/v1, found a list"),
    "two documents": Case(CATALOG + "¦---\na: b\n", "", "a second document begins here"),
    "character": Case("a: b\nc: ¦\x07", "", "the character U+0007 is not allowed"),
    "alias of nothing": Case("a: ¦*b\n", "", "the alias *b stands for nothing"),
    "alias in itself": Case("a: &b [¦*b]\n", "", "the alias *b stands for nothing"),
    "too deep": Case("a: " + "[" * 99 + "¦[" + "]" * 100, "", "more than 100 levels"),
    "duplicate key": instead("title: Shop\n", "title: Shop\n¦title: Shop\n", "title", "is there twice, first on line 3"),
    "duplicate metric": raw_metric("¦kg: {}", "metrics.kg", "is there twice, first on line 15"),
    "merge key": raw_metric(
        "m: {¦<<: {unit: kg}, title: M, event: shop.sold.v1, aggregate: count, role: impact}", "metrics.m", "merge keys"
    ),
    "key that is no text": event("¦12: {}", "events", "a key must be text: put it in quotes"),
    "tag": metric("unit: ¦!!python/name:os.system kg", "metrics.m.unit", "the tag !!python/name:os.system"),
    "tag that does not fit": metric("unit: ¦!!int kg", "metrics.m.unit", "the tag !!int is not for this value"),
    "infinity": metric("where: {data.kg: {lt: ¦.inf}}", 'metrics.m.where["data.kg"].lt', "no number that can be counted"),
    "endless number": metric("where: {data.kg: ¦1e999999999}", 'metrics.m.where["data.kg"]', "more than 300 digits"),
    "NUL": metric('unit: ¦"k\\0g"', "metrics.m.unit", "NUL"),
    "half a surrogate pair": metric('description: ¦"\\ud800"', "metrics.m.description", "surrogate"),
    # fields and their form
    "unknown field": metric("¦titel: x", "metrics.m.titel", "unknown field; did you mean title?"),
    "unknown field like none": metric("¦zzz: x", "metrics.m.zzz", "unknown field (there are title, description, event"),
    "unknown field at the top": instead("title: Shop\n", "title: Shop\n¦owner: me\n", "owner", "unknown field"),
    "unknown field of a metric called ratio": raw_metric(
        "ratio: {title: R, event: shop.sold.v1, aggregate: count, role: impact, ¦numerator: kg}",
        "metrics.ratio.numerator",
        "unknown field (there are title",
    ),
    "unknown field deep inside": metric("privacy: {min_cell: 5, ¦blok: week}", "metrics.m.privacy.blok", "did you mean block?"),
    "unknown comparison": metric("where: {data.kg: {¦gtt: 1}}", 'metrics.m.where["data.kg"].gtt', "did you mean gt?"),
    "missing at the top": Case("¦" + CATALOG.replace("title: Shop\n", ""), "title", "is missing: the product's name"),
    "missing version": Case("¦" + CATALOG.replace("apiVersion: impact/v1\n", ""), "apiVersion", "is missing: the version"),
    "other version": instead("impact/v1", "¦impact/v2", "apiVersion", 'expected one of impact/v1, found "impact/v2"'),
    "missing title": raw_metric("¦m: {event: shop.sold.v1, aggregate: count, role: impact}", "metrics.m.title", "is missing"),
    "missing role": raw_metric(
        "¦m: {title: M, event: shop.sold.v1, aggregate: count}", "metrics.m.role", "is missing: impact, business, or guardrail"
    ),
    "missing rule": raw_metric("¦m: {title: M, role: impact}", "metrics.m", "needs event and aggregate, or ratio"),
    "missing event": raw_metric("¦m: {title: M, aggregate: count, role: impact}", "metrics.m.event", "is missing"),
    "missing aggregate": raw_metric("¦m: {title: M, event: shop.sold.v1, role: impact}", "metrics.m.aggregate", "is missing"),
    "missing in a part": metric("¦privacy: {block: week}", "metrics.m.privacy.min_cell", "is missing: the fewest subjects"),
    "no text": metric("unit: ¦1", "metrics.m.unit", "expected text, found the number 1: put it in quotes"),
    "no text but a list": metric("¦description: [a]", "metrics.m.description", "expected text, found a list"),
    "empty text": raw_metric('m: {title: ¦"", event: shop.sold.v1, aggregate: count, role: impact}', "metrics.m.title", "empty"),
    "no mapping": raw_metric("m: ¦text", "metrics.m", 'expected a mapping, found "text"'),
    "no metric": raw_metric("¦m:", "metrics.m", "expected a mapping, found nothing"),
    "no list": metric("windows: ¦all", "metrics.m.windows", 'expected a list, found "all"'),
    "one of": metric("level: ¦outcom", "metrics.m.level", "expected one of input, activity, output, outcome, impact"),
    "one of, meant": metric("level: ¦outcom", "metrics.m.level", "did you mean outcome?"),
    "no boolean": event("x.y.v1: {keep_unknown: ¦yes}", 'events["x.y.v1"].keep_unknown', 'expected true or false, found "yes"'),
    "long value": metric(f"level: ¦{'x' * 300}", "metrics.m.level", "…"),
    # names
    "product": instead("product: shop", "product: ¦Shop", "product", "lower-case letters, digits and _"),
    "metric's name": raw_metric(
        "¦m-m: {title: M, event: shop.sold.v1, aggregate: count, role: impact}", "metrics.m-m", "lower-case letters"
    ),
    "long name": raw_metric(
        f"¦{'m' * 64}: {{title: M, event: shop.sold.v1, aggregate: count, role: impact}}", "metrics." + "m" * 64, "at most 63"
    ),
    "event type's name": event('¦"a b": {}', 'events["a b"]', "without blanks"),
    "reserved type": event("¦impact.x.v1: {}", 'events["impact.x.v1"]', "belong to the service itself"),
    "source": instead("title: Shop\n", 'title: Shop\nsources: ["/shop/*", ¦"a b"]\n', "sources[1]", "expected a source"),
    "no sources": instead("title: Shop\n", "title: Shop\n¦sources: []\n", "sources", "must not be empty"),
    "since": instead("title: Shop\n", "title: Shop\nsince: ¦2015\n", "since", "expected a day, like 2026-12-31"),
    "since never was": instead("title: Shop\n", "title: Shop\nsince: ¦2015-02-29\n", "since", "that the calendar has"),
    "unit": metric("unit: ¦k g", "metrics.m.unit", "expected a unit without blanks"),
    "quantity": metric("quantity: ¦Waste!", "metrics.m.quantity", "expected a slug"),
    "cadence": metric("cadence: ¦daily", "metrics.m.cadence", "like 1d"),
    "north star": instead(
        "title: Shop\n",
        "title: Shop\nmission: {statement: A, beneficiaries: B, north_star: ¦sale}\n",
        "mission.north_star",
        'unknown metric "sale"; did you mean sales?',
    ),
    "schema pattern of names": data('{patternProperties: {¦"(?<x>a)": {}}}', '.patternProperties["(?<x>a)"]', "not a regular expression"),
    # events
    "subject": event("x.y.v1: {subject: ¦always}", 'events["x.y.v1"].subject', "expected one of required, optional, none"),
    "pseudonymous path": instead("[data.buyer]", "[¦data.bayer]", 'events["shop.sold.v1"].pseudonymous[0]', "did you mean buyer?"),
    "pseudonymous twice": instead(
        "[data.buyer]", "[data.buyer, ¦data.buyer]", 'events["shop.sold.v1"].pseudonymous[1]', "is there twice"
    ),
    "pseudonymous form": instead("[data.buyer]", "[¦buyer]", 'events["shop.sold.v1"].pseudonymous[0]', "like data.language"),
    "pseudonymous number": instead(
        "[data.buyer]", "[data.buyer, ¦data.gift]", 'events["shop.sold.v1"].pseudonymous[1]', "must be text or a whole number"
    ),
    "schema type": data("{type: ¦objct}", ".type", "did you mean object?"),
    "schema keyword's value": data("{properties: {a: {minimum: ¦x}}}", ".properties.a.minimum", "not a JSON Schema"),
    "schema keyword": data("{¦propertes: {}}", ".propertes", "unknown keyword; did you mean properties?"),
    "schema pattern": data('{properties: {a: {pattern: ¦"("}}}', ".properties.a.pattern", "regex"),
    "schema reference": data(
        '{$defs: {box: {}}, properties: {a: {$ref: ¦"#/$defs/bix"}}}', ".properties.a.$ref", "stands for nothing in this schema"
    ),
    "schema elsewhere": data('{properties: {a: {$ref: ¦"https://example.org/a"}}}', ".properties.a.$ref", "only references within"),
    "schema draft": data('{$schema: ¦"http://json-schema.org/draft-07/schema#"}', ".$schema", "expected https://json-schema.org"),
    "schema of text": event("x.y.v1: {¦data: {type: string}}", 'events["x.y.v1"].data', "is an object"),
    "schema that is none": event("x.y.v1: {data: ¦text}", 'events["x.y.v1"].data', "expected a mapping"),
    # a metric's events and value
    "event type": metric("event: ¦shop.sold.v2", "metrics.m.event", 'unknown event type "shop.sold.v2"; did you mean shop.sold.v1?'),
    "event type in a list": metric("event: [shop.sold.v1, ¦x.v1]", "metrics.m.event[1]", "there are shop.noted.v1, shop.sold.v1"),
    "event type twice": metric("event: [shop.sold.v1, ¦shop.sold.v1]", "metrics.m.event[1]", "is there twice"),
    "no event type": metric("¦event: []", "metrics.m.event", "must not be empty"),
    "aggregate": metric("aggregate: ¦average", "metrics.m.aggregate", "expected one of count, sum, mean"),
    "of of count": metric("¦of: data.kg", "metrics.m.of", "count counts events: it has no of"),
    "no of": raw_metric(
        "¦m: {title: M, event: shop.sold.v1, aggregate: sum, role: impact}", "metrics.m.of", "is missing: what sum is taken of"
    ),
    "form of of": metric("aggregate: sum, of: ¦kg", "metrics.m.of", "expected subject, or a path"),
    "of is not there": metric("aggregate: sum, of: ¦data.kgs", "metrics.m.of", "did you mean kg? (in events of type shop.sold.v1)"),
    "of is text": metric("aggregate: sum, of: ¦data.city", "metrics.m.of", "sum needs numbers, and data.city is string"),
    "of is a truth": metric("aggregate: mean, of: ¦data.gift", "metrics.m.of", "mean needs numbers, and data.gift is boolean"),
    "of is anything": metric("aggregate: p90, of: ¦data.any", "metrics.m.of", "say type: number"),
    "of is a pseudonym": metric("aggregate: max, of: ¦data.buyer", "metrics.m.of", "max needs numbers, and data.buyer is string"),
    "sum of subjects": raw_metric(
        "m: {title: M, event: shop.noted.v1, aggregate: sum, of: ¦subject, role: impact}", "metrics.m.of", "a subject is none"
    ),
    "no subject": metric("aggregate: unique, of: ¦subject", "metrics.m.of", "have no subject (subject: none)"),
    "unique of objects": metric("aggregate: unique, of: ¦data.box", "metrics.m.of", "expected single values"),
    "of in one type only": metric(
        "event: [shop.sold.v1, shop.noted.v1], aggregate: sum, of: ¦data.kg", "metrics.m.of", "in events of type shop.noted.v1"
    ),
    "path into text": metric("aggregate: sum, of: ¦data.city.kg", "metrics.m.of", "data.city is no object (string)"),
    "per": metric("aggregate: sum, of: data.kg, ¦per: data.city", "metrics.m.per", "only latest has places"),
    "per is not there": metric("aggregate: latest, of: data.kg, per: ¦data.place", "metrics.m.per", 'names no "place"'),
    "where is not there": metric("where: {¦data.colur: red}", 'metrics.m.where["data.colur"]', "did you mean colour?"),
    "where's form": metric("where: {¦colour: red}", "metrics.m.where.colour", "like data.language"),
    "where never": metric("where: {data.colour: [red, ¦green]}", 'metrics.m.where["data.colour"][1]', 'never "green"'),
    "where of another type": metric('where: {data.gift: ¦"true"}', 'metrics.m.where["data.gift"]', "its type is boolean"),
    "where of nothing": metric("where: {¦data.kg: []}", 'metrics.m.where["data.kg"]', "expected a value"),
    "where empty": metric("where: {¦data.kg: {}}", 'metrics.m.where["data.kg"]', "at least one of gt, gte, lt, lte, ne"),
    "bound of text": metric("where: {data.city: {gt: ¦1}}", 'metrics.m.where["data.city"].gt', "gt compares numbers"),
    "bound that is text": metric('where: {data.kg: {gt: ¦"1"}}', 'metrics.m.where["data.kg"].gt', 'expected a number, found "1"'),
    "bound that is a truth": metric("where: {data.kg: {gt: ¦true}}", 'metrics.m.where["data.kg"].gt', "expected a number"),
    "ne never": metric("where: {data.colour: {ne: ¦green}}", 'metrics.m.where["data.colour"].ne', 'allows "red", "blue"'),
    "where of a pseudonym": metric("where: {data.buyer: ¦x}", 'metrics.m.where["data.buyer"]', "is pseudonymous"),
    # ratios
    "ratio of unknown": metric("ratio: {numerator: ¦kgs, denominator: sales}", "metrics.m.ratio.numerator", "did you mean kg?"),
    "ratio of itself": metric("ratio: {numerator: sales, denominator: ¦m}", "metrics.m.ratio.denominator", "of itself"),
    "ratio of a ratio": metric("ratio: {numerator: ¦share, denominator: sales}", "metrics.m.ratio.numerator", "is a ratio itself"),
    "ratio that is 1": metric("¦ratio: {numerator: kg, denominator: kg}", "metrics.m.ratio", "always 1"),
    "ratio and more": metric(
        "ratio: {numerator: kg, denominator: sales}, ¦aggregate: count", "metrics.m.aggregate", "not together with ratio"
    ),
    "half a ratio": metric("¦ratio: {numerator: kg}", "metrics.m.ratio.denominator", "is missing: the metric below"),
    # splits
    "dimension is not there": metric("dimensions: {city: ¦data.town}", "metrics.m.dimensions.city", 'names no "town"'),
    "dimension, long form": metric("dimensions: {city: {path: ¦data.town}}", "metrics.m.dimensions.city.path", 'names no "town"'),
    "dimension's name": metric("dimensions: {¦City: data.city}", "metrics.m.dimensions.City", "as a dimension's name"),
    "dimension called window": metric("dimensions: {¦window: data.city}", "metrics.m.dimensions.window", "a label of every metric"),
    "dimension of objects": metric("dimensions: {box: ¦data.box}", "metrics.m.dimensions.box", "expected single values"),
    "dimension of pseudonyms": metric("dimensions: {who: ¦data.buyer}", "metrics.m.dimensions.who", "is pseudonymous"),
    "dimension's values": metric(
        "dimensions: {c: {path: data.colour, values: [red, ¦green]}}", "metrics.m.dimensions.c.values[1]", 'never "green"'
    ),
    "dimension's value twice": metric(
        "dimensions: {c: {path: data.colour, values: [red, ¦red]}}", "metrics.m.dimensions.c.values[1]", "is there twice"
    ),
    "dimension of a ratio": metric(
        "ratio: {numerator: sales, denominator: split}, dimensions: {¦colour: data.colour}", "metrics.m.dimensions.colour", "sales is not split by colour"
    ),
    "other dimension of a ratio": metric(
        "ratio: {numerator: split, denominator: half}, dimensions: {city: ¦data.colour}", "metrics.m.dimensions.city", "expected data.city, as in split"
    ),
    "other values of a ratio": metric(
        "ratio: {numerator: split, denominator: half}, dimensions: {city: {path: data.city, ¦values: [x]}}",
        "metrics.m.dimensions.city.values",
        "expected the same values as in split",
    ),
    "cut of a ratio": metric(
        "ratio: {numerator: split, denominator: half}, dimensions: {city: data.city, colour: data.colour}, cuts: [¦[colour, city]]",
        "metrics.m.cuts[0]",
        "half has no such cut",
    ),
    "equity of a ratio": metric(
        "ratio: {numerator: split, denominator: half}, equity: {dimension: ¦town, reference: x}",
        "metrics.m.equity.dimension",
        "there are city, colour",
    ),
    "a family that a ratio gets from its metrics": raw_metric(
        "m: {title: M, ratio: {numerator: split, denominator: half}, role: impact}\n"
        "  ¦m_by_city: {title: M, event: shop.sold.v1, aggregate: count, role: impact}",
        "metrics.m_by_city",
        "family impact_m_by_city is that of metrics.m too",
    ),
    "cut": metric("dimensions: {city: data.city}, cuts: [[city, ¦citi]]", "metrics.m.cuts[0][1]", "did you mean city?"),
    "cut of one": metric("dimensions: {city: data.city}, cuts: [¦[city]]", "metrics.m.cuts[0]", "two dimensions or more"),
    "cut with a dimension twice": metric("dimensions: {a: data.city}, cuts: [¦[a, a]]", "metrics.m.cuts[0]", "a dimension is there twice"),
    "cut twice": metric(
        "dimensions: {a: data.city, b: data.colour}, cuts: [[a, b], ¦[b, a]]", "metrics.m.cuts[1]", "this cut is there twice"
    ),
    "window": metric("windows: [all, ¦2d]", "metrics.m.windows[1]", "expected one of 5m, 1h, 24h"),
    "window twice": metric("windows: [all, ¦all]", "metrics.m.windows[1]", "is there twice"),
    "no window": metric("¦windows: []", "metrics.m.windows", "must not be empty"),
    # what later work gives a meaning to
    "evidence": metric("evidence: ¦guessed", "metrics.m.evidence", "expected one of counted, estimated, modelled, compared"),
    "evidence, long form": metric("evidence: {level: ¦guessed}", "metrics.m.evidence.level", "expected one of counted"),
    "SDG number": metric("codes: {sdg: [¦13.2]}", "metrics.m.codes.sdg[0]", "expected text, found the number 13.2: put it in quotes"),
    "SDG": metric('codes: {sdg: ["3.8.1", ¦"18.1"]}', "metrics.m.codes.sdg[1]", "SDG goal, target or indicator"),
    "IRIS": metric("codes: {iris: [¦4060]}", "metrics.m.codes.iris[0]", "expected text"),
    "IRIS form": metric("codes: {iris: [¦PI40]}", "metrics.m.codes.iris[0]", "an IRIS+ metric"),
    "min_cell": metric("privacy: {min_cell: ¦1}", "metrics.m.privacy.min_cell", "expected 2 or more"),
    "min_cell is text": metric('privacy: {min_cell: ¦"11"}', "metrics.m.privacy.min_cell", "expected a whole number"),
    "block": metric("privacy: {min_cell: 5, block: ¦year}", "metrics.m.privacy.block", "expected one of day, week, month"),
    "equity's dimension": metric(
        "dimensions: {city: data.city}, equity: {dimension: ¦town, reference: x}", "metrics.m.equity.dimension", "unknown dimension"
    ),
    "equity's reference": metric(
        "dimensions: {c: data.colour}, equity: {dimension: c, reference: ¦green}", "metrics.m.equity.reference", 'never "green"'
    ),
    "target's window": metric(
        "targets: [{window: ¦90d, value: 1, due: 2026-12-31}]", "metrics.m.targets[0].window", "not one of this metric's windows"
    ),
    "target's value": metric("targets: [{window: all, value: ¦much, due: 2026-12-31}]", "metrics.m.targets[0].value", "a number"),
    "target's day": metric("targets: [{window: all, value: 1, due: ¦soon}]", "metrics.m.targets[0].due", "expected a day"),
    "target without day": metric("targets: [¦{window: all, value: 1}]", "metrics.m.targets[0].due", "is missing: the day"),
    "target before its start": metric(
        "targets: [{window: all, baseline: {value: 1, at: 2026-01-01}, value: 2, due: ¦2025-12-31}]",
        "metrics.m.targets[0].due",
        "must be after the baseline's day, 2026-01-01",
    ),
    "experiment's arm": metric("experiment: {arm: ¦data.arm, control: none}", "metrics.m.experiment.arm", 'names no "arm"'),
    "experiment's control": metric(
        "experiment: {arm: data.colour, control: ¦none}", "metrics.m.experiment.control", 'data.colour is never "none"'
    ),
    # Prometheus
    "a family of the pipeline": raw_metric(
        "¦violation: {title: M, event: shop.sold.v1, aggregate: count, role: impact}", "metrics.violation", "family of the service itself"
    ),
    "a prefix of the pipeline": raw_metric(
        "¦ingest_kg: {title: M, event: shop.sold.v1, aggregate: count, role: impact}", "metrics.ingest_kg", "the service itself"
    ),
    "two metrics, one family": raw_metric(
        "a: {title: M, event: shop.sold.v1, aggregate: count, role: impact, dimensions: {b: data.city}}\n"
        "  ¦a_by_b: {title: M, event: shop.sold.v1, aggregate: count, role: impact}",
        "metrics.a_by_b",
        "family impact_a_by_b is that of metrics.a.dimensions.b too",
    ),
    "a cut and a dimension, one family": metric(
        "dimensions: {a: data.city, b: data.colour, a_b: data.gift}, cuts: [¦[a, b]]", "metrics.m.cuts[0]", "impact_m_by_a_b"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_broken_rule_is_the_one_fault_at_its_place(case: Case) -> None:
    before, _, after = case.text.partition(HERE)
    assert HERE not in after
    with pytest.raises(CatalogFaults) as caught:
        parse_catalog(before + after, "shop.yaml")
    (fault,) = caught.value.faults
    assert fault.reason.count("\n") == 0
    assert case.phrase in fault.reason
    assert fault.path == case.path
    assert (fault.line, fault.column) == (before.count("\n") + 1, len(before) - before.rfind("\n"))


def test_the_catalog_of_these_tests_has_no_fault_itself() -> None:
    assert set(parse_catalog(CATALOG, "shop.yaml").metrics) == {"sales", "kg", "share", "split", "half"}


def test_a_fault_prints_as_compilers_do() -> None:
    assert str(Fault("a.yaml", 3, 7, "metrics.m.of", "is missing")) == "a.yaml:3:7 metrics.m.of: is missing"
    assert str(Fault("a.yaml", 1, 1, "", "the file is empty")) == "a.yaml:1:1: the file is empty"


def test_all_faults_are_reported_at_once_in_the_order_of_their_lines() -> None:
    text = """\
apiVersion: impact/v1
product: Shop
titel: Shop
events:
  shop.sold.v1:
    subject: requird
    data: {type: object, properties: {kg: {type: number}, city: {type: string}}}
  shop.noted.v1:
    data: {type: objct}
metrics:
  sales:
    title: Sales
    event: shop.sold.v2
    aggregate: cont
    role: business
  kg:
    titel: Kg
    event: shop.sold.v1
    aggregate: sum
    of: data.kgs
    unit: k g
    dimensions: {city: data.town}
    cuts: [[city, cty]]
    windows: [all, all]
    targets: [{window: 7d, value: x, due: 2026-02-30}]
  share: {title: Share, ratio: {numerator: kgs, denominator: sales}, role: impact}
"""
    with pytest.raises(CatalogFaults) as caught:
        parse_catalog(text, "shop.yaml")
    assert [(fault.line, fault.path) for fault in caught.value.faults] == [
        (1, "title"),
        (2, "product"),
        (3, "titel"),
        (6, 'events["shop.sold.v1"].subject'),
        (9, 'events["shop.noted.v1"].data.type'),
        (13, "metrics.sales.event"),
        (14, "metrics.sales.aggregate"),
        (16, "metrics.kg.role"),
        (16, "metrics.kg.title"),
        (17, "metrics.kg.titel"),
        (20, "metrics.kg.of"),
        (21, "metrics.kg.unit"),
        (22, "metrics.kg.dimensions.city"),
        (23, "metrics.kg.cuts[0][1]"),
        (24, "metrics.kg.windows[1]"),
        (25, "metrics.kg.targets[0].value"),
        (25, "metrics.kg.targets[0].due"),
        (26, "metrics.share.ratio.numerator"),
    ]
    assert str(caught.value).splitlines() == [str(fault) for fault in caught.value.faults]


def test_what_depends_on_a_broken_part_is_not_reported_as_well() -> None:
    text = CATALOG.replace("title: Kg", "titel: Kg").replace("enum: [red, blue]", "type: strin")
    text += "  m: {title: M, event: shop.sold.v1, aggregate: sum, of: data.nothing, role: impact}\n"
    with pytest.raises(CatalogFaults) as caught:
        parse_catalog(text, "shop.yaml")
    assert [fault.path for fault in caught.value.faults] == [
        'events["shop.sold.v1"].data.properties.colour.type',  # so data.nothing cannot be judged
        "metrics.kg.title",  # and share, made of kg, is sound
        "metrics.kg.titel",
    ]


def test_faults_of_all_files_come_together() -> None:
    broken = CATALOG.replace("title: Shop\n", "")
    with pytest.raises(CatalogFaults) as caught:
        parse_catalogs({"b.yaml": broken, "a.yaml": "- x\n"})
    assert [(fault.file, fault.path) for fault in caught.value.faults] == [
        ("b.yaml", "title"),
        ("a.yaml", ""),
    ]


def test_a_product_has_one_file() -> None:
    with pytest.raises(CatalogFaults) as caught:
        parse_catalogs({"a.yaml": CATALOG, "b.yaml": CATALOG})
    (fault,) = caught.value.faults
    assert fault == Fault(
        "b.yaml", 2, 10, "product", "the product shop is in a.yaml already: one file a product"
    )


def test_a_family_has_the_same_labels_in_every_product() -> None:
    split = (
        CATALOG
        + "  a: {title: A, event: shop.sold.v1, aggregate: count, role: impact, dimensions: {b: data.city}}\n"
    )
    named = CATALOG + "  a_by_b: {title: A, event: shop.sold.v1, aggregate: count, role: impact}\n"
    with pytest.raises(CatalogFaults) as caught:
        parse_catalogs({"a.yaml": split, "b.yaml": named.replace("product: shop", "product: other")})
    (fault,) = caught.value.faults
    assert (fault.file, fault.path) == ("b.yaml", "metrics.a_by_b")
    assert "impact_a_by_b has other labels in a.yaml" in fault.reason


def test_the_same_metric_may_be_in_two_products() -> None:
    assert (
        len(parse_catalogs({"a.yaml": CATALOG, "b.yaml": CATALOG.replace("product: shop", "product: other")}))
        == 2
    )


def test_a_value_cannot_forge_a_line_of_the_report() -> None:
    text = CATALOG.replace("product: shop", 'product: "x\\n\\e[2Jshop.yaml:1:1 all: is well"')
    with pytest.raises(CatalogFaults) as caught:
        parse_catalog(text, "shop.yaml")
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).isprintable()


def test_the_documented_example_breaks_in_one_place_only() -> None:
    text = (Path(__file__).parent / "caremessage.yaml").read_text().replace("of: subject", "of: subjct")
    with pytest.raises(
        CatalogFaults, match=r"^c\.yaml:\d+:\d+ metrics\.patients_messaged\.of: expected subject"
    ):
        parse_catalog(text, "c.yaml")
