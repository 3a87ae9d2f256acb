"""The codes that stakeholders know: SDG goals, targets and indicators, and IRIS+ metrics (v5.x).

Codes that are often mislabelled: only those whose meaning was looked up are here.
"""

from __future__ import annotations

# How many numbered targets each goal has, and its lettered ones (means of implementation): A/RES/71/313.
_TARGETS = {
    1: (5, "ab"),
    2: (5, "abc"),
    3: (9, "abcd"),
    4: (7, "abc"),
    5: (6, "abc"),
    6: (6, "ab"),
    7: (3, "ab"),
    8: (10, "ab"),
    9: (5, "abc"),
    10: (7, "abc"),
    11: (7, "abc"),
    12: (8, "abc"),
    13: (3, "ab"),
    14: (7, "abc"),
    15: (9, "abc"),
    16: (10, "ab"),
    17: (19, ""),
}

SDG_INDICATORS = {
    "1.4.1": "Population living in households with access to basic services",
    "3.2.2": "Neonatal mortality rate",
    "3.8.1": "Coverage of essential health services",
    "4.3.1": "Participation of youth and adults in education and training",
    "4.4.1": "Youth and adults with skills in information and communications technology",
    "4.6.1": "Population with functional literacy and numeracy",
    "5.b.1": "Individuals who own a mobile telephone, by sex",
    "6.3.1": "Domestic and industrial wastewater flows safely treated",
    "8.10.2": "Adults with an account at a financial institution or mobile-money service",
    "10.2.1": "People living below 50 per cent of median income",
    "12.2.1": "Material footprint",
    "12.5.1": "National recycling rate, tons of material recycled",
    "13.2.2": "Total greenhouse gas emissions per year",
}

IRIS_METRICS = {
    "PI4060": "Client Individuals: Total",
    "PI7098": "Client Individuals: Low Income",
    "PI7954": "Client Households: Total",
    "OI1479": "Greenhouse Gas Emissions: Total",
    "OI4112": "Greenhouse Gas Emissions: Direct",
    "OI9604": "Greenhouse Gas Emissions: Indirect",
    "OI4862": "Greenhouse Gas Emissions Reduced: Total",
    "OI6192": "Waste Disposed",
    "PI2389": "School Enrollment: Total",
    "PI4509": "Students Provided Full Scholarship",
    "PI1728": "Supplier Individuals: Female",
    "PI5376": "Greenhouse Gas Reductions due to Products Sold",
    "PI1263": "Units Sold",
    "PD2243": "Greenhouse Gas Emissions of Product Replaced",
    "PD9427": "Greenhouse Gas Emissions of Product",
}

SDG_CODES = frozenset(
    [
        *map(str, _TARGETS),
        *(f"{goal}.{number}" for goal, (last, _) in _TARGETS.items() for number in range(1, last + 1)),
        *(f"{goal}.{letter}" for goal, (_, letters) in _TARGETS.items() for letter in letters),
        *SDG_INDICATORS,
    ]
)
