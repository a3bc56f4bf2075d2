# SPDX-License-Identifier: Apache-2.0
"""Import of Keras weights of U-Net AttRNN and YAMNet, against numpy in float64."""

import math

import numpy as np
import pytest
import torch

from sklearn_v2s.cli import main
from sklearn_v2s.sources import (
    FRONT_ENDS,
    CheckpointError,
    check_source,
    load_checkpoint,
    load_source,
    save_checkpoint,
)
from sklearn_v2s.sources.importers.keras_h5 import (
    SPEECH_COMMANDS_CLASSES,
    import_keras_h5,
)
from sklearn_v2s.sources.networks.yamnet import audioset_classes
from tests.sources import test_keras_h5 as keras

h5py = pytest.importorskip("h5py", reason="reading Keras files needs h5py")


# --- U-Net AttRNN --------------------------------------------------------------------


def unet_weights():
    """Weights in the order of the released model: the LSTM and dense layers last."""
    rng = np.random.default_rng(5)
    weights = {}
    for number, (n_in, n_out) in enumerate([(1, 16), (16, 32), (32, 16), (32, 1)], 1):
        weights[f"conv2d_{number}"] = {
            "kernel": rng.normal(0, 0.2, (5, 1, n_in, n_out)).astype("f4"),
            "bias": rng.normal(0, 0.2, n_out).astype("f4"),
        }
        weights[f"batch_normalization_{number}"] = {
            "gamma": 1.0 + rng.normal(0, 0.2, n_out).astype("f4"),
            "beta": rng.normal(0, 0.2, n_out).astype("f4"),
            "moving_mean": rng.normal(0, 0.2, n_out).astype("f4"),
            "moving_variance": np.exp(rng.normal(0, 0.2, n_out)).astype("f4"),
        }
    rest = {
        name: layer
        for name, layer in keras.random_weights().items()
        if name.startswith(("bidirectional", "dense"))
    }
    return weights | rest


def unet_logits(features, weights):
    def step(number, maps):
        maps = keras.convolve(maps, weights[f"conv2d_{number}"])
        return keras.normalise(maps, weights[f"batch_normalization_{number}"])

    up = step(1, features[:, :, None].astype(np.float64))
    down = step(3, step(2, up))
    maps = step(4, np.concatenate([up, down], axis=2))
    states = keras.bidirectional(maps[:, :, 0], weights["bidirectional_1"])
    states = keras.bidirectional(states, weights["bidirectional_2"])
    query = keras.dense(states[-1], weights["dense_1"])
    context = keras.softmax(states @ query) @ states
    hidden = np.maximum(keras.dense(context, weights["dense_2"]), 0.0)
    return keras.dense(keras.dense(hidden, weights["dense_3"]), weights["dense_4"])


def describe_unet(weights):
    described = keras.describe(weights, "LSTM")
    described["config"]["layers"].append(
        {
            "class_name": "Concatenate",
            "config": {"name": "concatenate_1", "axis": 3},
            "name": "concatenate_1",
        }
    )
    return described


@pytest.mark.parametrize("whole", [True, False], ids=["whole model", "weights only"])
def test_unet_layout_of_the_release(whole, tmp_path):
    weights = unet_weights()
    path = keras.write_h5(
        tmp_path / "pr_UattRNN.h5",
        {"mel_stft": keras.kapre_layer(), **weights},
        described=describe_unet(weights) if whole else None,
    )
    source = import_keras_h5(path)
    assert source.architecture == "unet-attrnn"
    assert source.classes == SPEECH_COMMANDS_CLASSES
    assert source.front_end.config == FRONT_ENDS["kapre"]
    features = keras.features_of()
    expected = np.array([unet_logits(clip, weights) for clip in features])
    found = source.network(torch.from_numpy(features)).logits.numpy()
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4)
    check_source(source)
    save_checkpoint(tmp_path / "a.safetensors", source, {})
    again = load_source(tmp_path / "a.safetensors")
    assert torch.equal(
        again.network(torch.from_numpy(features)).logits, torch.from_numpy(found)
    )


def test_unet_that_computes_something_else_is_refused(tmp_path):
    weights = unet_weights()
    described = describe_unet(weights)
    described["config"]["layers"][-1]["config"]["axis"] = 1
    path = keras.write_h5(tmp_path / "other.h5", weights, described=described)
    with pytest.raises(CheckpointError, match=r"axis=1.*for a U-Net AttRNN"):
        import_keras_h5(path, front_end="kapre")


def test_unet_without_a_normalisation_is_refused(tmp_path):
    weights = unet_weights()
    del weights["batch_normalization_3"]
    path = keras.write_h5(tmp_path / "other.h5", weights)
    with pytest.raises(CheckpointError, match=r"3 batch norm.*a U-Net AttRNN has 4"):
        import_keras_h5(path, front_end="kapre")


# --- YAMNet --------------------------------------------------------------------------

WIDTHS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


def yamnet_weights():
    rng = np.random.default_rng(9)

    def norm(width):
        return {
            "beta": rng.normal(0.3, 0.3, width).astype("f4"),
            "moving_mean": rng.normal(0, 0.1, width).astype("f4"),
            "moving_variance": np.exp(rng.normal(0, 0.2, width)).astype("f4"),
        }

    def kernel(*shape):
        scale = math.sqrt(2.0 / np.prod(shape[:3]))
        return rng.normal(0, scale, shape).astype("f4")

    weights, n_in = {}, 1
    for number, width in enumerate(WIDTHS, 1):
        layer = f"layer{number}"
        if number == 1:
            weights[f"{layer}/conv"] = {"kernel": kernel(3, 3, n_in, width)}
            weights[f"{layer}/conv/bn"] = norm(width)
        else:
            depthwise = kernel(3, 3, 1, n_in).transpose(0, 1, 3, 2)
            weights[f"{layer}/depthwise_conv"] = {"depthwise_kernel": depthwise}
            weights[f"{layer}/depthwise_conv/bn"] = norm(n_in)
            weights[f"{layer}/pointwise_conv"] = {"kernel": kernel(1, 1, n_in, width)}
            weights[f"{layer}/pointwise_conv/bn"] = norm(width)
        n_in = width
    weights["logits"] = {
        "kernel": rng.normal(0, 0.1, (n_in, 521)).astype("f4"),
        "bias": rng.normal(0, 0.1, 521).astype("f4"),
    }
    return weights


def same_windows(maps, stride):
    """What a 3x3 kernel sees with TensorFlow's SAME padding: an odd zero at the end."""
    pads = []
    for length in maps.shape[:2]:
        total = max((math.ceil(length / stride) - 1) * stride + 3 - length, 0)
        pads.append((total // 2, total - total // 2))
    padded = np.pad(maps, (*pads, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
    return windows[::stride, ::stride]


def normalise_and_cut(maps, layer):
    deviation = np.sqrt(layer["moving_variance"] + 1e-4)
    return np.maximum((maps - layer["moving_mean"]) / deviation + layer["beta"], 0.0)


def yamnet_patch(patch, weights):
    """Return logits and embedding of a patch (96, 64)."""
    maps = patch[:, :, None]
    for number, stride in enumerate(STRIDES, 1):
        layer = f"layer{number}"
        windows = same_windows(maps, stride)
        if number == 1:
            kernel = weights[f"{layer}/conv"]["kernel"]
            maps = np.einsum("xyckl,klco->xyo", windows, kernel)
            maps = normalise_and_cut(maps, weights[f"{layer}/conv/bn"])
            continue
        kernel = weights[f"{layer}/depthwise_conv"]["depthwise_kernel"][..., 0]
        maps = np.einsum("xyckl,klc->xyc", windows, kernel)
        maps = normalise_and_cut(maps, weights[f"{layer}/depthwise_conv/bn"])
        maps = maps @ weights[f"{layer}/pointwise_conv"]["kernel"][0, 0]
        maps = normalise_and_cut(maps, weights[f"{layer}/pointwise_conv/bn"])
    embedding = maps.mean((0, 1))
    return keras.dense(embedding, weights["logits"]), embedding


def yamnet_patches(waveform):
    """Follow the published features, step by step: zeros, frames, bands, patches."""
    shortest, hop = 15600, 7680
    missing = max(0, shortest - len(waveform))
    beyond = max(len(waveform), shortest) - shortest
    missing += math.ceil(beyond / hop) * hop - beyond
    padded = np.pad(waveform.astype(np.float64), (0, missing))
    n_frames = (len(padded) - 400) // 160 + 1
    frames = np.array([padded[160 * t : 160 * t + 400] for t in range(n_frames)])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    magnitude = np.abs(np.fft.rfft(frames * window, 512, axis=1))

    def mel(hertz):
        return 1127.0 * np.log1p(hertz / 700.0)

    edges = np.linspace(mel(125.0), mel(7500.0), 66)
    places = mel(np.linspace(0.0, 8000.0, 257))[1:, None]
    rising = (places - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - places) / (edges[2:] - edges[1:-1])
    bands = np.maximum(0.0, np.minimum(rising, falling))
    level = np.log(magnitude[:, 1:] @ bands + 0.001)
    return np.array(
        [level[start : start + 96] for start in range(0, n_frames - 95, 48)]
    )


@pytest.fixture(scope="module")
def yamnet_file(tmp_path_factory):
    weights = yamnet_weights()
    path = tmp_path_factory.mktemp("yamnet") / "yamnet.h5"
    return keras.write_h5(path, weights, version="2.2.4-tf"), weights


@pytest.fixture(scope="module")
def yamnet(yamnet_file):
    return import_keras_h5(yamnet_file[0])


def test_yamnet_has_the_parameters_of_the_published_model(yamnet_file, yamnet):
    n_numbers = sum(a.size for layer in yamnet_file[1].values() for a in layer.values())
    assert n_numbers == 3_751_369
    state = yamnet.network.state_dict()
    found = sum(
        tensor.numel() for name, tensor in state.items() if "num_batches" not in name
    )
    assert found == 3_751_369
    assert sum(p.numel() for p in yamnet.network.parameters()) == 3_729_481


@pytest.mark.parametrize("sound", ["noise", "tone"])
def test_yamnet_computes_what_keras_computes(sound, yamnet_file, yamnet):
    _, weights = yamnet_file
    weights = {
        name: {key: array.astype(np.float64) for key, array in layer.items()}
        for name, layer in weights.items()
    }
    time = np.arange(16000) / 16000
    waveform = {
        "noise": np.random.default_rng(1).normal(0, 0.1, 16000),
        "tone": 0.5 * np.sin(2 * np.pi * 440.0 * time),
    }[sound].astype(np.float32)
    patches = yamnet_patches(waveform)
    assert patches.shape == (2, 96, 64)
    both = [yamnet_patch(patch, weights) for patch in patches]
    logits, embedding = (np.mean(part, axis=0) for part in zip(*both, strict=True))
    assert np.abs(both[0][0] - both[1][0]).max() > 0.1
    outputs = yamnet(torch.from_numpy(waveform)[None])
    np.testing.assert_allclose(outputs.logits[0], logits, atol=2e-3)
    np.testing.assert_allclose(outputs.embedding[0], embedding, atol=2e-3)
    double = yamnet.double()
    outputs = double(torch.from_numpy(waveform).double()[None])
    yamnet.float()
    # Window and mel bands are float32 numbers.
    np.testing.assert_allclose(outputs.logits[0], logits, atol=1e-4)


def test_yamnet_is_a_frozen_source_with_audioset_classes(yamnet, tmp_path):
    assert yamnet.architecture == "yamnet"
    assert yamnet.classes == audioset_classes()
    assert len(set(yamnet.classes)) == len(yamnet.classes) == 521
    known = {0: "Speech", 69: "Dog", 132: "Music", 494: "Silence"}
    assert {place: yamnet.classes[place] for place in known} == known
    assert yamnet.classes[126] == "Bee, wasp, etc."
    assert yamnet.classes[520] == "Field recording"
    assert yamnet.embedding_size == 1024
    assert not any(parameter.requires_grad for parameter in yamnet.parameters())
    check_source(yamnet)
    silence = torch.zeros(1, 16000, requires_grad=True)
    yamnet(silence).logits.sum().backward()
    assert torch.isfinite(silence.grad).all()
    save_checkpoint(tmp_path / "yamnet.safetensors", yamnet, {})
    again, _, _ = load_checkpoint(tmp_path / "yamnet.safetensors")
    waveform = torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.eval()(waveform).logits, yamnet(waveform).logits)


def test_yamnet_is_imported_by_the_command_line(yamnet_file, tmp_path, capsys):
    target = tmp_path / "out.safetensors"
    arguments = ["sources", "import", str(yamnet_file[0]), str(target)]
    assert main([*arguments, "--licence", "Apache-2.0"]) == 0
    assert "521 classes" in capsys.readouterr().out
    _, card, _ = load_checkpoint(target)
    assert card["licence"] == "Apache-2.0"


def test_yamnet_has_its_own_front_end(yamnet_file):
    assert import_keras_h5(yamnet_file[0], front_end="yamnet").classes[0] == "Speech"
    with pytest.raises(CheckpointError, match="front end is another one"):
        import_keras_h5(yamnet_file[0], front_end="kapre")


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("layer9/depthwise_conv", "has 12 depthwise convolution layers.*YAMNet has 13"),
        ("layer9/pointwise_conv/bn", "has 26 batch normalisation layers"),
        ("logits", r"has 0 dense layers \(none\), a YAMNet has 1"),
    ],
)
def test_half_a_yamnet_is_refused(layer, message, yamnet_file, tmp_path):
    weights = {name: w for name, w in yamnet_file[1].items() if name != layer}
    path = keras.write_h5(tmp_path / "half.h5", weights)
    with pytest.raises(CheckpointError, match=message):
        import_keras_h5(path)


def test_yamnet_that_scales_is_refused(yamnet_file, tmp_path):
    weights = {name: dict(layer) for name, layer in yamnet_file[1].items()}
    weights["layer1/conv/bn"]["gamma"] = np.ones(32, dtype="f4")
    path = keras.write_h5(tmp_path / "scaled.h5", weights)
    with pytest.raises(CheckpointError, match=r"'gamma'.*expected \['beta'"):
        import_keras_h5(path)
