# SPDX-License-Identifier: Apache-2.0
"""Pooled responses against plain loops, and the spread of the quantile levels."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_v2s.views.pooling import (
    N_THRESHOLDS,
    PooledResponses,
    pool_responses,
    spread_levels,
)

few = settings(max_examples=80, deadline=None)


# --- the reference: plain loops over numbers -----------------------------------------


def naive_ppv(responses, thresholds):
    """All kernels for the first threshold, then for the second, and so on."""
    return [
        sum(value > threshold for value in course) / len(course)
        for row in thresholds
        for threshold, course in zip(row, responses, strict=True)
    ]


def naive_segment_ppv(responses, thresholds):
    """Four parts of each kernel; parts that do not fit evenly share time points."""
    found = []
    for threshold, course in zip(thresholds[0], responses, strict=True):
        n = len(course)
        for part in range(4):
            first, last = part * n // 4, math.ceil((part + 1) * n / 4)
            values = course[first:last]
            found.append(sum(value > threshold for value in values) / len(values))
    return found


def naive_hydra_counts(responses):
    """Largest of all kernels, then smallest; of equal ones each wins."""
    n_kernels, n = len(responses), len(responses[0])
    found = []
    for better in (max, min):
        for kernel in range(n_kernels - n_kernels % 7):
            group = range(kernel - kernel % 7, kernel - kernel % 7 + 7)
            won = [
                t
                for t in range(n)
                if responses[kernel][t] == better(responses[k][t] for k in group)
            ]
            found.append(math.sqrt(len(won) / n))
    return found


def naive_extremes(responses):
    return [max(course) for course in responses] + [min(course) for course in responses]


# -------------------------------------------------------------------------------------


def pool(responses, thresholds):
    """Pool responses of shape (batch, k, n_timepoints); return four tables."""
    pooled = pool_responses(responses.permute(1, 2, 0).contiguous(), thresholds)
    return PooledResponses(*pooled.features())


@st.composite
def cases(draw):
    """Responses and thresholds; whole numbers make many of them equal."""
    batch = draw(st.sampled_from([1, 2, 3, 31, 32, 33]))
    n_kernels = draw(st.integers(1, 23))
    n_timepoints = draw(st.sampled_from([1, 2, 3, 4, 5, 7, 8, 30, 71]))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    shape = batch, n_kernels, n_timepoints
    kind = draw(st.sampled_from(["distinct", "ties", "constant", "silence"]))
    if kind == "distinct":
        responses = rng.normal(size=shape)
        thresholds = rng.normal(size=(N_THRESHOLDS, n_kernels))
    elif kind == "ties":
        responses = rng.integers(-2, 3, size=shape)
        thresholds = rng.integers(-2, 3, size=(N_THRESHOLDS, n_kernels))
    elif kind == "constant":
        responses = np.broadcast_to(rng.integers(-1, 2, size=(*shape[:2], 1)), shape)
        thresholds = rng.integers(-1, 2, size=(N_THRESHOLDS, n_kernels))
    else:
        responses = np.zeros(shape)
        thresholds = np.zeros((N_THRESHOLDS, n_kernels))
    return responses.astype(np.float64), thresholds.astype(np.float64)


@few
@given(case=cases(), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_each_part_is_that_of_a_plain_loop(case, dtype):
    responses, thresholds = (torch.from_numpy(part.copy()).to(dtype) for part in case)
    pooled = pool(responses, thresholds)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    for number, series in enumerate(responses.tolist()):
        expected = PooledResponses(
            naive_ppv(series, thresholds.tolist()),
            naive_segment_ppv(series, thresholds.tolist()),
            naive_hydra_counts(series),
            naive_extremes(series),
        )
        for name in PooledResponses._fields:
            found = getattr(pooled, name)
            assert found.dtype == dtype
            assert_allclose(
                found[number],
                np.array(getattr(expected, name)),
                rtol=0,
                atol=tolerance,
                err_msg=name,
            )


@few
@given(case=cases())
def test_the_quarters_of_the_course_make_up_the_first_threshold(case):
    responses, thresholds = map(torch.from_numpy, map(np.array, case))
    n_kernels, n_timepoints = responses.shape[1:]
    if n_timepoints % 4:
        return
    pooled = pool(responses, thresholds)
    course = pooled.segment_ppv.reshape(-1, n_kernels, 4).mean(2)
    assert_allclose(course, pooled.ppv[:, :n_kernels], rtol=0, atol=1e-12)


@few
@given(case=cases())
def test_pooling_keeps_its_input_and_treats_series_separately(case):
    responses, thresholds = map(torch.from_numpy, map(np.array, case))
    before = responses.clone(), thresholds.clone()
    together = pool(responses, thresholds)
    assert torch.equal(responses, before[0])
    assert torch.equal(thresholds, before[1])
    for number in range(len(responses)):
        single = pool(responses[number : number + 1], thresholds)
        for mine, all_of_them in zip(single, together, strict=True):
            assert_allclose(mine[0], all_of_them[number], rtol=0, atol=1e-12)


@few
@given(case=cases(), cut=st.integers(1, 3))
def test_kernels_may_be_pooled_in_groups(case, cut):
    responses, thresholds = map(torch.from_numpy, map(np.array, case))
    responses = responses.permute(1, 2, 0).contiguous()
    expected = pool_responses(responses, thresholds)
    parts = [
        pool_responses(
            responses[start : start + 7 * cut], thresholds[:, start:][:, : 7 * cut]
        )
        for start in range(0, len(responses), 7 * cut)
    ]
    for found, whole in zip(PooledResponses.join(parts), expected, strict=True):
        assert torch.equal(found, whole)


def test_one_winner_at_each_time_point_where_no_two_responses_are_equal():
    rng = np.random.default_rng(0)
    responses = torch.from_numpy(rng.normal(size=(3, 84, 50)))
    pooled = pool(responses, torch.zeros(4, 84, dtype=torch.float64))
    shares = pooled.hydra_counts.square().reshape(3, 2, 12, 7).sum(3)
    assert_allclose(shares, 1, rtol=0, atol=1e-12)


def test_shares_do_not_notice_in_which_order_things_happen_but_the_course_does():
    rng = np.random.default_rng(1)
    responses = torch.from_numpy(rng.normal(size=(1, 14, 40)))
    thresholds = torch.from_numpy(rng.normal(size=(4, 14)))
    there = pool(responses, thresholds)
    back = pool(responses.flip(2), thresholds)
    for name in ("ppv", "hydra_counts", "extremes"):
        assert_allclose(getattr(back, name), getattr(there, name), atol=1e-12)
    course = there.segment_ppv.reshape(14, 4)
    assert_allclose(back.segment_ppv.reshape(14, 4), course.flip(1), atol=1e-12)
    assert not np.allclose(back.segment_ppv, there.segment_ppv)


@pytest.mark.parametrize("n_kernels", [1, 6, 7, 8, 16, 84])
def test_numbers_of_features(n_kernels):
    pooled = pool(torch.zeros(2, n_kernels, 10), torch.ones(4, n_kernels))
    assert [part.shape for part in pooled] == [
        (2, 4 * n_kernels),
        (2, 4 * n_kernels),
        (2, 2 * (n_kernels // 7 * 7)),
        (2, 2 * n_kernels),
    ]


# --- levels --------------------------------------------------------------------------

# The supremum for multiples of the golden ratio, in units of the mean gap. Random
# levels leave gaps of about log(count) of them.
LONGEST_GAP = 1 + 2 / math.sqrt(5)


def longest_gap(levels):
    """Return the longest gap between neighbours on a circle of length 1."""
    ordered = np.sort(levels)
    return np.diff(np.concatenate([ordered, [ordered[0] + 1]])).max()


@few
@given(count=st.integers(1, 2000), start=st.floats(0, 1, exclude_max=True))
def test_levels_leave_no_gap(count, start):
    levels = spread_levels(count, start).numpy()
    assert levels.shape == (count,)
    assert levels.dtype == np.float64
    assert (levels >= 0).all() and (levels < 1).all()
    assert longest_gap(levels) * count <= LONGEST_GAP


@few
@given(first=st.integers(0, 900), start=st.floats(0, 1, exclude_max=True))
def test_neighbouring_levels_are_spread_too(first, start):
    # Each threshold takes a run of the sequence, not the whole of it.
    levels = spread_levels(1000, start).numpy()[first : first + 84]
    assert longest_gap(levels) * 84 <= LONGEST_GAP


def test_levels_start_where_they_are_told():
    zero = spread_levels(50, 0.0).numpy()
    assert_allclose(zero, np.arange(1, 51) * (math.sqrt(5) - 1) / 2 % 1, atol=1e-12)
    moved = spread_levels(50, 0.25).numpy()
    assert_allclose(moved, (zero + 0.25) % 1, atol=1e-12)
    assert_array_equal(spread_levels(20, 0.25), moved[:20])
