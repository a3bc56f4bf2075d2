# SPDX-License-Identifier: Apache-2.0
"""The views that need no training, against what they say that they shorten."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.signal import hilbert

from sklearn_v2s.perturbation import Perturbation, ReprogrammedSource
from sklearn_v2s.placement import ReplicaPlacement, TonePlacement
from sklearn_v2s.sources import KernelBankConfig, load_source
from sklearn_v2s.sources.networks.wavebank import build_wavebank
from sklearn_v2s.views.base import content_order
from sklearn_v2s.views.build import VIEWS, build_view
from sklearn_v2s.views.level import LevelView
from sklearn_v2s.views.pooling import pool_responses, quantiles
from sklearn_v2s.views.source_views import SourceView, tone_view
from sklearn_v2s.views.wave import WaveView
from tests.tiny_source import TinySource

CPU = torch.device("cpu")

few = settings(max_examples=30, deadline=None)
both_waves = pytest.mark.parametrize("slope", [False, True], ids=["wave", "slope"])


def make_bank(dtype=torch.float64):
    """Return a source that takes 512 samples with 14 kernels."""
    config = KernelBankConfig(
        input_length=512, n_kernels=14, n_octaves=3, hop_length=32
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_wavebank(config, ["yes", "no"]).to(dtype)


def make_series(n=12, n_channels=1, n_timepoints=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n_channels, n_timepoints))


def make_wave(series, source=None, slope=False, seed=0):
    """Return a view fitted to `series`."""
    source = make_bank() if source is None else source
    view = WaveView(source, slope, *series.shape[1:], seed)
    view.fit(series, content_order(series, seed))
    return view


# --- wave and slope ------------------------------------------------------------------


def whole_second(view, source, series):
    """Compute each channel in a second of its own; keep the time where it sits."""
    if view.slope:
        changes = np.diff(series, axis=2)
        series = changes if changes.shape[2] else np.zeros_like(series)
    n_channels, n_timepoints = series.shape[1:]
    placement = ReplicaPlacement(512, n_channels, n_timepoints, n_segments=1)
    kinds = [[] for _ in range(4)]
    for channel in range(n_channels):
        one_channel = np.zeros_like(series)
        one_channel[:, channel] = series[:, channel]
        waveforms = placement.place(torch.from_numpy(one_channel))
        start = channel * (512 // n_channels)
        sits = slice(start, start + placement.segment_length)
        for index, dilation in enumerate(view.dilations):
            responses = source.front_end.responses(waveforms, dilation)
            responses = responses[:, view.chosen[channel]]
            pooled = pool_responses(
                responses[:, :, sits].permute(1, 2, 0).contiguous(),
                view.thresholds[channel, index],
            )
            for kind, part in zip(kinds, pooled.features(), strict=True):
                kind.append(part)
    return torch.cat([torch.cat(kind, dim=1) for kind in kinds], dim=1).numpy()


@both_waves
@pytest.mark.parametrize(
    ("n_channels", "n_timepoints"),
    [(1, 1), (1, 2), (1, 3), (1, 40), (1, 511), (1, 512), (3, 40), (3, 170)],
)
def test_the_shortcut_computes_what_the_whole_second_would(
    slope, n_channels, n_timepoints
):
    series = make_series(6, n_channels, n_timepoints)
    source = make_bank()
    view = make_wave(series, source, slope)
    # Exact up to the order of nine additions in float64.
    assert_allclose(
        view.features(series, CPU),
        whole_second(view, source, series),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("factor", [2, 2.7])
def test_a_series_longer_than_the_second_is_shortened_as_for_replicas(factor):
    series = make_series(4, 1, int(512 * factor))
    source = make_bank()
    view = make_wave(series, source)
    expected = whole_second(view, source, series)
    assert_allclose(view.features(series, CPU), expected, rtol=0, atol=1e-12)


@both_waves
@pytest.mark.parametrize("n_channels", [1, 3])
def test_channels_longer_than_their_share_are_resampled(slope, n_channels):
    series = make_series(4, n_channels, 700)
    view = make_wave(series, slope=slope)
    assert view.features(series, CPU).shape == (4, sum(view.block_sizes))
    # Averages of neighbours: what sums to zero within each of them has no effect.
    share = 512 // n_channels
    long = np.repeat(make_series(4, n_channels, share), 2, axis=2)
    tremble = long + np.tile([0.25, -0.25], share)
    view = make_wave(long)
    assert_allclose(
        view.features(tremble, CPU), view.features(long, CPU), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("dilation", [1, 4, 32])
def test_zeros_behind_a_series_do_not_change_its_responses(dilation):
    front_end = load_source("wavebank", torch.float64).front_end
    series = torch.from_numpy(make_series(3, 1, 100)[:, 0])
    silence = torch.zeros(3, 900, dtype=torch.float64)
    unfollowed = front_end.responses(series, dilation)
    followed = front_end.responses(torch.cat([series, silence], dim=1), dilation)
    assert_allclose(followed[:, :, :100], unfollowed, rtol=0, atol=1e-13)
    # The end of the series has an effect only within the reach of the kernel.
    assert followed[:, :, 100 + 4 * dilation :].abs().max() == 0
    assert followed[:, :, 100 : 100 + 4 * dilation].abs().max() > 0


@both_waves
@few
@given(
    rows=st.lists(st.integers(0, 69), min_size=1, max_size=30),
    n_timepoints=st.sampled_from([1, 5, 24, 150]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_responses_to_a_series_do_not_depend_on_its_batch(
    slope, rows, n_timepoints, dtype
):
    # Flat parts: many responses are equal, and stand on thresholds.
    series = make_series(70, 1, n_timepoints).clip(-0.5, 0.5)
    view = make_wave(series, load_source("wavebank", dtype), slope)
    features = view.features(series, CPU)
    assert features.dtype == str(dtype).removeprefix("torch.")
    assert_array_equal(view.features(series[rows], CPU), features[rows])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "n_timepoints"), [(20, 1100), (7, 5000)])
def test_long_series_have_the_same_features_in_any_batch(n, n_timepoints, dtype):
    series = make_series(n, 1, n_timepoints).clip(-0.5, 0.5)
    view = make_wave(series, load_source("wavebank", dtype))
    features = view.features(series, CPU)
    rows = np.random.default_rng(0).permutation(n)
    assert_array_equal(view.features(series[rows], CPU), features[rows])
    assert_array_equal(view.features(series[-1:], CPU), features[-1:])


def test_a_single_value_has_the_slope_of_a_flat_series():
    series = make_series(6, 1, 1)
    view = make_wave(series, slope=True)
    features = view.features(series, CPU)
    assert_array_equal(features, view.features(np.zeros_like(series), CPU))
    assert np.isfinite(features).all()
    # Three equal values have a wave, but their slope is zero.
    flat = np.repeat(series, 3, axis=2)
    features = make_wave(flat, slope=True).features(flat, CPU)
    assert np.ptp(features, axis=0).max() == 0
    assert np.ptp(make_wave(flat).features(flat, CPU), axis=0).max() > 0


def test_the_slope_does_not_depend_on_the_level():
    series = make_series()
    slope, wave = make_wave(series, slope=True), make_wave(series)
    raised = series + 4.0
    assert_allclose(
        slope.features(raised, CPU), slope.features(series, CPU), rtol=0, atol=1e-12
    )
    assert not np.allclose(wave.features(raised, CPU), wave.features(series, CPU))


@both_waves
@pytest.mark.parametrize("n_timepoints", [1, 8, 9, 10, 17, 18, 150, 512, 900])
def test_the_slowest_kernel_fits_into_the_series_and_no_slower_one_would(
    slope, n_timepoints
):
    view = WaveView(make_bank(), slope, 1, n_timepoints, 0)
    n_samples = min(n_timepoints - slope, 512)
    assert view.dilations == [2**power for power in range(len(view.dilations))]
    assert 8 * view.dilations[-1] <= max(8, n_samples - 1)
    assert 16 * view.dilations[-1] > n_samples - 1


def features_by_channel(view, features):
    """Return, of each kind, features by series, channel, and the rest."""
    edges = np.cumsum([0, *view.block_sizes])
    return [
        features[:, first:last].reshape(len(features), len(view.chosen), -1)
        for first, last in pairwise(edges)
    ]


@both_waves
@pytest.mark.parametrize("n_channels", [2, 3, 5])
def test_features_of_each_channel_depend_on_no_other(slope, n_channels):
    series = make_series(8, n_channels)
    view = make_wave(series, slope=slope)
    before = features_by_channel(view, view.features(series, CPU))
    for channel in range(n_channels):
        changed = series.copy()
        changed[:, channel] = changed[:, channel, ::-1] * 1.7
        after = features_by_channel(view, view.features(changed, CPU))
        for old, new in zip(before, after, strict=True):
            moved = (old != new).any(axis=(0, 2))
            assert_array_equal(moved, np.arange(n_channels) == channel)


@pytest.mark.parametrize("n_channels", [1, 2, 5, 11, 12, 13, 40, 200])
def test_many_channels_share_the_kernels(n_channels):
    source = load_source("wavebank")
    view = WaveView(source, False, n_channels, 30, 0)
    # Four shares above a threshold, four quarters, two wins and two extremes.
    bound = 12 * len(view.dilations) * max(84, 7 * n_channels)
    assert 0.75 * bound <= sum(view.block_sizes) <= bound
    used = np.bincount(view.chosen.flatten(), minlength=84)
    # No kernel is left out while another serves twice, but for the rest of a division.
    assert used.max() - used.min() <= 1
    for numbers in view.chosen.tolist():
        assert len(set(numbers)) == len(numbers)


def test_numbers_of_features_are_those_that_were_announced():
    for n_channels, n_timepoints in [(1, 1), (1, 40), (2, 9), (5, 100), (15, 40)]:
        series = make_series(3, n_channels, n_timepoints)
        for slope in (False, True):
            view = make_wave(series, slope=slope)
            found = view.features(series, CPU)
            assert found.shape == (3, sum(view.block_sizes))
            assert np.isfinite(found).all()


# --- thresholds ----------------------------------------------------------------------


@few
@given(n_timepoints=st.integers(1, 30), seed=st.integers(0, 999), ties=st.booleans())
def test_quantiles_are_those_of_numpy(n_timepoints, seed, ties):
    rng = np.random.default_rng(seed)
    responses = rng.normal(size=(4, 5, n_timepoints))
    if ties:
        responses = responses.round()
    levels = rng.random((4, 5))
    found = quantiles(torch.from_numpy(responses), torch.from_numpy(levels))
    for row in range(4):
        for kernel in range(5):
            expected = np.quantile(responses[row, kernel], levels[row, kernel])
            assert found[row, kernel].item() == pytest.approx(expected, abs=1e-12)


@both_waves
@pytest.mark.parametrize("n", [1, 3, 30])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_thresholds_lie_within_the_responses_to_training_series(slope, n, n_channels):
    source = make_bank()
    series = make_series(n, n_channels)
    view = make_wave(series, source, slope)
    inputs = np.diff(series, axis=2) if slope else series
    for channel in range(n_channels):
        for index, dilation in enumerate(view.dilations):
            responses = source.front_end.responses(
                torch.from_numpy(inputs[:, channel]), dilation
            )[:, view.chosen[channel]]
            low, high = responses.amin((0, 2)), responses.amax((0, 2))
            for threshold in view.thresholds[channel, index]:
                assert (threshold >= low).all()
                assert (threshold <= high).all()
    # They are not all the same: shares are neither all nor nothing.
    shares = view.features(series, CPU)[:, : view.block_sizes[0]]
    assert 0.3 < shares.mean() < 0.7
    assert ((shares > 0) & (shares < 1)).mean() > 0.8


@both_waves
def test_thresholds_depend_on_the_seed_and_not_on_order_or_repetition(slope):
    series = make_series(10)
    expected = make_wave(series, slope=slope).thresholds
    rng = np.random.default_rng(0)
    for rows in (rng.permutation(10), np.arange(10).repeat(2), [*range(10), 3, 3, 7]):
        assert torch.equal(make_wave(series[rows], slope=slope).thresholds, expected)
    other = make_wave(series, slope=slope, seed=1).thresholds
    assert (other != expected).double().mean() > 0.9


def test_thresholds_can_be_restored():
    series = make_series()
    view = make_wave(series)
    other = WaveView(make_bank(), False, 1, 40, seed=99)
    other.restore(view.arrays())
    assert_array_equal(other.features(series, CPU), view.features(series, CPU))


@pytest.mark.parametrize("shape", [(1, 2, 4, 14), (2, 3, 4, 14), (1, 1, 1, 1), (14,)])
def test_thresholds_of_another_shape_are_refused(shape):
    view = WaveView(make_bank(), False, 1, 40, seed=0)
    assert view.thresholds.shape == (1, 3, 4, 14)
    with pytest.raises(TypeError, match=r"thresholds has shape .*\(1, 3, 4, 14\)"):
        view.restore({"thresholds": np.zeros(shape)})
    with pytest.raises(TypeError, match=r"differs has shape \(2,\), expected \(4,\)"):
        LevelView(2).restore({"differs": np.zeros(2, dtype=bool)})


def test_a_source_without_a_kernel_bank_is_refused():
    with pytest.raises(ValueError, match=r"wave_source.*LogMelFrontEnd.*'wavebank'"):
        WaveView(load_source("attrnn"), False, 1, 40, 0)


# --- the order of the training series ------------------------------------------------


@few
@given(
    rows=st.lists(st.integers(0, 7), min_size=1, max_size=20),
    seed=st.integers(0, 2**63 - 1),
)
def test_only_content_decides_the_order(rows, seed):
    series = make_series(8, 2, 3)
    picked = series[rows]
    order = content_order(picked, seed)
    assert sorted(set(rows)) == sorted(np.array(rows)[order])
    everything = series[content_order(series, seed)]
    kept = [row for row in everything if any((row == other).all() for other in picked)]
    assert_array_equal(picked[order], np.array(kept))


def test_another_seed_gives_another_order():
    series = make_series(5, 1, 3)
    first = np.array([content_order(series, seed)[0] for seed in range(300)])
    # 60 expected of each
    assert np.bincount(first, minlength=5).min() > 35
    assert_array_equal(content_order(series, 7), content_order(series, 7))


def test_the_sign_of_zero_is_no_content():
    series = make_series(3, 1, 4)
    series[1] = 0.0
    twins = np.concatenate([series, -0.0 * series[1:2]])
    assert np.signbit(twins[3]).all() != np.signbit(twins[1]).all()
    for seed in range(5):
        assert len(content_order(twins, seed)) == 3
        assert_array_equal(
            twins[content_order(twins, seed)], series[content_order(series, seed)]
        )


def test_content_is_read_from_any_layout():
    series = make_series(6, 2, 5)
    strided = np.asfortranarray(series)
    assert_array_equal(content_order(strided, 0), content_order(series, 0))
    padded = series.copy()
    padded[2, :, 3:] = np.nan
    assert sorted(content_order(padded, 0)) == list(range(6))


# --- level ---------------------------------------------------------------------------


def make_level(series):
    view = LevelView(series.shape[1])
    view.fit(series, content_order(series, 0))
    return view


def standardise(series):
    centred = series - series.mean(axis=2, keepdims=True)
    return centred / centred.std(axis=2, keepdims=True)


def test_series_of_one_level_say_nothing():
    for series in (
        standardise(make_series(20, 2)),
        # As archives print them, with six digits.
        standardise(make_series(20, 2)).round(6),
        # Standardised with the other definition of the variance.
        standardise(make_series(20, 2)) * math.sqrt(39 / 40),
    ):
        view = make_level(series)
        assert view.block_sizes == [4]
        assert not view.features(series, CPU).any()
        # Not even where a later series has a level.
        assert not view.features(7.0 * series + 1.0, CPU).any()


def test_levels_are_mean_and_standard_deviation():
    series = make_series(20, 3) * np.array([1.0, 2.0, 3.0])[:, None] + 1.0
    view = make_level(series)
    expected = np.hstack([np.mean(series, axis=2), np.std(series, axis=2)])
    assert_allclose(view.features(series, CPU), expected, rtol=1e-12)


def test_only_levels_that_differ_are_features():
    shape = standardise(make_series(20, 3))
    # One channel in its mean, one in its scale, one in neither.
    rng = np.random.default_rng(0)
    shape[:, 0] += rng.normal(size=(20, 1))
    shape[:, 1] *= rng.uniform(0.5, 2, size=(20, 1))
    view = make_level(shape)
    features = view.features(shape, CPU)
    assert_array_equal(np.ptp(features, axis=0) > 0, [1, 0, 0, 0, 1, 0])
    assert_array_equal(features[:, [1, 2, 3, 5]], 0)
    other = LevelView(3)
    assert not other.features(shape, CPU).any()
    other.restore(view.arrays())
    assert_array_equal(other.features(shape, CPU), features)


def test_whether_levels_differ_does_not_depend_on_repetition():
    shape = standardise(make_series(2))
    series = np.concatenate([shape[:1] + 0.03, 10.0 * shape[1:]])
    once = make_level(series)
    often = make_level(series[[0] * 200 + [1]])
    assert_array_equal(often.differs, once.differs)


# --- tone ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("output", ["logits", "embedding", "both"])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_the_tone_has_no_perturbation(dtype, output, n_channels):
    source = TinySource().to(dtype).eval()
    series = make_series(5, n_channels)
    view = tone_view(source, output, n_channels, dtype)
    placed = TonePlacement(400, 16000, n_channels).place(
        torch.from_numpy(series).to(dtype)
    )
    with torch.no_grad():
        logits, embedding = source(placed)
    expected = {
        "logits": logits,
        "embedding": embedding,
        "both": torch.cat([logits, embedding], dim=1),
    }[output]
    found = view.features(series, CPU)
    assert view.block_sizes == [expected.shape[1]]
    assert_allclose(found, expected, rtol=0, atol=1e-6 if dtype.itemsize == 4 else 0)
    assert np.ptp(found, axis=0).min() > 1e-3


def test_the_tone_of_the_shipped_source_is_its_embedding():
    source = load_source("attrnn")
    series = make_series(3, 1, 60)
    placed = TonePlacement(16000, 16000, 1).place(torch.from_numpy(series).float())
    with torch.no_grad():
        expected = source(placed).embedding
    view = tone_view(source, "embedding", 1, torch.float32)
    assert_allclose(view.features(series, CPU), expected, rtol=0, atol=1e-6)


# --- the placement of the tone -------------------------------------------------------


def tone(series, n_channels=1, input_length=16000, sample_rate=16000):
    placement = TonePlacement(input_length, sample_rate, n_channels)
    return placement.place(torch.as_tensor(series))


def pitch_of(value, sample_rate=16000):
    """Return the pitch of a standardised value: 3 each way from 150 Hz to 6 kHz."""
    low, high = (
        math.log1p(share * sample_rate / 700) for share in (150 / 16000, 6000 / 16000)
    )
    height = (min(max(value, -3), 3) + 3) / 6
    return 700 * math.expm1(low + height * (high - low))


def loudest_pitch(samples, sample_rate=16000):
    window = np.hanning(len(samples))
    spectrum = np.abs(np.fft.rfft(samples * window, 2**18))
    return spectrum.argmax() * sample_rate / 2**18


def test_the_ends_of_the_range_are_150_and_6000_hertz():
    assert pitch_of(-3) == pytest.approx(150)
    assert pitch_of(3) == pytest.approx(6000)
    # A tenth of the values stands three standard deviations away from the mean.
    for sign, end, others in ((-1, 150, 1 / 3), (1, 6000, -1 / 3)):
        series = np.zeros((1, 1, 1000))
        series[..., 400:500] = sign
        samples = tone(series)[0].numpy()
        # 14,400 samples sound, 14.4 for each value.
        part = samples[800 + 405 * 144 // 10 : 800 + 495 * 144 // 10]
        assert loudest_pitch(part) == pytest.approx(end, rel=0.01)
        rest = samples[800 + 520 * 144 // 10 : 800 + 980 * 144 // 10]
        assert loudest_pitch(rest) == pytest.approx(pitch_of(others), rel=0.01)
        crossings = np.count_nonzero(np.diff(np.signbit(rest)))
        expected = 2 * pitch_of(others) * len(rest) / 16000
        assert crossings == pytest.approx(expected, abs=2)


def test_values_beyond_three_standard_deviations_stay_in_the_range():
    series = np.zeros((2, 1, 400))
    series[0, 0, 200:210] = 1.0
    series[1, 0, 200:210] = -1.0
    assert abs(standardise(series)).max() > 6
    samples = tone(series).numpy()
    part = slice(800 + 203 * 36, 800 + 208 * 36)
    assert loudest_pitch(samples[0, part]) == pytest.approx(6000, rel=0.03)
    crossings = np.count_nonzero(np.diff(np.signbit(samples[1, part])))
    assert crossings <= 2 * 150 * 180 / 16000 + 1


@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100])
def test_the_pitch_follows_the_series(sample_rate):
    time = np.linspace(0, 1, 200)
    series = np.sin(2 * np.pi * time) + 0.4 * np.cos(6 * np.pi * time)
    samples = tone(series[None, None], 1, sample_rate, sample_rate)[0].numpy()
    silence = round(0.05 * sample_rate)
    phase = np.unwrap(np.angle(hilbert(samples[silence:-silence])))
    pitch = np.diff(phase) * sample_rate / (2 * np.pi)
    course = np.interp(
        np.linspace(0, 199, len(pitch)),
        np.arange(200),
        (series - series.mean()) / series.std(),
    )
    expected = np.array([pitch_of(value, sample_rate) for value in course])
    inside = slice(len(pitch) // 20, -len(pitch) // 20)
    error = np.abs(pitch / expected - 1)[inside]
    assert np.quantile(error, 0.95) < 0.03


@few
@given(
    seed=st.integers(0, 999),
    n_timepoints=st.sampled_from([1, 2, 3, 50, 1000]),
    n_channels=st.integers(1, 4),
    scale=st.sampled_from([1e-12, 1.0, 1e12]),
    size=st.sampled_from([(400, 16000), (4000, 8000), (16000, 16000)]),
)
def test_a_tone_of_bounded_loudness_between_two_silences(
    seed, n_timepoints, n_channels, scale, size
):
    series = scale * make_series(2, n_channels, n_timepoints, seed)
    samples = tone(series, n_channels, *size)
    assert samples.shape == (2, size[0])
    assert samples.abs().max() <= 0.3
    assert samples.abs().max() > 0.2
    silence = round(0.05 * size[0])
    assert not samples[:, :silence].any()
    assert not samples[:, -silence:].any()
    assert samples[:, silence:-silence].any(1).all()


def test_the_tone_rises_and_falls_without_a_click():
    samples = tone(make_series(1))[0].numpy()
    # A hundredth of a second.
    assert abs(samples[800:810]).max() < 0.01
    assert abs(samples[-810:-800]).max() < 0.01
    assert abs(samples[960:-960]).max() > 0.29


@few
@given(
    seed=st.integers(0, 999),
    scale=st.sampled_from([1e-200, 1e-9, 0.3, 77.0, 1e9, 1e150]),
    shift=st.floats(-20, 20),
)
def test_the_tone_does_not_notice_scale_and_level(seed, scale, shift):
    series = make_series(2, 2, 60, seed)
    assert_allclose(
        tone(scale * (series + shift), 2), tone(series, 2), rtol=0, atol=1e-8
    )


def test_upside_down_is_another_tone():
    series = make_series(2)
    assert (tone(series) - tone(-series)).abs().max() > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_timepoints", [1, 2, 7, 100, 20_000])
@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -7.7, 1e30, 1e-30])
def test_a_constant_series_is_a_steady_tone(dtype, n_timepoints, value):
    constant = torch.full((1, 1, n_timepoints), value, dtype=dtype)
    samples = tone(constant)
    assert torch.equal(samples, tone(torch.zeros(1, 1, 3, dtype=dtype)))
    steady = samples[0, 1000:-1000].numpy()
    assert loudest_pitch(steady) == pytest.approx(pitch_of(0), rel=1e-3)
    phase = 2 * np.pi * pitch_of(0) * (np.arange(1, 14401) / 16000)
    expected = 0.3 * np.sin(phase)[200:-200]
    # In float32 the pitch is off by 1e-8, and the phase after a second by 1e-3.
    tolerance = 1e-8 if dtype == torch.float64 else 1e-3
    assert_allclose(steady, expected, rtol=0, atol=tolerance)


def test_what_is_more_than_rounding_changes_the_tone():
    constant = torch.full((1, 1, 50), 0.1)
    moved = constant.clone()
    moved[..., 20:30] *= 1.001
    assert (tone(moved) - tone(constant)).abs().max() > 0.1


def test_channels_sound_one_after_the_other():
    series = make_series(1, 3, 30)
    series[0, 1] = 0.0
    samples = tone(series, 3)
    # 4,800 samples for each; the phase goes on, so that a change affects later samples.
    changed = series.copy()
    changed[0, 2] = changed[0, 2, ::-1]
    difference = (tone(changed, 3) - samples)[0].abs()
    assert difference[: 800 + 9600].max() == 0
    assert difference[800 + 9600 : 16000 - 800].max() > 0.1
    middle = samples[0, 800 + 4800 : 800 + 9600].numpy()
    assert loudest_pitch(middle) == pytest.approx(pitch_of(0), rel=1e-3)
    # Each is standardised by itself.
    louder = series * np.array([3.0, 1.0, 50.0])[:, None] + 2.0
    assert_allclose(tone(louder, 3), samples, rtol=0, atol=1e-8)


def test_more_channels_than_samples_are_refused():
    message = r"X has 361 channels.*360 samples"
    with pytest.raises(ValueError, match=message):
        TonePlacement(400, 16000, n_channels=361)
    samples = tone(make_series(2, 360, 5), 360, 400)
    assert torch.isfinite(samples).all()
    assert samples.abs().max() <= 0.3


def test_the_tone_of_a_series_does_not_depend_on_the_others():
    series = make_series(5, 2)
    together = tone(series, 2)
    for number in range(5):
        single = tone(series[number : number + 1], 2)[0]
        assert_allclose(single, together[number], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_placing_keeps_precision_and_input(dtype):
    series = torch.from_numpy(make_series()).to(dtype)
    before = series.clone()
    assert tone(series).dtype == dtype
    assert torch.equal(series, before)
    assert_allclose(tone(series), tone(series.double()), rtol=0, atol=2e-3)


# --- together ------------------------------------------------------------------------


def test_views_are_built_by_name():
    source = TinySource().double()
    reprogrammed = ReprogrammedSource(
        source,
        ReplicaPlacement(source.input_length, n_channels=2, n_timepoints=40),
        Perturbation(source.input_length, [torch.Generator()]).double(),
    )
    built = {
        name: build_view(
            name,
            reprogrammed,
            source,
            make_bank(),
            source_output="embedding",
            mean_logits=False,
            n_folds=1,
            n_channels=2,
            n_timepoints=40,
            seed=0,
        )
        for name in VIEWS
    }
    kinds = [type(view) for view in built.values()]
    assert kinds == [SourceView, SourceView, WaveView, WaveView, LevelView]
    assert [built[name].slope for name in ("wave", "slope")] == [False, True]
