# SPDX-License-Identifier: Apache-2.0
"""Every architecture as a source: sizes, contract, checkpoint, pretraining."""

import copy
import hashlib
import itertools
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from sklearn_v2s.cli import main
from sklearn_v2s.sources import (
    FRONT_ENDS,
    FrontEndConfig,
    check_source,
    list_sources,
    load_source,
    registry,
    save_checkpoint,
)
from sklearn_v2s.sources.checkpoint import ARCHITECTURES
from sklearn_v2s.sources.contract import freeze
from sklearn_v2s.sources.networks.attrnn import AttRNN, count_parameters
from sklearn_v2s.sources.networks.resnet import ResNet
from sklearn_v2s.sources.networks.tc_resnet import TCResNet
from sklearn_v2s.sources.networks.tcn import TCN
from sklearn_v2s.sources.networks.unet_attrnn import UNetAttRNN
from sklearn_v2s.sources.networks.vggish import VGGish, build_vggish
from sklearn_v2s.sources.networks.yamnet import build_yamnet
from sklearn_v2s.sources.registry import pack_source, unpack_source
from tests.speech_folders import write_google

LOG_MEL = [
    name for name, entry in ARCHITECTURES.items() if entry.front_end is FrontEndConfig
]
# Those that train on two cores and whose checkpoints a package can carry.
SMALL = ("unet-attrnn", "resnet", "tcn", "tc-resnet", "vggish")
# 300 MB in float32: too large to copy around in tests.
HUGE = "vggish-paper"
FRONT_END = {"yamnet": "yamnet", "vggish": "vggish", "tc-resnet": "mel-64"}
WORDS = [f"word{position}" for position in range(36)]


def build(name, classes=WORDS):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        front_end = FRONT_ENDS[FRONT_END.get(name, "kapre")]
        return ARCHITECTURES[name].build(front_end, classes)


def waveforms(batch=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(batch, 16000, generator=generator).to(dtype) * 0.1


# --- sizes ---------------------------------------------------------------------------


def test_numbers_of_parameters_are_those_of_the_paper():
    # Table 4, in millions. 0.3 for the second is not what its released code has.
    assert count_parameters(AttRNN(36), single_bias=True) == 201_225
    assert count_parameters(UNetAttRNN(36), single_bias=True) == 206_647
    assert count_parameters(ResNet(36)) == pytest.approx(1e6, rel=0.03)
    assert count_parameters(TCN(36)) == pytest.approx(1e6, rel=0.03)


def test_tc_resnet_has_the_size_of_its_layers():
    # Stem, then for each block two convolutions, a shortcut and three normalisations.
    expected = 64 * 32 * 3 + 2 * 32
    for n_in, n_out in [(32, 48), (48, 64), (64, 96)]:
        expected += 9 * n_in * n_out + 9 * n_out * n_out + n_in * n_out + 6 * n_out
    assert count_parameters(TCResNet(36)) == expected + 96 * 36 + 36 == 259_012


def test_resnet_is_the_one_of_its_reference():
    # 21,797,672 parameters for three colours and 1,000 classes.
    with torch.device("meta"):
        found = count_parameters(ResNet(1000, width=64))
    assert found == 21_797_672 - 2 * 64 * 7 * 7


def test_vggish_is_the_published_one():
    with torch.device("meta"):
        published, pooled = VGGish(36), VGGish(36, dense=False)
    head = 128 * 36 + 36
    assert count_parameters(published) == 72_141_184 + head
    assert count_parameters(pooled) == 4_499_712 + 512 * 36 + 36


@pytest.mark.parametrize("name", SMALL)
def test_small_checkpoints_are_small(name, tmp_path):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, build(name), {})
    assert path.stat().st_size < 2_000_000


# --- the contract --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [name for name in LOG_MEL if name != HUGE])
def test_is_a_source(name, dtype):
    source = freeze(build(name).to(dtype))
    assert source.architecture == name
    assert check_source(source) is source
    duplicate = copy.deepcopy(source)
    outputs = source(waveforms(dtype=dtype))
    assert torch.equal(duplicate(waveforms(dtype=dtype)).logits, outputs.logits)
    silence = torch.zeros(1, 16000, dtype=dtype, requires_grad=True)
    source(silence).logits.sum().backward()
    assert torch.isfinite(silence.grad).all()


@pytest.mark.parametrize("name", [name for name in LOG_MEL if name != HUGE])
def test_gradient_is_that_of_finite_differences(name):
    source = freeze(build(name).double())
    waveform = waveforms(1, torch.float64).requires_grad_()
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(36, generator=generator, dtype=torch.float64)
    (source(waveform).logits[0] @ weight).backward()
    direction = torch.randn(1, 16000, generator=generator, dtype=torch.float64)
    step = 1e-8
    with torch.no_grad():
        above, below = (
            source(waveform + sign * step * direction).logits[0] @ weight
            for sign in (1.0, -1.0)
        )
    expected = float((waveform.grad * direction).sum())
    # A network that hardly depends on its input yet has slopes no larger than what
    # rounding of its scores leaves of the difference.
    rounding = float(above.abs()) * 1e-15 / step
    found = float((above - below) / (2 * step))
    assert found == pytest.approx(expected, rel=1e-3, abs=rounding)


@pytest.mark.parametrize("name", [name for name in LOG_MEL if name != HUGE])
def test_survives_checkpoint_and_pickle(name, tmp_path):
    source = build(name)
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, source, {})
    loaded = load_source(path)
    assert loaded.architecture == name
    expected = freeze(source)(waveforms()).logits
    assert torch.equal(loaded(waveforms()).logits, expected)
    content = pickle.dumps(pack_source(loaded))
    assert len(content) < 1000
    assert unpack_source(pickle.loads(content), torch.float32) is loaded


@pytest.mark.parametrize("name", [name for name in LOG_MEL if name != HUGE])
def test_rows_of_a_batch_do_not_interact(name):
    source = freeze(build(name).double())
    together = source(waveforms(3, torch.float64))
    for row in range(3):
        single = source(waveforms(3, torch.float64)[row : row + 1])
        for whole, part in zip(together, single, strict=True):
            torch.testing.assert_close(whole[row], part[0], atol=1e-10, rtol=1e-9)


# --- networks ------------------------------------------------------------------------


def randomise(network, seed=0):
    """Move normalisations away from where they start, where they hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.2, generator=generator)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0, generator=generator)
    return network.eval().double().requires_grad_(False)


def test_unet_joins_the_first_and_the_third_convolution():
    network = randomise(UNetAttRNN(4))
    features = torch.randn(2, 125, 80, dtype=torch.float64)
    seen = {}
    for number in range(1, 5):
        for part in ("conv", "norm"):
            network.get_submodule(f"{part}{number}").register_forward_hook(
                lambda _, inputs, out, key=(part, number): seen.update(
                    {key: (inputs[0], out)}
                )
            )
    found = network.convolve(features)
    joined = torch.cat([seen["norm", 1][1], seen["norm", 3][1]], dim=1)
    assert torch.equal(seen["conv", 4][0], joined)
    assert torch.equal(seen["conv", 2][0], seen["norm", 1][1])
    assert torch.equal(seen["conv", 3][0], seen["norm", 2][1])
    for number in range(1, 5):
        assert torch.equal(seen["norm", number][0], seen["conv", number][1].relu())
    assert torch.equal(found, seen["norm", 4][1][:, 0])
    assert [seen["conv", n][1].shape[1] for n in range(1, 5)] == [16, 32, 16, 1]


def reference_tcn(network, features):
    """Sum over taps and earlier frames, one output frame at a time."""

    def convolve(maps, layer, dilation):
        kernel = layer.weight.numpy()
        out = np.zeros((len(kernel), maps.shape[1]))
        for frame, tap in itertools.product(range(maps.shape[1]), range(5)):
            source = frame - (4 - tap) * dilation
            if source >= 0:
                out[:, frame] += kernel[:, :, tap] @ maps[:, source]
        return out

    def normalise(maps, norm):
        scale = norm.weight.numpy() / np.sqrt(norm.running_var.numpy() + norm.eps)
        shifted = maps - norm.running_mean.numpy()[:, None]
        return shifted * scale[:, None] + norm.bias.numpy()[:, None]

    maps = features.T
    for block, dilation in zip(network.blocks, (1, 2, 4, 8, 16), strict=True):
        inner = convolve(maps, block.conv1, dilation)
        inner = np.maximum(normalise(inner, block.norm1), 0)
        inner = convolve(inner, block.conv2, dilation)
        inner = np.maximum(normalise(inner, block.norm2), 0)
        if isinstance(block.shortcut, torch.nn.Conv1d):
            kernel, bias = block.shortcut.weight.numpy(), block.shortcut.bias.numpy()
            maps = kernel[:, :, 0] @ maps + bias[:, None]
        maps = np.maximum(inner + maps, 0)
    return np.concatenate([maps.mean(1), maps.max(1)])


def test_tcn_is_that_of_its_reference():
    network = randomise(TCN(3, n_mels=7, width=6))
    features = torch.randn(2, 125, 7, dtype=torch.float64)
    found = network(features)
    expected = np.stack([reference_tcn(network, clip.numpy()) for clip in features])
    np.testing.assert_allclose(found.embedding, expected, atol=1e-10)
    torch.testing.assert_close(found.logits, network.output(found.embedding))


def test_tcn_sees_all_earlier_frames_and_no_later_one():
    network = randomise(TCN(3, n_mels=4, width=8))
    features = torch.randn(1, 4, 125, dtype=torch.float64, requires_grad=True)
    for frame in (0, 60, 124):
        maps = network.blocks(features)[0, :, frame].square().sum()
        (slope,) = torch.autograd.grad(maps, features)
        has_slope = slope[0].abs().sum(0) > 0
        assert not has_slope[frame + 1 :].any()
        assert has_slope[: frame + 1].any()
        assert has_slope[frame]
    assert has_slope[0]


def reference_tc_resnet(network, features):
    """Sum over taps, one output frame at a time; frames outside are zeros."""

    def convolve(maps, layer, stride):
        kernel = layer.weight.numpy()
        length = kernel.shape[2]
        out = np.zeros((len(kernel), -(-maps.shape[1] // stride)))
        for frame, tap in itertools.product(range(out.shape[1]), range(length)):
            source = frame * stride + tap - length // 2
            if 0 <= source < maps.shape[1]:
                out[:, frame] += kernel[:, :, tap] @ maps[:, source]
        return out

    def normalise(maps, norm):
        scale = norm.weight.numpy() / np.sqrt(norm.running_var.numpy() + norm.eps)
        shifted = maps - norm.running_mean.numpy()[:, None]
        return shifted * scale[:, None] + norm.bias.numpy()[:, None]

    maps = convolve(features.T, network.stem, 1)
    maps = np.maximum(normalise(maps, network.stem_norm), 0)
    stages = [maps]
    for block in network.blocks:
        inner = convolve(maps, block.conv1, 2)
        inner = np.maximum(normalise(inner, block.norm1), 0)
        inner = normalise(convolve(inner, block.conv2, 1), block.norm2)
        conv, norm = block.shortcut
        maps = np.maximum(inner + normalise(convolve(maps, conv, 2), norm), 0)
        stages.append(maps)
    pooled = [part for maps in stages for part in (maps.mean(1), maps.max(1))]
    weight, bias = network.output.weight.numpy(), network.output.bias.numpy()
    return weight @ maps.mean(1) + bias, np.concatenate(pooled)


@pytest.mark.parametrize("n_frames", [100, 37])
def test_tc_resnet_is_that_of_its_reference(n_frames):
    network = randomise(TCResNet(3, n_mels=7))
    features = torch.randn(2, n_frames, 7, dtype=torch.float64)
    found = network(features)
    for row, clip in enumerate(features):
        logits, embedding = reference_tc_resnet(network, clip.numpy())
        np.testing.assert_allclose(found.logits[row], logits, atol=1e-10)
        np.testing.assert_allclose(found.embedding[row], embedding, atol=1e-10)


def test_tc_resnet_halves_the_frames_three_times():
    network = randomise(TCResNet(3))
    shapes = []
    for block in network.blocks:
        block.register_forward_hook(lambda _, __, out: shapes.append(out.shape[1:]))
    outputs = network(torch.randn(1, 100, 64, dtype=torch.float64))
    assert [tuple(shape) for shape in shapes] == [(48, 50), (64, 25), (96, 13)]
    size = 2 * (32 + 48 + 64 + 96)
    assert outputs.embedding.shape == (1, size) == (1, network.embedding_size)


def test_the_shipped_tc_resnet():
    folder = Path(registry.__file__).parent / "checkpoints"
    entry = json.loads((folder / "manifest.json").read_text("utf-8"))["tc-resnet"]
    path = folder / entry["file"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
    assert path.stat().st_size < 2_000_000
    card = (folder / "tc-resnet.md").read_text("utf-8")
    assert f"`{entry['sha256']}`" in card
    source = load_source("tc-resnet")
    assert source.architecture == "tc-resnet"
    assert source.reference.sha256 == entry["sha256"]
    assert f"{count_parameters(source.network):,} trainable parameters" in card
    assert f"{len(source.classes)} source classes" in card
    assert ", ".join(source.classes) in card
    assert source.front_end.config == FRONT_ENDS["mel-64"]
    # 100 frames of 64 bands.
    assert source.front_end(waveforms()).shape == (2, 100, 64)
    outputs = source(waveforms())
    assert outputs.logits.shape == (2, len(source.classes))
    assert outputs.embedding.shape == (2, source.embedding_size) == (2, 480)
    assert "tc-resnet" in list_sources()


def test_the_gradient_through_the_shipped_tc_resnet():
    source = load_source("tc-resnet", torch.float64)
    generator = torch.Generator().manual_seed(3)
    waveform = waveforms(1, torch.float64).requires_grad_()
    weight = torch.randn(1, 523, generator=generator, dtype=torch.float64)

    def value(given):
        return (torch.cat(list(source(given)), dim=1) * weight).sum()

    value(waveform).backward()
    direction = torch.randn(1, 16000, generator=generator, dtype=torch.float64)
    step = 1e-8
    with torch.no_grad():
        above, below = (value(waveform + s * step * direction) for s in (1.0, -1.0))
    expected = float((waveform.grad * direction).sum())
    assert abs(expected) > 1e-3
    assert float((above - below) / (2 * step)) == pytest.approx(expected, rel=1e-4)


def test_resnet_halves_where_its_reference_does():
    network = randomise(ResNet(3, width=4))
    shapes = []
    for block in network.blocks:
        block.register_forward_hook(lambda _, __, out: shapes.append(out.shape[1:]))
    outputs = network(torch.randn(1, 128, 96, dtype=torch.float64))
    expected = [(4, 32, 24)] * 3 + [(8, 16, 12)] * 4 + [(16, 8, 6)] * 6
    assert [tuple(shape) for shape in shapes] == expected + [(32, 4, 3)] * 3
    assert outputs.embedding.shape == (1, 64) == (1, network.embedding_size)


def test_dense_vggish_reads_96_frames_in_the_order_of_tensorflow():
    network = randomise(VGGish(3, width=2))
    features = torch.randn(2, 98, 64, dtype=torch.float64)
    found = network(features)
    later = features.clone()
    later[:, 96:] = 9.0
    assert torch.equal(network(later).logits, found.logits)
    maps = network.convolutions(features[:, None, :96])
    assert maps.shape == (2, 16, 6, 4)
    # Row by row, column by column, the channels last.
    rows = [maps[:, :, row, column] for row in range(6) for column in range(4)]
    assert network.dense is not None
    torch.testing.assert_close(found.embedding, network.dense(torch.cat(rows, dim=1)))


def test_front_ends_that_are_too_short_are_refused():
    short = FrontEndConfig(input_length=8000)
    with pytest.raises(ValueError, match="96 frames, but the front end has 62"):
        build_vggish(short, ["a"], dense=True)
    with pytest.raises(ValueError, match=r"patches of 96 frames.*only 62"):
        build_yamnet(short, ["a"])


# --- pretraining ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("google")
    write_google(folder)
    return folder


@pytest.mark.parametrize("name", [*SMALL, "yamnet"])
def test_is_trained_by_the_command_line(name, corpus, tmp_path):
    options = ["--corpus", str(corpus), "--output", str(tmp_path), "--quiet"]
    options += ["--architecture", name, "--epochs", "1", "--batch-size", "12"]
    options += ["--front-end", FRONT_END.get(name, "kapre"), "--lr", "1e-3"]
    assert main(["pretrain", *options]) == 0
    source = load_source(tmp_path / f"{name}.safetensors")
    assert source.architecture == name
    assert source.classes == ("high", "low")
    untrained = build(name, ["high", "low"]).state_dict()
    moved = [
        key
        for key, value in source.named_parameters()
        if not torch.equal(value, untrained[key])
    ]
    assert len(moved) == len(list(source.parameters()))
    assert f"Source model `{name}`" in (tmp_path / f"{name}.md").read_text("utf-8")
