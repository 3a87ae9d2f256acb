from __future__ import annotations

import random
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from impact_aggregator.sketches import EXACT_LIMIT, Distinct, Quantiles, hash64

hashes = st.integers(0, 2**64 - 1)


def uniform(seed: int, count: int) -> list[int]:
    source = random.Random(seed)
    return [source.getrandbits(64) for _ in range(count)]


@pytest.mark.parametrize("count", [0, 1, 7, EXACT_LIMIT])
def test_distinct_is_exact_up_to_its_limit(count: int) -> None:
    values = uniform(1, count)
    assert Distinct(values + values).estimate() == count


@pytest.mark.parametrize("count", [1_100, 3_000, 20_000, 200_000])
def test_distinct_has_the_stated_standard_error(count: int) -> None:
    errors = [Distinct(uniform(seed, count)).estimate() / count - 1 for seed in range(20)]
    assert max(abs(error) for error in errors) < 4 * 0.0081
    assert abs(fmean(errors)) < 0.0081  # unbiased: the mean of 20 is within 4.5 of its own standard errors


@given(st.lists(hashes, max_size=50), st.integers(0, 3), st.integers(0, 10_000))
def test_distinct_does_not_depend_on_order_or_split(values: list[int], parts: int, seed: int) -> None:
    values = values + uniform(seed, 1500 if seed % 3 == 0 else 0)  # past the exact limit in a third of cases
    whole = Distinct(values)
    shuffled = random.Random(seed).sample(values, len(values))
    merged = Distinct()
    for part in range(parts + 1):
        merged.merge(Distinct(shuffled[part :: parts + 1]))
    assert merged.to_bytes() == whole.to_bytes()
    assert merged.estimate() == whole.estimate()


@given(st.lists(hashes, max_size=30), st.booleans())
def test_distinct_survives_its_bytes(values: list[int], many: bool) -> None:
    sketch = Distinct(values + (uniform(2, 2000) if many else []))
    again = Distinct.from_bytes(sketch.to_bytes())
    assert again.to_bytes() == sketch.to_bytes()
    assert again.estimate() == sketch.estimate()


def test_hash_is_the_same_in_every_process() -> None:
    assert hash64("N14228") == 0x164F2197A9689358


numbers = st.integers(-(10**24), 10**24)


@given(st.lists(numbers, min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_quantile_is_within_one_percent_of_the_true_rank(values: list[int], q: float) -> None:
    ordered = sorted(values)
    rank = max(1, -(-int(q * 1000) * len(values) // 1000))
    true = ordered[rank - 1]
    found = Quantiles(values).quantile(q)
    assert found is not None
    assert abs(found - true) <= 0.0101 * abs(true) + 1


@given(st.lists(numbers, max_size=60), st.integers(1, 5))
def test_quantiles_do_not_depend_on_order_or_split(values: list[int], parts: int) -> None:
    merged = Quantiles()
    for part in range(parts):
        merged.merge(Quantiles(values[::-1][part::parts]))
    assert merged.to_bytes() == Quantiles(values).to_bytes()
    assert Quantiles.from_bytes(merged.to_bytes()).to_bytes() == merged.to_bytes()


def test_no_values_have_no_quantile() -> None:
    assert Quantiles().quantile(0.5) is None


@pytest.mark.parametrize(("count", "seeds"), [(1_000_000, 5), (10_000_000, 1)])
def test_distinct_keeps_its_error_up_to_ten_million(count: int, seeds: int) -> None:
    for seed in range(seeds):
        source = np.random.default_rng(seed)
        sketch = Distinct()
        for _ in range(count // 100_000):
            sketch.merge(Distinct(source.integers(0, 2**64, 100_000, dtype=np.uint64).tolist()))
        assert abs(sketch.estimate() / count - 1) < 4 * 0.0081
