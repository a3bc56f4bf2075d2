# SPDX-License-Identifier: Apache-2.0
"""Import of Keras weights, against a float64 Keras forward pass in numpy."""

import base64
import json
import marshal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sklearn_v2s.pretraining import read_corpus
from sklearn_v2s.sources import (
    FRONT_ENDS,
    CheckpointError,
    FrontEndConfig,
    SourceModel,
    check_source,
    load_checkpoint,
    save_checkpoint,
)
from sklearn_v2s.sources.front_end import mel_filter_bank
from sklearn_v2s.sources.importers.keras_h5 import (
    SPEECH_COMMANDS_CLASSES,
    import_keras_h5,
)

h5py = pytest.importorskip("h5py", reason="reading Keras files needs h5py")

# Layer of AttRNN: names and arrays as Keras has them, in the order of Keras.
Weights = dict[str, dict[str, np.ndarray]]

KAPRE = FRONT_ENDS["kapre"]
DIRECTIONS = ("forward", "backward")


# --- A Keras forward pass of AttRNN in numpy, float64 ---------------------------------


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def softmax(x: np.ndarray) -> np.ndarray:
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def convolve(maps: np.ndarray, layer: dict[str, np.ndarray]) -> np.ndarray:
    """Width 5 along time, 'same', then ReLU; maps (time, mel, channels)."""
    padded = np.pad(maps, ((2, 2), (0, 0), (0, 0)))
    total = sum(
        padded[step : step + len(maps)] @ layer["kernel"][step, 0] for step in range(5)
    )
    return np.maximum(total + layer["bias"], 0.0)


def normalise(maps: np.ndarray, layer: dict[str, np.ndarray]) -> np.ndarray:
    scale = layer["gamma"] / np.sqrt(layer["moving_variance"] + 1e-3)
    return (maps - layer["moving_mean"]) * scale + layer["beta"]


def lstm(inputs: np.ndarray, layer: dict[str, np.ndarray], prefix: str) -> np.ndarray:
    kernel, recurrent, bias = (
        layer[f"{prefix} {name}"] for name in ("kernel", "recurrent_kernel", "bias")
    )
    state = cell = np.zeros(recurrent.shape[0])
    states = []
    for row in inputs:
        gates = row @ kernel + state @ recurrent + bias
        enter, forget, candidate, leave = np.split(gates, 4)
        cell = sigmoid(forget) * cell + sigmoid(enter) * np.tanh(candidate)
        state = sigmoid(leave) * np.tanh(cell)
        states.append(state)
    return np.array(states)


def bidirectional(inputs: np.ndarray, layer: dict[str, np.ndarray]) -> np.ndarray:
    forward = lstm(inputs, layer, "forward")
    backward = lstm(inputs[::-1], layer, "backward")[::-1]
    return np.concatenate([forward, backward], axis=1)


def dense(x: np.ndarray, layer: dict[str, np.ndarray]) -> np.ndarray:
    return x @ layer["kernel"] + layer["bias"]


def keras_logits(features: np.ndarray, weights: Weights) -> np.ndarray:
    """Scores before the softmax, of one clip's features (time, mel)."""
    weights = {
        name: {key: array.astype(np.float64) for key, array in layer.items()}
        for name, layer in weights.items()
    }
    maps = convolve(features[:, :, None].astype(np.float64), weights["conv2d_1"])
    maps = normalise(maps, weights["batch_normalization_1"])
    maps = convolve(maps, weights["conv2d_2"])
    maps = normalise(maps, weights["batch_normalization_2"])
    states = bidirectional(maps[:, :, 0], weights["bidirectional_1"])
    states = bidirectional(states, weights["bidirectional_2"])
    query = dense(states[-1], weights["dense_1"])
    context = softmax(states @ query) @ states
    hidden = np.maximum(dense(context, weights["dense_2"]), 0.0)
    return dense(dense(hidden, weights["dense_3"]), weights["dense_4"])


# --- Files ----------------------------------------------------------------------------


def random_weights(n_classes: int = 36, n_mels: int = 80) -> Weights:
    random = np.random.default_rng(7)

    def array(*shape: int, scale: float = 0.2) -> np.ndarray:
        return random.normal(0.0, scale, shape).astype(np.float32)

    def affine(n_in: int, n_out: int) -> dict[str, np.ndarray]:
        return {"kernel": array(n_in, n_out), "bias": array(n_out)}

    def norm(size: int) -> dict[str, np.ndarray]:
        return {
            "gamma": 1.0 + array(size),
            "beta": array(size),
            "moving_mean": array(size),
            "moving_variance": np.exp(array(size)),
        }

    def recurrent(n_in: int) -> dict[str, np.ndarray]:
        return {
            f"{direction} {name}": array(*shape)
            for direction in DIRECTIONS
            for name, shape in (
                ("kernel", (n_in, 256)),
                ("recurrent_kernel", (64, 256)),
                ("bias", (256,)),
            )
        }

    return {
        "conv2d_1": {"kernel": array(5, 1, 1, 10), "bias": array(10)},
        "batch_normalization_1": norm(10),
        "conv2d_2": {"kernel": array(5, 1, 10, 1), "bias": array(1)},
        "batch_normalization_2": norm(1),
        "bidirectional_1": recurrent(n_mels),
        "bidirectional_2": recurrent(128),
        "dense_1": affine(128, 128),
        "dense_2": affine(128, 64),
        "dense_3": affine(64, 32),
        "dense_4": affine(32, n_classes),
    }


def kapre_layer() -> dict[str, np.ndarray]:
    """DFT kernels as kapre 0.2.0 stores them, and a mel matrix of its own."""
    time, bins = np.arange(1024), np.arange(513)
    window = np.sin(np.pi * time / 1024) ** 2
    wave = np.exp(-2j * np.pi * np.outer(time, bins) / 1024) * window[:, None]
    return {
        "real_kernels": wave.real.reshape(1024, 1, 1, 513),
        "imag_kernels": wave.imag.reshape(1024, 1, 1, 513),
        "Variable": mel_filter_bank(KAPRE).T * 1.25,
    }


def to_cudnn(layer: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What CuDNNLSTM stores for the weights of an LSTM, as Keras converts them."""
    random = np.random.default_rng(11)
    stored = {}
    for direction in DIRECTIONS:
        for name in (f"{direction} kernel", f"{direction} recurrent_kernel"):
            gates = np.hsplit(layer[name], 4)
            stored[name] = np.hstack([gate.T.reshape(gate.shape) for gate in gates])
        bias = layer[f"{direction} bias"]
        of_input = random.normal(size=bias.shape).astype(np.float32)
        stored[f"{direction} bias"] = np.concatenate([of_input, bias - of_input])
    return stored


def describe(weights: Weights, lstm_kind: str) -> dict[str, Any]:
    """Return the model_config of the Voice2Series release for these weights."""
    lambda_code = [base64.b64encode(marshal.dumps(EVIL)).decode(), None, None]
    layers: list[tuple[str, dict[str, Any]]] = [
        ("InputLayer", {"name": "input_1"}),
        (
            "Melspectrogram",
            {
                "name": "mel_stft",
                "n_dft": 1024,
                "n_hop": 128,
                "padding": "same",
                "power_spectrogram": 2.0,
                "sr": 16000,
                "n_mels": 80,
                "fmin": 40.0,
                "fmax": 8000.0,
                "power_melgram": 1.0,
                "return_decibel_melgram": True,
            },
        ),
        ("Normalization2D", {"name": "mel_stft_norm", "int_axis": 0}),
        ("Lambda", {"name": "squeeze_last_dim", "function": lambda_code}),
    ]
    activations = iter(["linear", "relu", "linear", "softmax"])
    for name in weights:
        if name.startswith("conv2d"):
            config = {"activation": "relu", "padding": "same", "strides": [1, 1]}
            layers.append(("Conv2D", {"name": name, **config}))
        elif name.startswith("batch"):
            layers.append(("BatchNormalization", {"name": name, "epsilon": 0.001}))
        elif name.startswith("bidirectional"):
            inner = {"name": "inner", "units": 64, "return_sequences": True}
            if lstm_kind == "LSTM":
                inner |= {"activation": "tanh", "recurrent_activation": "sigmoid"}
            wrapped = {"class_name": lstm_kind, "config": inner}
            config = {"name": name, "layer": wrapped, "merge_mode": "concat"}
            layers.append(("Bidirectional", config))
        elif name.startswith("dense"):
            config = {"name": name, "activation": next(activations)}
            layers.append(("Dense", config))
    return {
        "class_name": "Model",
        "config": {
            "name": "model_1",
            "layers": [
                {"class_name": kind, "config": config, "name": config["name"]}
                for kind, config in layers
            ],
        },
    }


# Runs if anybody unmarshals and calls it.
EVIL = compile("import sys; sys.v2s_was_here = True", "evil", "exec")


def weight_paths(layer: str, names: list[str], style: str) -> dict[str, str]:
    number = layer.split("_")[-1]
    paths = {}
    for name in names:
        direction, _, plain = name.rpartition(" ")
        middle = {
            "old": f"{direction}_lstm_{number}/",
            "new": f"{direction}_lstm_{number}/lstm_cell_{number}7/",
            "cudnn": f"{direction}_cu_dnnlstm_{number}/",
        }[style]
        # TensorFlow 2 named what kapre made outside of any layer's scope.
        top = "" if layer == "mel_stft" else f"{layer}/"
        paths[name] = f"{top}{middle if direction else ''}{plain}:0"
    return paths


def write_h5(
    path: Path,
    weights: Weights,
    *,
    described: dict[str, Any] | None = None,
    style: str = "old",
    version: str = "2.3.1",
) -> Path:
    with h5py.File(path, "w") as file:
        root: Any = file
        if described is not None:
            file.attrs["model_config"] = json.dumps(described).encode()
            root = file.create_group("model_weights")
        root.attrs["keras_version"] = version.encode()
        layers = ["input_1", *weights, "lambda_1"]
        root.attrs["layer_names"] = [name.encode() for name in layers]
        for layer in layers:
            group = root.create_group(layer)
            arrays = weights.get(layer, {})
            paths = weight_paths(layer, list(arrays), style)
            group.attrs["weight_names"] = np.array(list(paths.values()), dtype="S")
            for name, array in arrays.items():
                group[paths[name]] = array
    return path


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_weights()


@pytest.fixture(scope="module")
def plain_file(tmp_path_factory: pytest.TempPathFactory, weights: Weights) -> Path:
    """Write weights only, without a front end."""
    return write_h5(tmp_path_factory.mktemp("keras") / "plain.h5", weights)


def features_of(n_clips: int = 2) -> np.ndarray:
    shape = (n_clips, KAPRE.n_frames, KAPRE.n_mels)
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def assert_same_network(source: SourceModel, weights: Weights) -> None:
    features = features_of()
    expected = np.array([keras_logits(clip, weights) for clip in features])
    found = source.network(torch.from_numpy(features)).logits.numpy()
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4)


# --- The later release ----------------------------------------------------------------


def published_weights(file: Any) -> Weights:
    """Read model-attRNN.h5 by the names that it has, apart from the importer."""
    root = file["model_weights"]

    def arrays(layer: str, *names: str) -> dict[str, np.ndarray]:
        return {name: root[f"{layer}/{layer}/{name}:0"][()] for name in names}

    def recurrent(layer: str, suffix: str, cells: tuple[int, int]) -> dict[str, Any]:
        return {
            f"{direction} {name}": root[
                f"{layer}/{layer}/{direction}_lstm{suffix}/lstm_cell_{cell}/{name}:0"
            ][()]
            for direction, cell in zip(DIRECTIONS, cells, strict=True)
            for name in ("kernel", "recurrent_kernel", "bias")
        }

    norm = ("gamma", "beta", "moving_mean", "moving_variance")
    return {
        "conv2d_1": arrays("conv2d", "kernel", "bias"),
        "batch_normalization_1": arrays("batch_normalization", *norm),
        "conv2d_2": arrays("conv2d_1", "kernel", "bias"),
        "batch_normalization_2": arrays("batch_normalization_1", *norm),
        "bidirectional_1": recurrent("bidirectional", "", (1, 2)),
        "bidirectional_2": recurrent("bidirectional_1", "_1", (4, 5)),
        "dense_1": arrays("dense", "kernel", "bias"),
        "dense_2": arrays("dense_1", "kernel", "bias"),
        "dense_3": arrays("dense_2", "kernel", "bias"),
        "dense_4": arrays("output", "kernel", "bias"),
    }


def published_features(waveform: np.ndarray, mel_matrix: np.ndarray) -> np.ndarray:
    padded = np.pad(waveform.astype(np.float64), (0, 896))
    frames = np.array([padded[128 * t : 128 * t + 1024] for t in range(125)])
    window = np.sin(np.pi * np.arange(1024) / 1024) ** 2
    mel = np.abs(np.fft.rfft(frames * window, axis=1)) @ mel_matrix
    level = np.log(mel + 1e-6)
    return (level - level.mean()) / level.std()


@pytest.fixture(scope="module")
def published(shared: Path) -> tuple[SourceModel, Weights, np.ndarray]:
    path = shared / "weights" / "model-attRNN.h5"
    source = import_keras_h5(path)
    with h5py.File(path, "r") as file:
        model = json.loads(file.attrs["model_config"])
        front_end = model["config"]["layers"][1]["config"]["layers"]
        tensordot = next(
            layer for layer in front_end if layer["name"].startswith("tf.tensordot")
        )
        mel_matrix = np.array(tensordot["inbound_nodes"][0][3]["b"])
        return source, published_weights(file), mel_matrix


def test_published_file_computes_what_keras_computes(
    published: tuple[SourceModel, Weights, np.ndarray], shared: Path
) -> None:
    source, weights, mel_matrix = published
    corpus = read_corpus(shared / "gsc_mini")
    chosen = [3, 77, 150, 299]
    clips = corpus.read(chosen, 16000).astype(np.float32) / 32768.0
    expected = np.array(
        [keras_logits(published_features(clip, mel_matrix), weights) for clip in clips]
    )
    found = source(torch.from_numpy(clips)).logits.numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(softmax(found), softmax(expected), atol=1e-4)
    words = [source.classes[index] for index in found.argmax(axis=1)]
    assert words == [corpus.classes[label] for label in corpus.labels[chosen]]


def test_published_file_is_a_frozen_source(
    published: tuple[SourceModel, Weights, np.ndarray],
) -> None:
    source, _, mel_matrix = published
    assert source.architecture == "attrnn"
    assert source.classes == SPEECH_COMMANDS_CLASSES
    assert len(source.classes) == 36
    assert source.classes[0] == "unknown/silence"
    assert source.classes[35] == "wow"
    assert not any(parameter.requires_grad for parameter in source.parameters())
    filters = source.front_end.filter_bank.numpy()
    np.testing.assert_array_equal(filters, mel_matrix.T.astype(np.float32))
    check_source(source)


def test_published_file_with_another_front_end_is_refused(shared: Path) -> None:
    path = shared / "weights" / "model-attRNN.h5"
    with pytest.raises(CheckpointError, match="pad_left is 0 in the file and 448 here"):
        import_keras_h5(path, front_end="kapre")


@pytest.mark.parametrize(
    ("function", "key", "value", "message"),
    [
        ("signal.stft", "frame_step", 160, "hop_length is 160 in the file and 128"),
        ("signal.stft", "pad_end", False, "pad_right is 0 in the file and 896"),
        ("signal.stft", "window_fn", "hamming_window", "window_fn='hamming_window'"),
        ("signal.stft", "fft_length", 2048, "fft_length=2048"),
        ("__operators__.add", "y", 1e-3, "log_offset is 0.001 in the file and 1e-06"),
        ("tensordot", "b", [[1.0] * 80] * 512, r"mel matrix has the shape \(512, 80\)"),
        ("math.abs", None, "math.square", "its front end computes .*math.square"),
    ],
)
def test_published_file_with_a_changed_front_end_is_refused(
    shared: Path,
    tmp_path: Path,
    function: str,
    key: str | None,
    value: Any,
    message: str,
) -> None:
    path = tmp_path / "changed.h5"
    path.write_bytes((shared / "weights" / "model-attRNN.h5").read_bytes())
    with h5py.File(path, "a") as file:
        model = json.loads(file.attrs["model_config"])
        for layer in model["config"]["layers"][1]["config"]["layers"]:
            if layer["config"].get("function") == function:
                if key is None:
                    layer["config"]["function"] = value
                else:
                    layer["inbound_nodes"][0][3][key] = value
        file.attrs["model_config"] = json.dumps(model)
    with pytest.raises(CheckpointError, match=message):
        import_keras_h5(path)


# --- The layout of the Voice2Series release -------------------------------------------


@pytest.mark.parametrize("whole", [True, False], ids=["whole model", "weights only"])
@pytest.mark.parametrize("style", ["old", "new", "cudnn"])
def test_kapre_layout(
    tmp_path: Path, weights: Weights, whole: bool, style: str
) -> None:
    stored = {
        "mel_stft": kapre_layer(),
        **{
            name: to_cudnn(layer)
            if style == "cudnn" and name.startswith("bidirectional")
            else layer
            for name, layer in weights.items()
        },
    }
    kind = "CuDNNLSTM" if style == "cudnn" else "LSTM"
    path = write_h5(
        tmp_path / "pr_attRNN.h5",
        stored,
        described=describe(weights, kind) if whole else None,
        style=style,
    )
    source = import_keras_h5(path)
    assert source.front_end.config == KAPRE
    np.testing.assert_allclose(
        source.front_end.filter_bank.numpy(), 1.25 * mel_filter_bank(KAPRE), rtol=1e-6
    )
    assert source.classes == SPEECH_COMMANDS_CLASSES
    assert_same_network(source, weights)
    assert not hasattr(sys, "v2s_was_here")


def test_imported_source_survives_its_own_checkpoint(
    tmp_path: Path, plain_file: Path, weights: Weights
) -> None:
    source = import_keras_h5(plain_file, front_end="kapre")
    save_checkpoint(tmp_path / "a.safetensors", source, {"licence": "a test"})
    again, _, _ = load_checkpoint(tmp_path / "a.safetensors")
    assert_same_network(again.eval().requires_grad_(False), weights)


def test_global_generator_does_not_notice(plain_file: Path) -> None:
    before = torch.get_rng_state()
    import_keras_h5(plain_file, front_end="kapre")
    assert torch.equal(torch.get_rng_state(), before)


def test_other_sizes_need_names(tmp_path: Path) -> None:
    weights = random_weights(n_classes=3, n_mels=20)
    front_end = FrontEndConfig(n_mels=20)
    path = write_h5(tmp_path / "three.h5", weights)
    with pytest.raises(ValueError, match="has 3 outputs and does not name them"):
        import_keras_h5(path, front_end=front_end)
    for wrong in (["a", "b"], ["a", "b", "b"], ["a", "b", "c", "d"], "abc"):
        with pytest.raises(ValueError, match="classes must be 3 different names"):
            import_keras_h5(path, wrong, front_end)
    source = import_keras_h5(path, ["a", "b", "c"], front_end)
    assert source.classes == ("a", "b", "c")
    features = np.random.default_rng(0).normal(size=(125, 20)).astype(np.float32)
    found = source.network(torch.from_numpy(features)[None]).logits.numpy()[0]
    np.testing.assert_allclose(found, keras_logits(features, weights), atol=1e-4)


# --- What is refused ------------------------------------------------------------------


def test_front_end_must_be_said(plain_file: Path) -> None:
    with pytest.raises(ValueError, match="holds weights only and no front end"):
        import_keras_h5(plain_file)
    with pytest.raises(ValueError, match="unknown front end 'mfcc'"):
        import_keras_h5(plain_file, front_end="mfcc")


def without_layer(weights: Weights) -> None:
    del weights["dense_3"]


def with_wrong_shape(weights: Weights) -> None:
    weights["conv2d_1"]["kernel"] = np.zeros((3, 1, 1, 10), dtype=np.float32)


def with_wrong_units(weights: Weights) -> None:
    weights["bidirectional_2"]["forward kernel"] = np.zeros((128, 250), dtype="f4")


def without_weight(weights: Weights) -> None:
    del weights["batch_normalization_2"]["gamma"]


def with_another_layer(weights: Weights) -> None:
    weights["embedding"] = {"embeddings": np.zeros((3, 3), dtype=np.float32)}


def with_nan(weights: Weights) -> None:
    weights["dense_2"]["bias"] = np.full(64, np.nan, dtype=np.float32)


def with_integers(weights: Weights) -> None:
    weights["dense_2"]["bias"] = np.zeros(64, dtype=np.int64)


def with_trained_kernels(weights: Weights) -> None:
    weights["mel_stft"] = kapre_layer()
    weights["mel_stft"]["imag_kernels"][7, 0, 0, 7] += 0.1


def with_negative_filters(weights: Weights) -> None:
    weights["mel_stft"] = kapre_layer()
    weights["mel_stft"]["Variable"] *= -1.0


def with_half_a_front_end(weights: Weights) -> None:
    weights["mel_stft"] = kapre_layer()
    del weights["mel_stft"]["Variable"]


def with_other_mels(weights: Weights) -> None:
    weights["mel_stft"] = kapre_layer()
    weights["mel_stft"]["Variable"] = np.zeros((513, 40), dtype=np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_layer, r"it has 3 dense layers \(dense_1, dense_2, dense_4\)"),
        (with_wrong_shape, r"shape \(3, 1, 1, 10\), expected \(5, 1, 1, 10\)"),
        (with_wrong_units, r"shape \(128, 250\), expected \(128, 256\)"),
        (without_weight, "'batch_normalization_2'.*expected .*'gamma'"),
        (with_another_layer, "'embedding'.* is of no kind that an AttRNN has"),
        (with_nan, "NaN or infinite"),
        (with_integers, "weights are floating-point numbers"),
        (with_trained_kernels, "are not a Fourier transform"),
        (with_negative_filters, "mel matrix .* negative"),
        (with_half_a_front_end, "expected kapre's two DFT kernels"),
        (with_other_mels, "n_mels is 40 in the file and 80 here"),
    ],
)
def test_other_weights_are_refused(
    tmp_path: Path, change: Callable[[Weights], None], message: str
) -> None:
    weights = random_weights()
    change(weights)
    path = write_h5(tmp_path / "other.h5", weights)
    with pytest.raises(CheckpointError, match=message) as caught:
        import_keras_h5(path, front_end="kapre")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "key", "value"),
    [
        ("bidirectional_1", "recurrent_activation", "hard_sigmoid"),
        ("bidirectional_2", "activation", "relu"),
        ("batch_normalization_2", "epsilon", 1e-5),
        ("conv2d_2", "activation", "linear"),
        ("dense_3", "activation", "relu"),
        ("mel_stft", "return_decibel_melgram", False),
        ("mel_stft_norm", "int_axis", 1),
        ("mel_stft", "n_hop", 160),
        ("mel_stft", "fmin", 0.0),
    ],
)
def test_layers_that_compute_something_else_are_refused(
    tmp_path: Path, weights: Weights, layer: str, key: str, value: Any
) -> None:
    described = describe(weights, "LSTM")
    for entry in described["config"]["layers"]:
        if entry["name"] == layer:
            inner = entry["config"].get("layer", entry)
            inner["config"][key] = value
    stored = {"mel_stft": kapre_layer(), **weights}
    path = write_h5(tmp_path / "other.h5", stored, described=described)
    ours = {"n_hop": "hop_length", "fmin": "f_min"}.get(key, key)
    with pytest.raises(CheckpointError, match=rf"{ours}.*{value!r}"):
        import_keras_h5(path)


def test_old_weights_of_an_unknown_sigmoid_are_refused(
    tmp_path: Path, weights: Weights
) -> None:
    path = write_h5(tmp_path / "old.h5", weights, version="2.2.4-tf")
    with pytest.raises(CheckpointError, match="hard_sigmoid"):
        import_keras_h5(path, front_end="kapre")
    # CuDNNLSTM never had another one than the sigmoid.
    stored = {
        name: to_cudnn(layer) if name.startswith("bidirectional") else layer
        for name, layer in weights.items()
    }
    path = write_h5(tmp_path / "cudnn.h5", stored, style="cudnn", version="2.2.4")
    assert_same_network(import_keras_h5(path, front_end="kapre"), weights)


def test_no_hdf5_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        import_keras_h5(tmp_path / "none.h5")
    path = tmp_path / "a.h5"
    for content in (b"", b"PK\x03\x04 keras 3", b"\x89HDF\r\n\x1a\n"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="not an intact Keras HDF5 file"):
            import_keras_h5(path)
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(CheckpointError, match="no attribute 'layer_names'"):
        import_keras_h5(path)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.9999])
def test_truncated_file(tmp_path: Path, plain_file: Path, share: float) -> None:
    content = plain_file.read_bytes()
    path = tmp_path / "cut.h5"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="not an intact Keras HDF5 file"):
        import_keras_h5(path, front_end="kapre")


@pytest.mark.parametrize("config", ["{", "[]", '{"config": {"layers": [3]}}'])
def test_damaged_description(tmp_path: Path, plain_file: Path, config: str) -> None:
    path = tmp_path / "damaged.h5"
    path.write_bytes(plain_file.read_bytes())
    with h5py.File(path, "a") as file:
        file.attrs["model_config"] = config
    with pytest.raises(CheckpointError, match="not an intact Keras HDF5 file"):
        import_keras_h5(path, front_end="kapre")


BIAS = "dense_2/dense_2/bias:0"


@pytest.mark.parametrize("kind", ["soft", "external", "layer", "storage", "virtual"])
def test_nothing_leads_out_of_the_file(
    tmp_path: Path, plain_file: Path, kind: str
) -> None:
    path = tmp_path / "links.h5"
    path.write_bytes(plain_file.read_bytes())
    raw = tmp_path / "raw"
    raw.write_bytes(bytes(64 * 4))
    with h5py.File(path, "a") as file:
        if kind == "layer":
            del file["dense_2"]
            file["dense_2"] = h5py.ExternalLink(str(plain_file), "dense_2")
        else:
            del file[BIAS]
        if kind == "soft":
            file["other"] = np.zeros(64, dtype=np.float32)
            file[BIAS] = h5py.SoftLink("/other")
        elif kind == "external":
            file[BIAS] = h5py.ExternalLink(str(plain_file), BIAS)
        elif kind == "storage":
            file.create_dataset(BIAS, (64,), "f4", external=str(raw))
        elif kind == "virtual":
            layout = h5py.VirtualLayout((64,), "f4")
            layout[:] = h5py.VirtualSource(str(plain_file), BIAS, (64,))
            file.create_virtual_dataset(BIAS, layout)
        # h5py itself would follow it.
        assert file[BIAS].shape == (64,)
    with pytest.raises(CheckpointError, match=r"not followed|not opened"):
        import_keras_h5(path, front_end="kapre")


def test_object_references_are_no_weights(tmp_path: Path, plain_file: Path) -> None:
    path = tmp_path / "references.h5"
    path.write_bytes(plain_file.read_bytes())
    with h5py.File(path, "a") as file:
        reference = file["dense_1"].ref
        del file[BIAS]
        file.create_dataset(BIAS, data=[reference] * 64, dtype=h5py.ref_dtype)
    with pytest.raises(CheckpointError, match="weights are floating-point numbers"):
        import_keras_h5(path, front_end="kapre")


def test_claimed_size_is_not_believed(tmp_path: Path, plain_file: Path) -> None:
    path = tmp_path / "large.h5"
    path.write_bytes(plain_file.read_bytes())
    with h5py.File(path, "a") as file:
        del file[BIAS]
        # Takes no room in the file: nothing was written into its only chunk.
        file.create_dataset(BIAS, (1 << 40,), "f4", chunks=(1 << 20,))
    with pytest.raises(CheckpointError, match="at most 16777216 of them"):
        import_keras_h5(path, front_end="kapre")


def test_h5py_is_an_extra(monkeypatch: pytest.MonkeyPatch, plain_file: Path) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r'pip install "sklearn-v2s\[keras\]"'):
        import_keras_h5(plain_file)
