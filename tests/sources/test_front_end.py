# SPDX-License-Identifier: Apache-2.0
"""The front ends, against a float64 reference written from their specification."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.io import wavfile

from sklearn_v2s.sources.front_end import (
    FRONT_ENDS,
    FrontEndConfig,
    LogMelFrontEnd,
    mel_filter_bank,
)

NAMES = ["kapre", "speech-cmd-recognition"]


def torchaudio_or_skip():
    try:
        import torchaudio
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"torchaudio does not load here: {error}")
    return torchaudio


# --- the reference: nothing of the package is used below -----------------------------


def reference_filters(name):
    if name == "kapre":  # Slaney: linear up to 1 kHz, then 27 steps a factor of 6.4

        def to_mel(hertz):
            if hertz < 1000.0:
                return 3.0 * hertz / 200.0
            return 15.0 + 27.0 * np.log(hertz / 1000.0) / np.log(6.4)

        def to_hertz(mel):
            if mel < 15.0:
                return 200.0 * mel / 3.0
            return 1000.0 * 6.4 ** ((mel - 15.0) / 27.0)

    else:

        def to_mel(hertz):
            return 2595.0 * np.log10(1.0 + hertz / 700.0)

        def to_hertz(mel):
            return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)

    low, high = to_mel(40.0), to_mel(8000.0)
    edges = [to_hertz(low + (high - low) * i / 81.0) for i in range(82)]
    filters = np.zeros((80, 513))
    for band in range(80):
        left, top, right = edges[band : band + 3]
        for bin_ in range(513):
            hertz = bin_ * 8000.0 / 512.0
            if left < hertz <= top:
                filters[band, bin_] = (hertz - left) / (top - left)
            elif top < hertz < right:
                filters[band, bin_] = (right - hertz) / (right - top)
        if name == "kapre":
            filters[band] *= 2.0 / (right - left)
    return filters


@functools.cache
def reference_kernels(window_dtype):
    n = np.arange(1024)
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * n / 1024.0)
    hann = hann.astype(window_dtype).astype(np.float64)[:, None]
    # The product is reduced first: a cosine of a large angle is inexact.
    angle = 2.0 * np.pi * (np.outer(n, np.arange(513)) % 1024) / 1024.0
    return hann * np.cos(angle), hann * -np.sin(angle)


def reference_features(waveform, name, window_dtype="float64"):
    left, right = (448, 448) if name == "kapre" else (0, 896)
    padded = np.concatenate([np.zeros(left), waveform, np.zeros(right)])
    frames = np.stack([padded[128 * t : 128 * t + 1024] for t in range(125)])
    cosine, sine = reference_kernels(window_dtype)
    power = (frames @ cosine) ** 2 + (frames @ sine) ** 2
    filters = reference_filters(name)
    if name == "kapre":
        amplitude = np.sqrt(power @ filters.T)
        level = 10.0 * np.log10(np.maximum(amplitude, 1e-10))
        level = np.maximum(level - level.max(), -80.0)
    else:
        level = np.log(np.sqrt(power) @ filters.T + 1e-6)
    return (level - level.mean()) / (level.std() + 1e-10)


# -------------------------------------------------------------------------------------


def noise(seed=0, amplitude=0.1, n=16000):
    return np.random.default_rng(seed).normal(0.0, amplitude, n)


def tone(hertz=440.0, amplitude=0.5):
    return amplitude * np.sin(2.0 * np.pi * hertz * np.arange(16000) / 16000.0)


def click(n_samples=3):
    waveform = np.zeros(16000)
    waveform[8000 : 8000 + n_samples] = 0.9
    return waveform


def features_of(waveform, config, dtype=torch.float32):
    front_end = LogMelFrontEnd(config).to(dtype)
    return front_end(torch.from_numpy(waveform)[None].to(dtype))[0].numpy()


def sixteen_bit(waveform):
    return np.rint(waveform * 32767.0) / 32768.0


# Beside a tone the other bands hold little else than the rounding errors of a float32
# transform; the wrong mel scale, norm or exponent moves the features by 0.5 and more.
SIGNALS = {
    "noise": (noise(), 1e-4),
    "soft noise": (noise(1, 1e-3), 1e-4),
    "tone in noise": (tone() + noise(2, 0.05), 1e-4),
    "tone": (sixteen_bit(tone()), 1e-2),
    "sample": (click(1), 1e-4),
    "click": (click(), 1e-4),
    "burst": (click(400), 1e-4),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("signal", SIGNALS)
def test_agrees_with_the_reference(name, signal):
    waveform, tolerance = SIGNALS[signal]
    waveform = waveform.astype(np.float32).astype(np.float64)
    expected = reference_features(waveform, name)
    found = features_of(waveform, FRONT_ENDS[name])
    assert found.shape == (125, 80)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("signal", [*SIGNALS, "pure tone"])
def test_agrees_with_the_reference_in_float64(name, signal):
    waveform = tone() if signal == "pure tone" else SIGNALS[signal][0]
    # The window is kept in float32, as in the published systems; so has the reference.
    np.testing.assert_allclose(
        features_of(waveform, FRONT_ENDS[name], torch.float64),
        reference_features(waveform, name, "float32"),
        rtol=0,
        atol=1e-4,
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("word", ["bed", "seven", "yes"])
def test_agrees_with_the_reference_on_speech(name, word, shared):
    clips = sorted((shared / "gsc_mini" / word).glob("*.wav"))
    if not clips:
        pytest.skip(f"no clips in {shared / 'gsc_mini' / word}")
    for clip in clips[:2]:
        samples = wavfile.read(clip)[1][:16000] / 32768.0
        waveform = np.zeros(16000)
        waveform[: len(samples)] = samples
        expected = reference_features(waveform, name)
        exact = features_of(waveform, FRONT_ENDS[name], torch.float64)
        np.testing.assert_allclose(exact, expected, rtol=0, atol=1e-4)
        # In float32 some of the 10,000 values, in its quietest bands, are a bit off.
        error = np.abs(features_of(waveform, FRONT_ENDS[name]) - expected)
        assert error.max() < 5e-4
        assert np.quantile(error, 0.99) < 1e-4


def test_batch_rows_do_not_interact():
    front_end = LogMelFrontEnd(FRONT_ENDS["kapre"])
    batch = torch.from_numpy(np.stack([noise(0, 1.0), noise(1, 1e-3), click()])).float()
    together = front_end(batch)
    for row, waveform in zip(together, batch, strict=True):
        torch.testing.assert_close(row, front_end(waveform[None])[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_mel_filters_are_the_reference_filters(name):
    np.testing.assert_allclose(
        mel_filter_bank(FRONT_ENDS[name]), reference_filters(name), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(
    ("name", "norm", "scale"),
    [("kapre", "slaney", "slaney"), ("speech-cmd-recognition", None, "htk")],
)
def test_mel_filters_agree_with_torchaudio(name, norm, scale):
    torchaudio = torchaudio_or_skip()
    expected = torchaudio.functional.melscale_fbanks(
        513, 40.0, 8000.0, 80, 16000, norm=norm, mel_scale=scale
    ).T.numpy()
    # torchaudio computes the edges in float32.
    tolerance = 1e-4 * expected.max()
    found = mel_filter_bank(FRONT_ENDS[name])
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_kapre_agrees_with_torchaudio():
    torchaudio = torchaudio_or_skip()
    mel_power = torchaudio.transforms.MelSpectrogram(
        16000,
        n_fft=1024,
        win_length=1024,
        hop_length=128,
        f_min=40.0,
        f_max=8000.0,
        n_mels=80,
        window_fn=torch.hann_window,
        power=2.0,
        normalized=False,
        center=False,
        norm="slaney",
        mel_scale="slaney",
    )
    batch = torch.from_numpy(
        np.stack([noise(0, 1.0), noise(1, 0.01), click(1)])
    ).float()
    padded = torch.nn.functional.pad(batch, (448, 448))
    # In four dimensions top_db is taken for each clip, in three for the whole batch.
    level = torchaudio.transforms.AmplitudeToDB(stype="power", top_db=80)(
        mel_power(padded).sqrt()[:, None]
    )[:, 0]
    level = level - level.amax((-2, -1), keepdim=True)
    mean = level.mean((-2, -1), keepdim=True)
    std = level.std((-2, -1), unbiased=False, keepdim=True)
    expected = ((level - mean) / (std + 1e-10)).transpose(1, 2)
    found = LogMelFrontEnd(FRONT_ENDS["kapre"])(batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_features_are_standardised(name):
    config = FRONT_ENDS[name]
    assert config.n_frames == 125
    found = features_of(noise(), config, torch.float64)
    assert found.shape == (125, 80)
    assert abs(found.mean()) < 1e-12
    assert abs(found.std() - 1.0) < 1e-8


@pytest.mark.parametrize("name", NAMES)
def test_forward_is_features_of_the_spectrogram(name):
    front_end = LogMelFrontEnd(FRONT_ENDS[name])
    waveform = torch.from_numpy(noise())[None].float()
    spectrogram = front_end.spectrogram(waveform)
    assert spectrogram.shape == (1, FRONT_ENDS[name].n_bins, 125)
    assert torch.equal(front_end.features(spectrogram), front_end(waveform))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(
    first=st.floats(-10.0, 10.0),
    second=st.floats(-10.0, 10.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_spectrogram_is_linear(name, first, second, seed):
    front_end = LogMelFrontEnd(FRONT_ENDS[name]).double()
    x, y = torch.from_numpy(noise(seed, 1.0, 32000).reshape(2, 1, 16000))
    together = front_end.spectrogram(first * x + second * y)
    apart = first * front_end.spectrogram(x) + second * front_end.spectrogram(y)
    assert (together - apart).abs().max() < 1e-10


@settings(max_examples=25, deadline=None)
@given(exponent=st.floats(-3.0, 3.0), seed=st.integers(0, 2**32 - 1))
def test_kapre_features_forget_the_level(exponent, seed):
    front_end = LogMelFrontEnd(FRONT_ENDS["kapre"]).double()
    waveform = torch.from_numpy(noise(seed))[None]
    scaled = front_end(waveform * 10.0**exponent)
    torch.testing.assert_close(scaled, front_end(waveform), rtol=0, atol=1e-8)


ONE_FRAME = {"input_length": 1024, "pad_left": 0, "pad_right": 0}
EDGE_CASES = {
    "silence": ({}, np.zeros(16000)),
    "constant": ({}, np.full(16000, 0.3)),
    "one sample": ({}, click(1)),
    "hardly a sound": ({}, noise(0, 1e-10)),
    "very loud": ({}, noise(0, 1e4)),
    "one frame": (ONE_FRAME, noise(0, 0.1, 1024)),
    "one silent frame": (ONE_FRAME, np.zeros(1024)),
    "one frame, one band": (ONE_FRAME | {"n_mels": 1}, noise(0, 0.1, 1024)),
}


@pytest.mark.parametrize("case", EDGE_CASES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_gradient_are_finite(case, name, dtype):
    changes, samples = EDGE_CASES[case]
    config = FrontEndConfig(**(FRONT_ENDS[name].to_dict() | changes))
    front_end = LogMelFrontEnd(config).to(dtype)
    waveform = torch.from_numpy(samples).to(dtype)[None].requires_grad_()
    found = front_end(waveform)
    assert found.shape == (1, config.n_frames, config.n_mels)
    weights = torch.linspace(-1.0, 1.0, found.numel(), dtype=dtype).reshape(found.shape)
    (found * weights).sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(waveform.grad).all()


def test_silence_says_nothing():
    assert not features_of(np.zeros(16000), FRONT_ENDS["kapre"]).any()


@pytest.mark.parametrize("name", NAMES)
def test_gradient_passes_gradcheck(name):
    config = FrontEndConfig(
        input_length=96,
        n_fft=32,
        hop_length=16,
        pad_left=8,
        pad_right=8,
        n_mels=5,
        f_min=400.0,
        **{
            key: getattr(FRONT_ENDS[name], key)
            for key in ("mel_scale", "mel_norm", "power", "compression")
        },
    )
    front_end = LogMelFrontEnd(config).double()
    waveform = torch.from_numpy(noise(0, 0.1, 96)[None]).requires_grad_()
    assert torch.autograd.gradcheck(front_end, (waveform,))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_gradient_is_the_slope(name, seed):
    front_end = LogMelFrontEnd(FRONT_ENDS[name]).double()
    generator = torch.Generator().manual_seed(seed)
    waveform = torch.from_numpy(noise(seed))[None].requires_grad_()
    weights = torch.randn(125, 80, generator=generator, dtype=torch.float64)
    direction = torch.randn(1, 16000, generator=generator, dtype=torch.float64)

    def value(waveform):
        return (front_end(waveform) * weights).sum()

    (gradient,) = torch.autograd.grad(value(waveform), waveform)
    step = 1e-7
    with torch.no_grad():
        rise = value(waveform + step * direction) - value(waveform - step * direction)
    slope = float(rise) / (2.0 * step)
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mel_scale": "bark"},
        {"mel_norm": "area"},
        {"power": 3.0},
        {"compression": "pcen"},
        {"input_length": 100, "pad_left": 0, "pad_right": 0},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_refuses_what_it_cannot_compute(wrong):
    with pytest.raises(ValueError, match="front end:"):
        FrontEndConfig(**wrong)


@pytest.mark.parametrize("name", FRONT_ENDS)
@pytest.mark.parametrize("second", [0.1, 0.5, 0.875])
def test_a_click_is_in_the_frame_of_its_span(name, second):
    config = FRONT_ENDS[name]
    clip = torch.zeros(1, config.input_length)
    clip[0, int(second * config.sample_rate)] = 1.0
    front_end = LogMelFrontEnd(config)
    frame = front_end.mel(front_end.spectrogram(clip))[0].sum(1).argmax().item()
    start, end = config.span
    middle = start + (frame + 0.5) * (end - start) / config.n_frames
    assert abs(middle - second) <= config.hop_length / config.sample_rate


def test_config_survives_json_types():
    for config in FRONT_ENDS.values():
        assert FrontEndConfig(**config.to_dict()) == config


# --- slopes that we wrote ourselves --------------------------------------------------


def plain_standardise(mel):
    """Return what `LogMelFrontEnd.standardise` does, with the slopes of torch."""
    level = 5.0 * torch.log10(mel.clamp_min(1e-20))
    level = (level - level.amax((-2, -1), keepdim=True)).clamp_min(-80.0)
    centred = level - level.mean((-2, -1), keepdim=True)
    std = torch.sqrt(centred.square().mean((-2, -1), keepdim=True) + 1e-20)
    return centred / (std + 1e-10)


@pytest.mark.parametrize("case", ["noise", "floor", "silent frames", "equal maxima"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_slopes_of_decibels_are_those_of_torch(case, dtype):
    generator = torch.Generator().manual_seed(0)
    mel = torch.rand(3, 2, 12, 8, generator=generator, dtype=torch.float64)
    if case == "floor":
        # From far above to far below the floor of 80 dB.
        mel = 10 ** (24 * mel - 24)
    elif case == "silent frames":
        mel[:, :, 3:6] = 0.0
    elif case == "equal maxima":
        mel[..., 2, :3] = 2.0
    mel = mel.to(dtype)
    weights = torch.rand(mel.shape, generator=generator, dtype=torch.float64).to(dtype)
    front_end = LogMelFrontEnd(FRONT_ENDS["kapre"])
    slopes, values = [], []
    for standardise in (front_end.standardise, plain_standardise):
        leaf = mel.clone().requires_grad_()
        values.append(standardise(leaf))
        (values[-1] * weights).sum().backward()
        slopes.append(leaf.grad)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert_allclose(*(value.detach() for value in values), atol=tolerance)
    scale = float(slopes[1].abs().max())
    assert scale > 0
    assert_allclose(slopes[0] / scale, slopes[1] / scale, rtol=0, atol=tolerance)
