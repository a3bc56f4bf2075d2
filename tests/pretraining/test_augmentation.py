# SPDX-License-Identifier: Apache-2.0
"""Changes of speech that leave the word what it is."""

import dataclasses

import torch

from sklearn_v2s.pretraining.augmentation import Augmentation
from tests.speech_folders import RATE, sound

NOTHING = Augmentation(shift=0, speed=0, noise=0, gain=0, time_mask=0, mel_mask=0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def only(**strengths):
    return dataclasses.replace(NOTHING, **strengths)


def some_waveforms(batch=4):
    return torch.rand(batch, RATE, generator=generator(9)) * 2.0 - 1.0


def test_augmentation_keeps_the_shape_and_changes_the_sound():
    waveforms, features = some_waveforms(), torch.ones(4, 125, 80)
    loud = Augmentation().waveforms(waveforms, RATE, generator())
    masked = Augmentation().features(features, generator())
    assert loud.shape == waveforms.shape
    assert masked.shape == features.shape
    assert loud.dtype == masked.dtype == torch.float32
    assert (loud - waveforms).abs().max() > 0.1
    assert (masked == 0.0).any()


def test_augmentation_depends_on_its_generator_alone():
    waveforms, features = some_waveforms(), torch.ones(4, 125, 80)
    state = torch.get_rng_state()
    results = []
    for seed in (1, 1, 2):
        g = generator(seed)
        results.append(
            (
                Augmentation().waveforms(waveforms, RATE, g),
                Augmentation().features(features, g),
            )
        )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(waveforms, some_waveforms())
    for first, second, third in zip(*results, strict=True):
        assert torch.equal(first, second)
        assert not torch.equal(first, third)


def test_augmentation_of_no_strength_changes_nothing():
    waveforms = some_waveforms()
    features = torch.randn(4, 125, 80, generator=generator())
    assert torch.equal(NOTHING.features(features, generator()), features)
    found = NOTHING.waveforms(waveforms, RATE, generator())
    # The positions of the interpolation are float32: white noise shows that.
    torch.testing.assert_close(found, waveforms, rtol=0, atol=2e-3)
    assert (found - waveforms).abs().mean() < 1e-4


def test_shift_moves_a_click_within_its_bounds():
    clicks = torch.zeros(64, RATE)
    clicks[:, 8000] = 1.0
    moved = only(shift=0.1).waveforms(clicks, RATE, generator())
    places = moved.abs().argmax(1) - 8000
    assert places.abs().max() <= 1601
    assert places.min() < -800
    assert places.max() > 800


def test_speed_changes_the_pitch_within_its_bounds():
    tone = torch.from_numpy(sound(RATE, 1000.0)).float().expand(32, -1)
    fast = only(speed=0.1).waveforms(tone, RATE, generator())
    peak = (
        torch.fft.rfft(fast[:, 2000:14000] * torch.hann_window(12000)).abs().argmax(1)
    )
    hertz = peak * RATE / 12000
    assert 898 < hertz.min() < 950
    assert 1050 < hertz.max() < 1102


def test_gain_and_noise_stay_within_their_bounds():
    waveforms = some_waveforms(32)
    louder = only(gain=6.0).waveforms(waveforms, RATE, generator())
    decibel = 20.0 * torch.log10(louder.std(1) / waveforms.std(1))
    assert -6.01 < decibel.min() < -3.0
    assert 3.0 < decibel.max() < 6.01
    noisy = only(noise=0.02).waveforms(torch.zeros(64, RATE), RATE, generator()).std(1)
    assert 0.01 < noisy.max() < 0.021
    clean = int((noisy == 0.0).sum())
    assert 16 <= clean <= 48


def test_masks_are_whole_frames_and_bands():
    masked = only(time_mask=25, mel_mask=15).features(
        torch.ones(64, 125, 80), generator()
    )
    frames = (masked == 0.0).all(2)
    bands = (masked == 0.0).all(1)
    assert torch.equal(masked == 0.0, frames[:, :, None] | bands[:, None, :])
    assert 25 < frames.sum(1).max() <= 50
    assert 15 < bands.sum(1).max() <= 30
