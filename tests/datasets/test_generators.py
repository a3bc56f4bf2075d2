# SPDX-License-Identifier: Apache-2.0
"""Synthetic series, against their published definitions."""

import numpy as np
import pytest

from sklearn_v2s.datasets import (
    find_ucr,
    list_ucr,
    load_ucr,
    make_control_charts,
    make_cylinder_bell_funnel,
)

T = np.arange(1, 129)


def test_cylinder_bell_funnel_without_noise():
    X, y = make_cylinder_bell_funnel(300, noise=0.0, shuffle=False, random_state=0)
    for series, label in zip(X, y, strict=True):
        start = {0: 0, 1: 1, 2: 0}[label]
        # A bell is 0 where it begins, and a funnel where it ends.
        inside = np.flatnonzero(series)
        a = T[inside[0]] - start
        b = T[inside[-1]] + (label == 2)
        assert 16 <= a <= 32 and 32 <= b - a <= 96
        expected = {
            0: np.ones(128),
            1: (T - a) / (b - a),
            2: (b - T) / (b - a),
        }[label] * ((a <= T) & (b >= T))
        height = series.max() / expected.max()
        np.testing.assert_allclose(series, height * expected, atol=1e-12)
    heights = X[y == 0].max(axis=1)
    assert abs(heights.mean() - 6) < 0.4 and 0.7 < heights.std() < 1.3


def test_noise_of_cylinder_bell_funnel_is_standard_normal():
    X, _ = make_cylinder_bell_funnel(2000, random_state=0)
    # No series has begun before 16.
    before = X[:, T < 16]
    assert abs(before.mean()) < 0.03 and abs(before.std() - 1) < 0.03


def test_control_charts_without_noise():
    X, y = make_control_charts(600, noise=0.0, shuffle=False, random_state=0)
    t = np.arange(1, 61)
    pattern = X - 30.0
    assert (pattern[y == 0] == 0).all()
    cyclic = np.abs(pattern[y == 1]).max(axis=1)
    assert cyclic.min() > 9 and cyclic.max() <= 15
    for label, sign in ((2, 1), (3, -1)):
        slope = sign * pattern[y == label] / t
        assert (np.ptp(slope, axis=1) < 1e-9).all()
        assert slope.min() >= 0.2 and slope.max() <= 0.5
    for label, sign in ((4, 1), (5, -1)):
        shift = sign * pattern[y == label]
        for row in shift:
            values = np.unique(row)
            assert values[0] == 0 and len(values) == 2 and 7.5 <= values[1] <= 20
            assert 20 <= t[np.flatnonzero(row)[0]] <= 41


def test_noise_of_control_charts_is_uniform():
    X, y = make_control_charts(3000, random_state=0)
    normal = X[y == 0] - 30.0
    assert -6 <= normal.min() < -5.9 and 5.9 < normal.max() <= 6
    assert normal.std() == pytest.approx(12 / np.sqrt(12), abs=0.05)


@pytest.mark.parametrize("make", [make_control_charts, make_cylinder_bell_funnel])
def test_generators_are_repeatable_and_balanced(make):
    X, y = make(20, random_state=3)
    again, labels = make(20, random_state=3)
    np.testing.assert_array_equal(X, again)
    np.testing.assert_array_equal(y, labels)
    assert (make(20, random_state=4)[0] != X).any()
    counts = np.bincount(make(20, random_state=3)[1])
    assert np.ptp(counts) <= 1
    with pytest.raises(ValueError, match="n_samples"):
        make(0)


def test_numbers_of_the_original_command_line():
    numbered = list_ucr()
    assert [entry.number for entry in numbered] == list(range(80))
    assert len({entry.name for entry in numbered}) == 80
    assert find_ucr(0).name == "FordA"
    assert find_ucr("2") == find_ucr("ecg200")
    with pytest.raises(ValueError, match="0 to 79"):
        find_ucr(80)
    with pytest.raises(ValueError, match="GunPoint"):
        find_ucr("gunpoin")


def test_what_is_on_this_machine_is_loaded_without_a_download():
    pytest.importorskip("aeon", reason="aeon brings GunPoint")
    X, y = load_ucr(find_ucr("GunPoint").number, "test", download=False)
    assert X.shape[0] == len(y) == 150
    with pytest.raises(FileNotFoundError, match="FordB"):
        load_ucr("FordB", "train", download=False)
