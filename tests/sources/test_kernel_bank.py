# SPDX-License-Identifier: Apache-2.0
"""The kernel bank, against plain loops in float64 and torch's convolution."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch.nn import functional

from sklearn_v2s.pretraining import PretrainingSettings
from sklearn_v2s.runtime.tensor_file import read_tensor_file, write_tensor_file
from sklearn_v2s.sources import (
    CheckpointError,
    FrontEndConfig,
    KernelBankConfig,
    KernelBankFrontEnd,
    check_source,
    load_checkpoint,
    load_source,
    save_checkpoint,
)
from sklearn_v2s.sources.networks.wavebank import build_wavebank

SMALL = KernelBankConfig(input_length=512, n_kernels=14, n_octaves=3, hop_length=32)

few = settings(max_examples=40, deadline=None)


def make_front_end(config=SMALL, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return KernelBankFrontEnd(config)


def make_source(seed=0, config=SMALL):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_wavebank(config, ["yes", "no", "up"]).eval()


def noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


# --- responses -----------------------------------------------------------------------


def naive_responses(waveforms, kernels, dilation, stride):
    """Multiply and add, tap by tap; outside a waveform there is silence."""
    n_samples, half = waveforms.shape[1], kernels.shape[1] // 2
    centres = range(0, n_samples, stride)
    found = np.zeros((len(waveforms), len(kernels), len(centres)))
    for row, waveform in enumerate(waveforms):
        for number, kernel in enumerate(kernels):
            for i, centre in enumerate(centres):
                for tap, factor in enumerate(kernel):
                    sample = centre + (tap - half) * dilation
                    if 0 <= sample < n_samples:
                        found[row, number, i] += factor * waveform[sample]
    return found


@few
@given(
    n_samples=st.integers(1, 60),
    dilation=st.sampled_from([1, 2, 3, 8, 64]),
    stride=st.integers(1, 5),
    kernel_length=st.sampled_from([3, 9, 11]),
    chosen=st.lists(st.integers(0, 6), min_size=1, max_size=9),
    seed=st.integers(0, 99),
)
def test_responses_are_those_of_a_plain_loop(
    n_samples, dilation, stride, kernel_length, chosen, seed
):
    config = KernelBankConfig(n_kernels=7, kernel_length=kernel_length)
    front_end = make_front_end(config, seed).double()
    waveforms = noise(2, n_samples, seed=seed)
    found = front_end.responses(waveforms, dilation, stride)
    kernels = front_end.kernels.numpy()
    expected = naive_responses(waveforms.numpy(), kernels, dilation, stride)
    assert_allclose(found, expected, rtol=0, atol=1e-12)
    expected = naive_responses(waveforms.numpy(), kernels[chosen], dilation, 1)
    met = []
    for some, beside in front_end.responses_in_columns(
        waveforms.T, dilation, torch.tensor(chosen), 3
    ):
        met += chosen[some]
        assert_allclose(beside.permute(2, 0, 1), expected[:, some], rtol=0, atol=1e-12)
    assert met == chosen


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)]
)
@pytest.mark.parametrize("dilation", [1, 4, 128, 1024])
@pytest.mark.parametrize(("n_samples", "stride"), [(1, 1), (150, 1), (16000, 64)])
def test_responses_are_those_of_a_convolution(
    dtype, tolerance, dilation, n_samples, stride
):
    front_end = load_source("wavebank", dtype).front_end
    waveforms = noise(3, n_samples).to(dtype)
    expected = functional.conv1d(
        waveforms[:, None],
        front_end.kernels[:, None],
        stride=stride,
        padding=4 * dilation,
        dilation=dilation,
    )
    found = front_end.responses(waveforms, dilation, stride)
    assert found.shape == (3, 84, -(-n_samples // stride))
    assert_allclose(found, expected, rtol=0, atol=tolerance)
    numbers = torch.tensor([80, 3, 3])
    ((_, some),) = front_end.responses_in_columns(
        waveforms.T, dilation, numbers, len(numbers)
    )
    assert_allclose(
        some[:, ::stride].permute(2, 0, 1), expected[:, numbers], rtol=0, atol=tolerance
    )


@few
@given(
    seed=st.integers(0, 99),
    n_samples=st.integers(1, 200),
    dilation=st.integers(1, 70),
    factors=st.tuples(st.floats(-10, 10), st.floats(-10, 10)),
)
def test_responses_are_linear(seed, n_samples, dilation, factors):
    front_end = make_front_end(seed=seed).double()
    one, other = noise(2, 2, n_samples, seed=seed)
    a, b = factors
    found = front_end.responses(a * one + b * other, dilation)
    expected = a * front_end.responses(one, dilation)
    expected = expected + b * front_end.responses(other, dilation)
    assert_allclose(found, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", ["random", "learned", "shipped"])
def test_kernels_have_mean_zero_and_length_one(kind):
    if kind == "shipped":
        front_end = load_source("wavebank").front_end
    else:
        front_end = make_front_end()
        if kind == "learned":
            clips = noise(20, 512).float()
            front_end.learn(clips, torch.Generator().manual_seed(0))
    kernels = front_end.kernels.double()
    assert_allclose(kernels.mean(1), 0, atol=1e-7)
    assert_allclose(kernels.norm(dim=1), 1, atol=1e-6)


# --- features ------------------------------------------------------------------------


def reference_features(waveform, front_end):
    """Mean magnitude of each frame, logarithm, standardised over the clip."""
    config = front_end.config
    rows = []
    for octave in range(config.n_octaves):
        dilation = 2**octave
        stride = dilation // 2 if octave else 1
        for kernel in front_end.kernels.double().numpy():
            spread = np.zeros((config.kernel_length - 1) * dilation + 1)
            spread[::dilation] = kernel
            half = len(spread) // 2
            padded = np.pad(waveform, half)
            magnitude = np.abs(np.correlate(padded, spread, mode="valid"))
            rows.append(
                [
                    magnitude[frame : frame + config.hop_length : stride].mean()
                    for frame in range(
                        0,
                        config.n_frames * config.hop_length,
                        config.hop_length,
                    )
                ]
            )
    level = np.log(np.array(rows).T + 1e-5)
    return (level - level.mean()) / (level.std() + 1e-10)


def burst():
    waveform = np.zeros(512)
    waveform[200:260] = np.sin(np.arange(60)) * np.hanning(60)
    return waveform


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        KernelBankConfig(
            input_length=512, n_kernels=7, kernel_length=5, n_octaves=5, hop_length=48
        ),
    ],
    ids=["small", "odd rest"],
)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)]
)
@pytest.mark.parametrize("signal", ["noise", "soft noise", "burst"])
def test_features_agree_with_the_reference(config, dtype, tolerance, signal):
    front_end = make_front_end(config, seed=3).to(dtype)
    waveform = {
        "noise": noise(512).numpy(),
        "soft noise": 1e-4 * noise(512).numpy(),
        "burst": burst(),
    }[signal]
    found = front_end(torch.from_numpy(waveform).to(dtype)[None])[0]
    assert found.shape == (512 // config.hop_length, config.n_channels)
    expected = reference_features(waveform, front_end)
    assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_features_of_the_shipped_source_agree_with_the_reference():
    front_end = load_source("wavebank").front_end
    waveform = 0.1 * noise(16000).numpy()
    waveform[:5000] *= 0.01
    found = front_end(torch.from_numpy(waveform).float()[None])[0]
    expected = reference_features(waveform, front_end)
    assert found.shape == (125, 672)
    assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_features_of_a_clip_do_not_depend_on_the_others():
    front_end = make_front_end()
    clips = noise(5, 512).float()
    together = front_end(clips)
    for number in range(5):
        assert torch.equal(front_end(clips[number : number + 1])[0], together[number])
    assert torch.equal(front_end(clips.flip(0)), together.flip(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "waveform",
    [np.zeros(512), np.full(512, 0.7), np.eye(512)[250], 1e4 * noise(512).numpy()],
    ids=["silence", "constant", "one sample", "very loud"],
)
def test_value_and_gradient_are_finite(waveform, dtype):
    clip = torch.from_numpy(waveform).to(dtype)[None].requires_grad_()
    features = make_front_end().to(dtype)(clip)
    assert torch.isfinite(features).all()
    features.square().sum().backward()
    assert torch.isfinite(clip.grad).all()


def test_gradient_is_the_slope():
    front_end = make_front_end().double()
    waveform = noise(2, 512).requires_grad_()
    weights = noise(2, SMALL.n_frames, SMALL.n_channels, seed=1)

    def value(waveform):
        return (front_end(waveform) * weights).sum()

    (gradient,) = torch.autograd.grad(value(waveform), waveform)
    for seed in range(5):
        direction = noise(2, 512, seed=10 + seed)
        errors = []
        # So small that hardly a response changes its sign on the way; should one do so
        # in the first step, it will not in the second.
        for step in (1e-6, 1e-7):
            with torch.no_grad():
                rise = value(waveform + step * direction)
                rise = float(rise - value(waveform - step * direction))
            exact = float((gradient * direction).sum())
            errors.append(abs(rise / (2 * step) / exact - 1))
        assert abs(exact) > 1e-3
        assert min(errors) < 1e-5


def test_gradient_passes_gradcheck():
    config = KernelBankConfig(
        input_length=40, n_kernels=7, kernel_length=3, n_octaves=2, hop_length=10
    )
    front_end = make_front_end(config).double()
    waveform = noise(2, 40).requires_grad_()
    assert torch.autograd.gradcheck(front_end, (waveform,))


# --- learning ------------------------------------------------------------------------


def learned(seed, clips, config=SMALL, start=0):
    front_end = make_front_end(config, seed=start)
    front_end.learn(clips, torch.Generator().manual_seed(seed))
    return front_end.kernels


def test_learning_depends_on_the_generator_only():
    clips = noise(20, 512).float()
    before = clips.clone()
    state = torch.random.get_rng_state()
    kernels = learned(5, clips)
    assert torch.equal(kernels, learned(5, clips, start=1))
    assert not torch.equal(kernels, learned(6, clips))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(clips, before)


def test_learning_changes_the_kernels_in_place():
    front_end = make_front_end()
    before, buffer = front_end.kernels.clone(), front_end.kernels
    front_end.learn(noise(20, 512).float(), torch.Generator().manual_seed(0))
    assert front_end.kernels is buffer
    assert (front_end.kernels - before).norm(dim=1).min() > 0.01
    assert not front_end.kernels.requires_grad


def test_learning_finds_what_the_clips_are_made_of():
    # Nine taps hold three periods of three samples, whatever the shift, and at a
    # distance of two the same in another order: all patches are equally loud.
    words = np.array([[1.0, 0.2, -1.2], [1.0, -0.9, -0.1]])
    planted = []
    for word in words:
        for shift in range(3):
            for dilation in (1, 2):
                patch = word[(shift + dilation * np.arange(9)) % 3]
                planted.append(patch / np.linalg.norm(patch))
    planted = np.array(planted)
    loud = [np.tile(word, 171)[:512] for word in words]
    rng = np.random.default_rng(0)
    clips = np.array(
        [rng.uniform(0.5, 5) * loud[number % 2] + number for number in range(40)]
        # What is quiet must not teach anything.
        + [1e-3 * rng.normal(size=512) for _ in range(10)]
    )
    config = KernelBankConfig(
        input_length=512, n_kernels=84, n_octaves=2, hop_length=32
    )
    kernels = learned(0, torch.from_numpy(clips).float(), config).double().numpy()
    similarity = kernels @ planted.T
    assert_allclose(similarity.max(axis=1), 1, atol=1e-5)
    assert_allclose(similarity.max(axis=0), 1, atol=1e-5)


def test_learned_kernels_are_nearer_to_the_patches_than_others():
    clips = noise(60, 512).cumsum(1).float()
    config = KernelBankConfig(
        input_length=512, n_kernels=14, n_octaves=1, hop_length=32
    )

    def patches_of(clips):
        patches = clips.unfold(1, 9, 7).flatten(0, 1)
        patches = patches - patches.mean(1, keepdim=True)
        return patches / patches.norm(dim=1, keepdim=True)

    patches = patches_of(noise(20, 512, seed=1).cumsum(1).float())

    def nearness(kernels):
        return float((patches @ kernels.T).amax(1).mean())

    random = [nearness(make_front_end(config, seed).kernels) for seed in range(5)]
    # Patches as they are, the first guess of the clustering.
    drawn = [nearness(patches_of(clips)[start::300][:14]) for start in range(5)]
    for seed in range(3):
        found = nearness(learned(seed, clips, config))
        assert found > max(random) + 0.1
        assert found > max(drawn) + 0.02


@pytest.mark.parametrize(
    ("clips", "config", "message"),
    [
        pytest.param(torch.zeros(5, 512), SMALL, "patches", id="silence"),
        pytest.param(
            noise(2, 512).float(),
            KernelBankConfig(
                input_length=512, n_kernels=300, n_octaves=1, hop_length=32
            ),
            "300 kernels.*56",
            id="fewer patches than kernels",
        ),
        pytest.param(
            noise(20, 512).float(),
            KernelBankConfig(input_length=512),
            "512 samples",
            id="clips shorter than the slowest kernel",
        ),
    ],
)
def test_learning_from_too_little_is_a_clear_error(clips, config, message):
    with pytest.raises(ValueError, match=message):
        learned(0, clips, config)


# --- configuration -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kernel_length": 8}, r"kernel_length must be odd.*got 8"),
        ({"kernel_length": 1}, r"kernel_length .*got 1"),
        ({"kernel_length": -3}, r"kernel_length .*got -3"),
        ({"n_kernels": 6}, r"n_kernels must be at least 7, got 6"),
        ({"n_octaves": 0}, r"n_octaves .*got 0"),
        ({"n_octaves": -1}, r"n_octaves .*got -1"),
        ({"hop_length": 100}, r"hop_length must be a .*multiple of 64 .*got 100"),
        ({"hop_length": 0}, r"hop_length .*got 0"),
        ({"hop_length": -128}, r"hop_length .*got -128"),
        ({"n_octaves": 9, "hop_length": 64}, r"multiple of 128 for n_octaves=9.*64"),
        ({"input_length": 127}, r"127 samples are shorter than one frame of 128"),
    ],
    ids=str,
)
def test_refuses_what_it_cannot_compute(wrong, message):
    with pytest.raises(ValueError, match=f"front end: .*{message}"):
        KernelBankConfig(**wrong)


@pytest.mark.parametrize(
    ("n_octaves", "hop_length"), [(1, 1), (2, 1), (3, 2), (8, 64), (8, 192)]
)
def test_frames_and_channels_are_counted_right(n_octaves, hop_length):
    config = KernelBankConfig(
        input_length=777, n_kernels=8, n_octaves=n_octaves, hop_length=hop_length
    )
    features = make_front_end(config)(noise(1, 777).float())
    assert features.shape == (1, config.n_frames, config.n_channels)
    assert config.n_frames == 777 // hop_length
    assert config.n_channels == 8 * n_octaves


def test_config_survives_json_types():
    for config in (SMALL, KernelBankConfig()):
        assert KernelBankConfig(**config.to_dict()) == config


# --- as a source ---------------------------------------------------------------------


def test_an_untrained_wavebank_meets_the_contract():
    source = make_source()
    assert check_source(source) is source
    assert source.embedding_size == 128
    logits, embedding = source(noise(3, 512).float())
    assert logits.shape == (3, 3)
    assert_allclose(
        logits.detach(),
        (embedding @ source.network.output.weight.T + source.network.output.bias)
        .detach()
        .numpy(),
        atol=1e-5,
    )


def test_the_shipped_wavebank_is_frozen_and_distinguishes_sounds():
    source = load_source("wavebank")
    assert not any(parameter.requires_grad for parameter in source.parameters())
    time = np.arange(16000) / 16000
    tones = [0.3 * np.sin(2 * np.pi * pitch * time) for pitch in (200, 3000)]
    with torch.no_grad():
        low, high = source(torch.tensor(np.array(tones)).float()).embedding
    assert float((low - high).norm()) > 1


def test_a_checkpoint_keeps_every_bit(tmp_path):
    source = make_source(seed=4)
    source.front_end.learn(noise(20, 512).float(), torch.Generator().manual_seed(0))
    path = tmp_path / "bank.safetensors"
    sha256 = save_checkpoint(path, source, {"corpus": "none"})
    state = torch.random.get_rng_state()
    loaded, card, found = load_checkpoint(path, sha256)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (card, found) == ({"corpus": "none"}, sha256)
    assert loaded.architecture == "wavebank"
    assert loaded.front_end.config == SMALL
    assert loaded.classes == ("yes", "no", "up")
    assert torch.equal(loaded.front_end.kernels, source.front_end.kernels)
    clips = noise(2, 512).float()
    for mine, theirs in zip(loaded.eval()(clips), source(clips), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("front_end", "message"),
    [
        pytest.param(
            FrontEndConfig().to_dict(), "front end that this version", id="log-mel"
        ),
        pytest.param(
            SMALL.to_dict() | {"kernel_length": 8}, "must be odd", id="even length"
        ),
        pytest.param(
            SMALL.to_dict() | {"hop_length": 0}, "hop_length", id="no hop at all"
        ),
        pytest.param(
            SMALL.to_dict() | {"n_kernels": 21},
            r"front_end\.kernels has shape \(14, 9\), expected \(21, 9\)",
            id="more kernels",
        ),
    ],
)
def test_a_checkpoint_of_another_front_end_is_an_error(tmp_path, front_end, message):
    path = tmp_path / "bank.safetensors"
    save_checkpoint(path, make_source(), {})
    tensors, header, _ = read_tensor_file(path)
    write_tensor_file(path, tensors, header | {"front_end": front_end})
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def test_a_checkpoint_without_kernels_is_an_error(tmp_path):
    path = tmp_path / "bank.safetensors"
    save_checkpoint(path, make_source(), {})
    tensors, header, _ = read_tensor_file(path)
    del tensors["front_end.kernels"]
    write_tensor_file(path, tensors, header)
    with pytest.raises(CheckpointError, match=r"front_end\.kernels is missing"):
        load_checkpoint(path)


def test_pretraining_knows_which_front_end_belongs_to_which_architecture():
    chosen = PretrainingSettings(architecture="wavebank", front_end="kernel-bank")
    assert chosen.front_end == "kernel-bank"
    with pytest.raises(ValueError, match=r"front_end .*'kernel-bank'.* got 'kapre'"):
        PretrainingSettings(architecture="wavebank", front_end="kapre")
    with pytest.raises(ValueError, match=r"front_end .*'kapre'.* got 'kernel-bank'"):
        PretrainingSettings(architecture="attrnn", front_end="kernel-bank")
