# SPDX-License-Identifier: Apache-2.0
"""The fast path through the front end, against the plain one."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_v2s.perturbation import (
    Perturbation,
    ReprogrammedSource,
    collect_outputs,
)
from sklearn_v2s.placement import ReplicaPlacement, TonePlacement
from sklearn_v2s.sources import load_source
from sklearn_v2s.sources.contract import SourceModel
from sklearn_v2s.sources.fast import mel_kernels as compiled_mel
from sklearn_v2s.sources.fast.compiled import compiled_layers
from sklearn_v2s.sources.fast.shared_spectrogram import SharedSpectrogram
from sklearn_v2s.sources.front_end import FRONT_ENDS, LogMelFrontEnd

KAPRE = FRONT_ENDS["kapre"]


def generators(n_groups):
    return [torch.Generator().manual_seed(seed) for seed in range(n_groups)]


def noting(called, name):
    kernel = getattr(compiled_mel, name)

    def note(*arrays):
        called.append(name)
        kernel(*arrays)

    return note


def both_paths(front_end, placement, n_groups=1, dtype=torch.float32, seed=0):
    """Return features and gradients of a random sum, by the fast and the plain way."""
    rng = torch.Generator().manual_seed(seed)
    front_end = front_end.to(dtype)
    shape = 3, placement.n_channels, placement.n_timepoints
    placed = placement.place(torch.randn(shape, generator=rng).to(dtype))
    delta = torch.randn(n_groups, KAPRE.input_length, generator=rng).to(dtype) * 0.1
    gain = 0.5 + torch.rand(n_groups, generator=rng).to(dtype)
    size = front_end.config.n_frames, front_end.config.n_mels
    weight = torch.randn(3, n_groups, *size, generator=rng)
    shared = SharedSpectrogram(front_end.config, placement.mask())
    found = []
    for fast in (True, False):
        leaves = delta.clone().requires_grad_(), gain.clone().requires_grad_()
        if fast:
            spectra = shared.transform(front_end, placed)
            features = shared(front_end, spectra, *leaves)
        else:
            sums = leaves[1][:, None] * placed[:, None] + leaves[0]
            features = front_end(sums.flatten(0, 1)).unflatten(0, sums.shape[:2])
        loss = (features * weight.to(dtype)).mean()
        found.append((features.detach(), *torch.autograd.grad(loss, leaves)))
    return found


@st.composite
def placements(draw):
    n_channels = draw(st.integers(1, 3))
    n_timepoints = draw(st.integers(1, 3000))
    fits = (KAPRE.input_length // n_channels) // n_timepoints
    n_segments = draw(st.integers(1, min(10, fits)))
    return ReplicaPlacement(KAPRE.input_length, n_channels, n_timepoints, n_segments)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", FRONT_ENDS)
# The same draws in each run: where the slopes of a gain nearly cancel, as they do once
# in a thousand draws, float32 cannot be as exact by either path. That both are one for
# any placement is shown in float64, below.
@settings(max_examples=12, deadline=None, derandomize=True)
@given(placement=placements(), seed=st.integers(0, 99))
def test_features_and_gradients_are_those_of_the_plain_path(
    name, compiled, placement, seed
):
    front_end = LogMelFrontEnd(FRONT_ENDS[name])
    _, exact = both_paths(front_end, placement, 2, torch.float64, seed)
    with compiled_layers() if compiled else nullcontext():
        fast, plain = both_paths(front_end, placement, n_groups=2, seed=seed)
    # Where a series and a perturbation nearly cancel, the plain path is not exact to
    # 1e-5 itself, and there the fast one has to be as exact as that is elsewhere.
    rounding = 1e-5 * (1 + exact[0].abs())
    own_error = (plain[0] - exact[0]).abs()
    error = (fast[0] - exact[0]).abs()
    assert (error <= rounding.clamp_min(2 * float(own_error.max()))).all()
    assert ((fast[0] - plain[0]).abs() <= rounding).double().mean() > 0.999
    for mine, theirs in zip(fast[1:], plain[1:], strict=True):
        assert (mine - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def test_compiled_sums_of_silence_have_no_slope():
    # Magnitudes, whose slope is not defined there.
    front_end = LogMelFrontEnd(FRONT_ENDS["speech-cmd-recognition"])
    assert front_end.config.power == 1.0
    placement = ReplicaPlacement(KAPRE.input_length, 1, 300, 2)
    shared = SharedSpectrogram(front_end.config, placement.mask())
    spectra = shared.transform(front_end, placement.place(torch.zeros(2, 1, 300)))
    delta = torch.zeros(1, KAPRE.input_length, requires_grad=True)
    found = []
    for context in (compiled_layers(), nullcontext()):
        with context:
            bands = shared.mel(front_end, spectra, delta, torch.ones(1))
        (gradient,) = torch.autograd.grad(bands.sum(), delta)
        found.append((bands, gradient))
        assert torch.equal(gradient, torch.zeros_like(gradient))
    assert torch.equal(found[0][0], found[1][0])


@pytest.mark.parametrize("own_series", [False, True])
def test_compiled_sums_of_series_that_each_perturbation_has_for_itself(
    own_series, monkeypatch
):
    called = []
    for name in ("forward", "backward"):
        monkeypatch.setattr(compiled_mel, name, noting(called, name))
    front_end = LogMelFrontEnd(FRONT_ENDS["kapre"])
    placement = ReplicaPlacement(KAPRE.input_length, 1, 300, 2)
    shared = SharedSpectrogram(front_end.config, placement.mask())
    rng = torch.Generator().manual_seed(0)
    series = torch.randn(3, 2, 1, 300, generator=rng)
    if not own_series:
        series = series[:, :1].expand(-1, 2, -1, -1)
    placed = placement.place(series.flatten(0, 1)).unflatten(0, (3, 2))
    spectra = shared.transform(front_end, placed if own_series else placed[:, 0])
    delta = torch.randn(2, KAPRE.input_length, generator=rng).requires_grad_()
    gain = torch.tensor([0.5, 2.0], requires_grad=True)
    found = []
    for context in (compiled_layers(), nullcontext()):
        with context:
            bands = shared.mel(front_end, spectra, delta, gain)
        above = torch.randn(bands.shape, generator=torch.Generator().manual_seed(1))
        gradients = torch.autograd.grad(bands, (delta, gain), above)
        found.append([bands, *gradients])
    assert called == ["forward", "backward"]
    for mine, theirs in zip(*found, strict=True):
        assert (mine - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@pytest.mark.parametrize("name", FRONT_ENDS)
@settings(max_examples=20, deadline=None)
@given(placement=placements(), seed=st.integers(0, 99))
def test_in_float64_both_paths_are_one(name, placement, seed):
    front_end = LogMelFrontEnd(FRONT_ENDS[name])
    fast, plain = both_paths(front_end, placement, 3, torch.float64, seed)
    for mine, theirs in zip(fast, plain, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_gradients_against_finite_differences(power):
    # A small front end, for finite differences ask for each sample by itself.
    config = FRONT_ENDS["kapre" if power == 2.0 else "speech-cmd-recognition"]
    config = type(config)(
        **{**config.to_dict(), "input_length": 96, "n_fft": 32, "hop_length": 16}
        | {"pad_left": 8, "pad_right": 8, "n_mels": 4, "f_min": 500.0}
    )
    front_end = LogMelFrontEnd(config).double()
    placement = ReplicaPlacement(96, n_channels=1, n_timepoints=9, n_segments=2)
    shared = SharedSpectrogram(config, placement.mask())
    rng = torch.Generator().manual_seed(0)
    placed = placement.place(torch.randn(2, 1, 9, generator=rng, dtype=torch.float64))
    spectra = shared.transform(front_end, placed)
    delta = torch.randn(2, 96, generator=rng, dtype=torch.float64)
    gain = torch.tensor([0.5, 2.0], dtype=torch.float64)
    assert 0 < len(shared.touched) < config.n_frames
    torch.autograd.gradcheck(
        lambda delta, gain: shared(front_end, spectra, delta, gain),
        (delta.requires_grad_(), gain.requires_grad_()),
    )


def test_groups_with_series_of_their_own():
    front_end = LogMelFrontEnd(KAPRE)
    placement = ReplicaPlacement(KAPRE.input_length, 1, 200, 4)
    shared = SharedSpectrogram(KAPRE, placement.mask())
    rng = torch.Generator().manual_seed(0)
    spectra = [
        shared.transform(
            front_end, placement.place(torch.randn(3, 1, 200, generator=rng))
        )
        for _ in range(2)
    ]
    delta = torch.randn(2, KAPRE.input_length, generator=rng)
    gain = torch.tensor([1.0, 3.0])
    together = shared(front_end, torch.stack(spectra, dim=1), delta, gain)
    for group in range(2):
        single = shared(
            front_end,
            spectra[group],
            delta[group : group + 1],
            gain[group : group + 1],
        )
        torch.testing.assert_close(together[:, group], single[:, 0])


def make_module(n_groups=1, dtype=torch.float32, **placement):
    source = load_source("attrnn", dtype)
    return ReprogrammedSource(
        source,
        ReplicaPlacement(source.input_length, **placement),
        Perturbation(source.input_length, generators(n_groups), init_scale=0.1),
    ).to(dtype)


def test_outputs_of_the_module_are_those_of_the_waveforms():
    module = make_module(2, torch.float64, n_channels=1, n_timepoints=150)
    assert module.shared_spectrogram is not None
    series = np.random.default_rng(0).normal(size=(5, 1, 150))
    outputs = collect_outputs(module, series)
    with torch.no_grad():
        waveforms = module.waveforms(torch.from_numpy(series))
        logits, embedding = module.source(waveforms.flatten(0, 1))
    np.testing.assert_allclose(outputs.logits.reshape(10, -1), logits, atol=1e-9)
    np.testing.assert_allclose(outputs.embedding.reshape(10, -1), embedding, atol=1e-9)


def test_kept_spectra_give_what_their_series_give():
    module = make_module(n_channels=1, n_timepoints=60)
    series = np.random.default_rng(0).normal(size=(70, 1, 60)).astype(np.float32)
    rows = np.array([69, 3, 3, 0])
    expected = collect_outputs(module, series[rows])
    # The rows decide: what stands in their place is not looked at.
    with module.training_on(series):
        found = collect_outputs(module, np.zeros_like(series[rows]), rows=rows)
    np.testing.assert_array_equal(found.logits, expected.logits)
    again = collect_outputs(module, series[rows], rows=rows)
    np.testing.assert_array_equal(again.logits, expected.logits)


def test_the_budget_is_kept():
    module = make_module(n_channels=1, n_timepoints=60)
    series = np.zeros((10, 1, 60), dtype=np.float32)
    needed = module.spectra(series).nbytes
    assert module.spectra(series, budget=needed - 1) is None
    assert module.spectra(series, budget=needed) is not None
    touched = module.shared_spectrogram.touched
    assert needed == 2 * 10 * len(touched) * KAPRE.n_bins * 4


def test_who_takes_the_plain_path():
    class Louder(SourceModel):
        def forward(self, waveform):
            return super().forward(2 * waveform)

    source = load_source("attrnn")
    length = source.input_length
    louder = Louder(source.front_end, source.network, source.classes)
    tone = TonePlacement(length, 16000, n_channels=1)
    replicas = ReplicaPlacement(length, n_channels=1, n_timepoints=60)
    for model, placement, shares in (
        (source, replicas, True),
        (source, tone, False),
        (louder, replicas, False),
        (load_source("wavebank"), replicas, False),
    ):
        module = ReprogrammedSource(
            model, placement, Perturbation(length, generators(1))
        )
        assert (module.shared_spectrogram is not None) == shares
        spectra = module.spectra(np.zeros((2, 1, 60), np.float32))
        assert (spectra is not None) == shares
