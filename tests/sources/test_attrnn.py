# SPDX-License-Identifier: Apache-2.0
"""AttRNN, against a float64 numpy network written from its description."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_v2s.sources import SourceModel, check_source
from sklearn_v2s.sources.contract import freeze
from sklearn_v2s.sources.front_end import FRONT_ENDS
from sklearn_v2s.sources.networks.attrnn import AttRNN, build_attrnn, count_parameters
from tests.tiny_source import draw_parameters


def random_network(seed=0, n_classes=36):
    """A network in which no part is idle: statistics, scales and attention differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AttRNN(n_classes)
        draw_parameters(network)
    return network.eval()


def random_features(seed=0, batch=3, n_frames=125):
    return np.random.default_rng(seed).normal(size=(batch, n_frames, 80))


# --- the reference: numpy only -------------------------------------------------------


def reference_convolution(maps, weight, bias):
    # (channels, time, mel), kernel of width 5 along time, 'same'
    padded = np.pad(maps, ((0, 0), (2, 2), (0, 0)))
    out = np.zeros((len(weight), *maps.shape[1:]))
    for o in range(weight.shape[0]):
        for i in range(weight.shape[1]):
            for k in range(5):
                out[o] += weight[o, i, k, 0] * padded[i, k : k + maps.shape[1]]
        out[o] += bias[o]
    return out


def reference_norm(maps, w, name):
    def column(key):
        return w[f"{name}.{key}"][:, None, None]

    scaled = (maps - column("running_mean")) / np.sqrt(column("running_var") + 1e-3)
    return scaled * column("weight") + column("bias")


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def reference_lstm(sequence, w, name):
    directions = []
    for suffix, step in (("", 1), ("_reverse", -1)):
        into = w[f"{name}.weight_ih_l0{suffix}"]
        back = w[f"{name}.weight_hh_l0{suffix}"]
        bias = w[f"{name}.bias_ih_l0{suffix}"] + w[f"{name}.bias_hh_l0{suffix}"]
        hidden, cell = np.zeros(64), np.zeros(64)
        states = []
        for x in sequence[::step]:
            i, f, g, o = np.split(into @ x + back @ hidden + bias, 4)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            hidden = sigmoid(o) * np.tanh(cell)
            states.append(hidden)
        directions.append(np.stack(states[::step]))
    return np.concatenate(directions, axis=1)


def reference_outputs(network, features):
    w = {k: v.double().numpy() for k, v in network.state_dict().items()}

    def dense(x, name):
        return w[f"{name}.weight"] @ x + w[f"{name}.bias"]

    logits, embeddings = [], []
    for clip in features:
        maps = reference_convolution(clip[None], w["conv1.weight"], w["conv1.bias"])
        maps = reference_norm(np.maximum(maps, 0.0), w, "norm1")
        maps = reference_convolution(maps, w["conv2.weight"], w["conv2.bias"])
        maps = reference_norm(np.maximum(maps, 0.0), w, "norm2")
        first = reference_lstm(maps[0], w, "lstm1")
        second = reference_lstm(first, w, "lstm2")
        score = second @ dense(second[-1], "query")
        attention = np.exp(score - score.max())
        attention /= attention.sum()
        hidden = np.maximum(dense(attention @ second, "dense1"), 0.0)
        logits.append(dense(dense(hidden, "dense2"), "output"))
        embeddings.append(
            np.concatenate([first.mean(0), first.max(0), second.mean(0), second.max(0)])
        )
    return np.stack(logits), np.stack(embeddings)


# -------------------------------------------------------------------------------------


def test_number_of_parameters_is_that_of_the_paper():
    network = AttRNN(36)
    assert count_parameters(network) == 202_249
    assert count_parameters(network, single_bias=True) == 201_225


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)]
)
def test_outputs_are_those_of_the_reference(dtype, tolerance):
    network, features = random_network(), random_features()
    logits, embedding = reference_outputs(network, features)
    with torch.no_grad():
        found = network.to(dtype)(torch.from_numpy(features).to(dtype))
    assert found.logits.shape == (3, 36)
    assert found.embedding.shape == (3, network.embedding_size) == (3, 512)
    np.testing.assert_allclose(found.logits, logits, rtol=0, atol=tolerance)
    np.testing.assert_allclose(found.embedding, embedding, rtol=0, atol=tolerance)


def test_reference_attention_is_not_uniform():
    # The comparison above would say little about an attention that does not choose.
    network = random_network().double()
    seen = []
    network.dense1.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    states = []
    network.lstm2.register_forward_hook(lambda _, __, out: states.append(out[0]))
    with torch.no_grad():
        network(torch.from_numpy(random_features()))
    assert (seen[0] - states[0].mean(1)).abs().max() > 0.05


@pytest.mark.parametrize("n_frames", [1, 7])
def test_takes_any_number_of_frames(n_frames):
    network, features = random_network().double(), random_features(n_frames=n_frames)
    logits, _ = reference_outputs(network, features)
    with torch.no_grad():
        found = network(torch.from_numpy(features)).logits
    np.testing.assert_allclose(found, logits, rtol=0, atol=1e-10)


def test_embedding_is_mean_and_maximum_of_both_lstm_layers():
    network, seen = random_network(), []
    for layer in (network.lstm1, network.lstm2):
        layer.register_forward_hook(lambda _, __, out: seen.append(out[0]))
    with torch.no_grad():
        embedding = network(torch.from_numpy(random_features()).float()).embedding
    first, second = seen
    blocks = [first.mean(1), first.amax(1), second.mean(1), second.amax(1)]
    for found, expected in zip(embedding.split(128, dim=1), blocks, strict=True):
        assert torch.equal(found, expected)


def test_evaluation_is_deterministic():
    network = random_network()
    features = torch.from_numpy(random_features()).float()
    with torch.no_grad():
        first, second = network(features), network(features)
    assert torch.equal(first.logits, second.logits)
    assert torch.equal(first.embedding, second.embedding)


def test_rows_of_a_batch_do_not_interact():
    network = random_network().double()
    features = torch.from_numpy(random_features())
    with torch.no_grad():
        together = network(features).logits
        apart = torch.cat([network(row[None]).logits for row in features])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-12)


def frozen_source():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        source = build_attrnn(FRONT_ENDS["kapre"], ["a", "b", "c"])
    source.network.load_state_dict(random_network(n_classes=3).state_dict())
    source.train()
    return freeze(source)


def test_frozen_modes():
    source = frozen_source()
    assert not any(parameter.requires_grad for parameter in source.parameters())
    modes = {type(module): module.training for module in source.modules()}
    assert modes[nn.BatchNorm2d] is False
    # cuDNN refuses the backward pass through an LSTM in evaluation mode.
    assert modes[nn.LSTM] is True
    assert modes[SourceModel] is False


def test_lstm_with_dropout_is_frozen_in_evaluation_mode():
    module = nn.Sequential(nn.LSTM(3, 3, num_layers=2, dropout=0.5), nn.GRU(3, 3))
    freeze(module)
    assert module[0].training is False
    assert module[1].training is True


def test_frozen_source_stays_bit_identical():
    source = frozen_source()
    before = {name: value.clone() for name, value in source.state_dict().items()}
    assert sum("running" in name for name in before) == 4
    waveform = torch.linspace(-0.5, 0.5, 32000).reshape(2, 16000).requires_grad_()
    for _ in range(2):
        source(waveform).logits.square().sum().backward()
    after = source.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert waveform.grad.abs().max() > 0.0
    assert all(parameter.grad is None for parameter in source.parameters())


def test_training_mode_does_change_the_statistics():
    # So that the test above can fail.
    source = frozen_source()
    before = source.network.norm1.running_mean.clone()
    source.train()(torch.linspace(-0.5, 0.5, 32000).reshape(2, 16000))
    assert not torch.equal(before, source.network.norm1.running_mean)


def test_gradient_to_the_waveform_is_the_slope():
    source = frozen_source().double()
    generator = torch.Generator().manual_seed(0)
    waveform, direction = (
        torch.randn(1, 16000, generator=generator, dtype=torch.float64) * 0.1
        for _ in range(2)
    )
    waveform.requires_grad_()
    (gradient,) = torch.autograd.grad(source(waveform).logits[0, 0], waveform)
    step = 1e-6
    with torch.no_grad():
        up, down = (
            source(waveform + sign * step * direction).logits[0, 0] for sign in (1, -1)
        )
    slope = float(up - down) / (2.0 * step)
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-4)


def test_untrained_source_meets_the_contract():
    source = frozen_source()
    assert check_source(source) is source
    assert source.classes == ("a", "b", "c")
    assert (source.sample_rate, source.input_length) == (16000, 16000)
    assert source.embedding_size == 512
    assert source.architecture == "attrnn"
