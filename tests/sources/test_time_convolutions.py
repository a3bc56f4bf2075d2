# SPDX-License-Identifier: Apache-2.0
"""The cheap form of AttRNN's convolutions, against torch's layers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sklearn_v2s.sources.networks.attrnn import AttRNN
from sklearn_v2s.sources.networks.time_convolutions import (
    convolve_frozen,
    frozen_on_cpu,
)


def make_layers(n_taps=5, n_maps=10, seed=0):
    rng = torch.Generator().manual_seed(seed)
    layers = (
        nn.Conv2d(1, n_maps, (n_taps, 1), padding=(n_taps // 2, 0)),
        nn.BatchNorm2d(n_maps, eps=1e-3),
        nn.Conv2d(n_maps, 1, (n_taps, 1), padding=(n_taps // 2, 0)),
        nn.BatchNorm2d(1, eps=1e-3),
    )
    for layer in layers:
        layer.double().eval().requires_grad_(False)
        for name, tensor in layer.state_dict().items():
            if tensor.is_floating_point():
                drawn = torch.randn(tensor.shape, generator=rng, dtype=torch.float64)
                tensor.copy_(drawn.abs() + 0.1 if name == "running_var" else drawn)
    return layers


def plain(features, conv1, norm1, conv2, norm2):
    maps = norm1(torch.relu(conv1(features.unsqueeze(1))))
    return norm2(torch.relu(conv2(maps))).squeeze(1)


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 9),
    n_frames=st.integers(1, 12),
    n_mels=st.integers(1, 7),
    n_taps=st.sampled_from([1, 3, 5]),
    seed=st.integers(0, 99),
)
def test_values_and_gradients_are_those_of_the_layers(
    batch, n_frames, n_mels, n_taps, seed
):
    layers = make_layers(n_taps, n_maps=3, seed=seed)
    rng = torch.Generator().manual_seed(seed)
    shape = batch, n_frames, n_mels
    features = torch.randn(shape, generator=rng, dtype=torch.float64).requires_grad_()
    above = torch.randn(shape, generator=rng, dtype=torch.float64)
    found = convolve_frozen(features, *layers)
    expected = plain(features, *layers)
    torch.testing.assert_close(found, expected, atol=1e-11, rtol=1e-9)
    torch.testing.assert_close(
        torch.autograd.grad(found, features, above),
        torch.autograd.grad(expected, features, above),
        atol=1e-11,
        rtol=1e-9,
    )


def test_the_network_is_the_same_frozen_or_not():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = AttRNN(n_classes=5).eval()
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(6, 125, 80, generator=rng).requires_grad_()
    layers = network.conv1, network.norm1, network.conv2, network.norm2
    results = []
    for frozen in (False, True):
        network.requires_grad_(not frozen)
        assert frozen_on_cpu(*layers) == frozen
        outputs = network(features)
        (gradient,) = torch.autograd.grad(outputs.logits.sum(), features)
        results.append((*outputs, gradient))
    for mine, theirs in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("change", ["train", "grad"])
def test_layers_that_learn_take_the_plain_path(change):
    layers = make_layers()
    assert frozen_on_cpu(*layers)
    if change == "train":
        layers[1].train()
    else:
        layers[2].requires_grad_()
    assert not frozen_on_cpu(*layers)
