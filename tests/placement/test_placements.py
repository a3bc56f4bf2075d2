# SPDX-License-Identifier: Apache-2.0
"""Placement against a plain loop, and the limits of what fits."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sklearn_v2s.placement import ReplicaPlacement

quick = settings(max_examples=60, deadline=None)


def reference_place(series, input_length, n_segments):
    """Copy sample by sample: copy s of a channel starts at s * (N // L // m) * L."""
    n_channels, length = len(series), len(series[0])
    share = input_length // n_channels
    waveform = [0.0] * input_length
    for channel in range(n_channels):
        for segment in range(n_segments):
            start = segment * (share // length // n_segments) * length
            for t in range(length):
                waveform[channel * share + start + t] = series[channel][t]
    return waveform


def random_series(n, n_channels, n_timepoints, seed=0):
    """Return series without a zero, so that silence can be told from sound."""
    generator = torch.Generator().manual_seed(seed)
    shape = (n, n_channels, n_timepoints)
    return torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5


@st.composite
def fitting(draw):
    """A placement that fits: input length, channels, series length, replicas."""
    n_channels = draw(st.integers(1, 4))
    length = draw(st.integers(1, 40))
    n_segments = draw(st.integers(1, 10))
    share = draw(st.integers(n_segments * length, n_segments * length + 90))
    input_length = n_channels * share + draw(st.integers(0, n_channels - 1))
    return input_length, n_channels, length, n_segments


@quick
@given(fitting(), st.integers(0, 9))
def test_copies_lie_where_the_plain_loop_puts_them(case, seed):
    input_length, n_channels, length, n_segments = case
    series = random_series(2, n_channels, length, seed)
    placed = ReplicaPlacement(input_length, n_channels, length, n_segments).place(
        series
    )
    expected = [
        reference_place(row.tolist(), input_length, n_segments) for row in series
    ]
    assert placed.tolist() == expected


@pytest.mark.parametrize(
    ("length", "n_segments", "starts"),
    [
        (24, 3, [0, 5328, 10656]),  # 16000 // 24 = 666 = 3 * 222
        (500, 3, [0, 5000, 10000]),  # 32 = 3 * 10 + 2: the end stays silent
        (2709, 5, [0, 2709, 5418, 8127, 10836]),
        (16000, 1, [0]),
    ],
)
def test_starts_of_the_released_code_at_one_second(length, n_segments, starts):
    assert ReplicaPlacement(16000, 1, length, n_segments).starts == starts


@quick
@given(
    st.integers(1, 500),
    st.integers(1, 5),
    st.integers(1, 120),
    st.integers(1, 50),
)
def test_too_many_segments_are_refused_with_the_largest_that_fits(
    input_length, n_channels, length, excess
):
    share = input_length // n_channels
    assume(share >= 1)
    largest = share // min(length, share)
    with pytest.raises(ValueError, match=f"n_segments={largest + excess}") as caught:
        ReplicaPlacement(input_length, n_channels, length, largest + excess)
    named = int(str(caught.value).rstrip(".").split()[-1])
    placement = ReplicaPlacement(input_length, n_channels, length, named)
    # The copies that fit touch as many samples as they have: none overlaps another.
    touched = (~placement.mask()).sum().item()
    assert touched == n_channels * named * placement.segment_length
    with pytest.raises(ValueError, match="n_segments"):
        ReplicaPlacement(input_length, n_channels, length, named + 1)


def test_more_channels_than_samples_are_refused():
    with pytest.raises(ValueError, match=r"5 channels.*4 samples.*at most 4 channels"):
        ReplicaPlacement(4, n_channels=5, n_timepoints=1)
    placed = ReplicaPlacement(4, n_channels=4, n_timepoints=1).place(
        torch.tensor([[[1.0], [2.0], [3.0], [4.0]]])
    )
    assert placed.tolist() == [[1.0, 2.0, 3.0, 4.0]]


@pytest.mark.parametrize(
    ("length", "segments"),
    [(1, 8), (24, 8), (50, 8), (51, 7), (100, 4), (399, 1), (400, 1), (401, 1)],
)
def test_auto_takes_eight_or_as_many_as_fit(length, segments):
    assert ReplicaPlacement(400, 1, length, "auto").n_segments == segments
    assert ReplicaPlacement(400, 1, length).n_segments == segments


def test_a_series_as_long_as_the_waveform_is_the_waveform():
    series = random_series(3, 1, 400)
    placement = ReplicaPlacement(400, 1, 400)
    assert not placement.resamples
    assert torch.equal(placement.place(series), series[:, 0])


@pytest.mark.parametrize("factor", [2, 3, 250])
def test_a_series_too_long_by_a_whole_factor_becomes_averages_of_blocks(factor):
    series = random_series(2, 1, 400 * factor)
    placed = ReplicaPlacement(400, 1, 400 * factor).place(series)
    expected = series.reshape(2, 400, factor).mean(2)
    torch.testing.assert_close(placed, expected, rtol=1e-13, atol=0)


@quick
@given(st.integers(2, 30), st.integers(1, 60), st.integers(0, 9))
def test_a_series_too_long_becomes_averages_of_neighbours(room, excess, seed):
    length = room + excess
    series = random_series(1, 1, length, seed)
    placed = ReplicaPlacement(room, 1, length).place(series)[0]
    values = series[0, 0].tolist()
    for i in range(room):
        # Every time point that overlaps the i-th part of the series.
        first, last = i * length // room, -(-(i + 1) * length // room)
        assert placed[i].item() == pytest.approx(np.mean(values[first:last]), rel=1e-12)


def test_a_very_long_series_keeps_its_level_and_its_order():
    trend = torch.linspace(0.0, 1.0, 100_000, dtype=torch.float64)[None, None]
    placed = ReplicaPlacement(16000, 1, 100_000).place(trend)[0]
    assert placed.shape == (16000,)
    assert (placed.diff() > 0).all()
    assert placed.mean().item() == pytest.approx(0.5, abs=1e-4)


def test_one_time_point():
    placement = ReplicaPlacement(10, 1, 1, 3)
    assert placement.starts == [0, 3, 6]
    placed = placement.place(torch.tensor([[[2.0]]]))
    assert placed.tolist() == [[2.0, 0, 0, 2.0, 0, 0, 2.0, 0, 0, 0]]


@pytest.mark.parametrize("n_timepoints", [10, 100, 1000])
def test_channels_keep_to_their_share(n_timepoints):
    series = random_series(2, 3, n_timepoints)
    placement = ReplicaPlacement(400, 3, n_timepoints)
    whole = placement.place(series)
    for channel in range(3):
        one_channel = torch.zeros_like(series)
        one_channel[:, channel] = series[:, channel]
        placed = placement.place(one_channel)
        share = slice(channel * 133, (channel + 1) * 133)
        assert torch.equal(placed[:, share], whole[:, share])
        placed[:, share] = 0
        assert not placed.any()


def test_each_channel_is_resampled_to_its_share():
    series = random_series(1, 2, 400)
    placed = ReplicaPlacement(400, 2, 400).place(series)
    expected = series.reshape(2, 200, 2).mean(2).reshape(1, 400)
    torch.testing.assert_close(placed, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("length", [24, 400])
def test_no_warning_where_series_fit(length):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ReplicaPlacement(400, 1, length).warn_if_resampling()


def test_one_warning_where_series_do_not_fit():
    placement = ReplicaPlacement(400, 2, 201)
    with pytest.warns(
        UserWarning, match="201 time points in 2 channel.*to 200"
    ) as seen:
        placement.warn_if_resampling()
        placement.place(random_series(2, 2, 201))
        placement.place(random_series(2, 2, 201))
    assert len(seen) == 1


@quick
@given(fitting(), st.booleans())
def test_the_mask_is_the_complement_of_what_series_touch(case, too_long):
    input_length, n_channels, length, n_segments = case
    if too_long:
        length, n_segments = input_length + length, 1
    placement = ReplicaPlacement(input_length, n_channels, length, n_segments)
    touched = placement.place(random_series(1, n_channels, length))[0] != 0
    assert placement.mask().dtype == torch.bool
    assert torch.equal(placement.mask(), ~touched)


@quick
@given(fitting(), st.booleans(), st.integers(0, 9))
def test_placing_is_linear(case, too_long, seed):
    input_length, n_channels, length, n_segments = case
    if too_long:
        length, n_segments = input_length + length, 1
    placement = ReplicaPlacement(input_length, n_channels, length, n_segments)
    one = random_series(2, n_channels, length, seed)
    other = random_series(2, n_channels, length, seed + 100)
    torch.testing.assert_close(
        placement.place(2.5 * one - 1.5 * other),
        2.5 * placement.place(one) - 1.5 * placement.place(other),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_placing_keeps_precision_and_input(dtype):
    series = random_series(2, 1, 20).to(dtype)
    before = series.clone()
    assert ReplicaPlacement(400, 1, 20).place(series).dtype == dtype
    assert torch.equal(series, before)
