# SPDX-License-Identifier: Apache-2.0
"""Compiled layers, against torch's own in float64 and against the plain path."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sklearn_v2s.sources.fast import compiled
from sklearn_v2s.sources.fast.compiled import compiled_layers, takes_compiled_form
from sklearn_v2s.sources.fast.jit import jit
from sklearn_v2s.sources.fast.lstm_kernels import ROWS
from sklearn_v2s.sources.networks.attrnn import AttRNN
from sklearn_v2s.sources.networks.lstm import lstm_forward
from sklearn_v2s.sources.networks.time_convolutions import convolve_frozen

# Each size is compiled: only these two, the second with padding.
SIZES = [(4, 4), (3, 2)]


def test_only_trainings_are_compiled():
    features = make_features(2, 5, 4)
    with compiled_layers():
        with compiled_layers():
            pass
        assert takes_compiled_form(features)
    assert not takes_compiled_form(features)


@pytest.fixture
def compiles():
    with compiled_layers():
        yield


def make_lstm(n_features, hidden_size, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lstm = nn.LSTM(n_features, hidden_size, batch_first=True, bidirectional=True)
    return lstm.requires_grad_(False)


def make_convolutions(seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AttRNN(n_classes=2, n_mels=6).eval().requires_grad_(False)
        for norm in (network.norm1, network.norm2):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    return network.conv1, network.norm1, network.conv2, network.norm2


def make_features(*shape, seed=0, scale=1.0):
    rng = torch.Generator().manual_seed(seed)
    features = scale * torch.randn(shape, generator=rng)
    return features.requires_grad_()


def with_gradient(call, features, seed=0):
    outputs = call(features)
    rng = torch.Generator().manual_seed(seed)
    above = torch.randn(outputs.shape, generator=rng).to(outputs)
    (gradient,) = torch.autograd.grad(outputs, features, above)
    return outputs.detach(), gradient


def assert_equal_in_float64(call, plain, features):
    """Compare with layers in float64, by the rounding of float32."""
    expected = with_gradient(plain, features.detach().double().requires_grad_())
    for mine, theirs in zip(with_gradient(call, features), expected, strict=True):
        assert mine.dtype == torch.float32
        # Sigmoids near 0 are as exact as those near 1.
        atol = 5e-7 + 3e-6 * float(theirs.abs().max())
        torch.testing.assert_close(mine.double(), theirs, atol=atol, rtol=0)


@pytest.mark.usefixtures("compiles")
@settings(max_examples=30, deadline=None)
@given(
    size=st.sampled_from(SIZES),
    batch=st.integers(1, 2 * ROWS + 3),
    n_frames=st.integers(1, 9),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
    seed=st.integers(0, 99),
)
def test_lstm(size, batch, n_frames, scale, seed):
    lstm = make_lstm(*size, seed)
    features = make_features(batch, n_frames, size[0], seed=seed, scale=scale)
    assert takes_compiled_form(features, *lstm.parameters())
    exact = copy.deepcopy(lstm).double()
    assert_equal_in_float64(
        lambda x: lstm_forward(x, lstm), lambda x: exact(x)[0], features
    )


@pytest.mark.usefixtures("compiles")
@settings(max_examples=20, deadline=None)
@given(batch=st.integers(1, 6), n_frames=st.integers(1, 9), seed=st.integers(0, 99))
def test_convolutions(batch, n_frames, seed):
    layers = make_convolutions(seed)
    features = make_features(batch, n_frames, 6, seed=seed)
    weights = [weight for layer in layers for weight in layer.parameters()]
    assert takes_compiled_form(features, *weights)
    exact = [copy.deepcopy(layer).double() for layer in layers]

    def plain(x):
        conv1, norm1, conv2, norm2 = exact
        maps = norm1(torch.relu(conv1(x.unsqueeze(1))))
        return norm2(torch.relu(conv2(maps))).squeeze(1)

    assert_equal_in_float64(lambda x: convolve_frozen(x, *layers), plain, features)


@pytest.mark.usefixtures("compiles")
def test_features_need_not_be_contiguous():
    lstm, layers = make_lstm(*SIZES[0], seed=0), make_convolutions(0)
    for call, width in (
        (lambda x: lstm_forward(x, lstm), 4),
        (lambda x: convolve_frozen(x, *layers), 6),
    ):
        features = make_features(3, 5, width)
        turned = features.detach().transpose(0, 1).contiguous().transpose(0, 1)
        assert not turned.is_contiguous()
        for mine, theirs in zip(
            with_gradient(call, turned.requires_grad_()),
            with_gradient(call, features),
            strict=True,
        ):
            assert torch.equal(mine, theirs)


@pytest.mark.usefixtures("compiles")
def test_rows_do_not_depend_on_each_other():
    # So parts of a batch give what the batch gives, to the last bit.
    lstm = make_lstm(*SIZES[0], seed=0)
    features = make_features(ROWS + 5, 7, 4)
    whole = with_gradient(lambda x: lstm_forward(x, lstm), features)
    above = torch.randn(whole[0].shape, generator=torch.Generator().manual_seed(0))
    part = features.detach()[ROWS - 2 : ROWS + 3].requires_grad_()
    states = lstm_forward(part, lstm)
    (gradient,) = torch.autograd.grad(states, part, above[ROWS - 2 : ROWS + 3])
    assert torch.equal(states, whole[0][ROWS - 2 : ROWS + 3])
    assert torch.equal(gradient, whole[1][ROWS - 2 : ROWS + 3])


@pytest.mark.usefixtures("compiles")
def test_a_graph_that_is_kept_gives_the_gradient_again():
    network = AttRNN(n_classes=3, n_mels=4, hidden_size=4).eval().requires_grad_(False)
    features = make_features(3, 6, 4)
    total = network(features).embedding.square().sum()
    first = torch.autograd.grad(total, features, retain_graph=True)
    second = torch.autograd.grad(total, features)
    assert torch.equal(*first, *second)


@pytest.mark.usefixtures("compiles")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_a_number_does_not_get_lost(bad):
    # A training that diverges has to show.
    lstm, layers = make_lstm(*SIZES[0], seed=0), make_convolutions(0)
    for call, width in (
        (lambda x: lstm_forward(x, lstm), 4),
        (lambda x: convolve_frozen(x, *layers), 6),
    ):
        features = make_features(2, 5, width).detach()
        features[1] = bad
        plain = call(features)
        found = call(features.requires_grad_()).detach()
        assert torch.equal(torch.isnan(found), torch.isnan(plain))
        assert torch.isfinite(found[0]).all()


@pytest.mark.usefixtures("compiles")
def test_who_takes_the_plain_path(monkeypatch):
    lstm = make_lstm(*SIZES[0], seed=0)
    features, weights = make_features(2, 5, 4), list(lstm.parameters())
    assert takes_compiled_form(features, *weights)
    assert not takes_compiled_form(features.detach(), *weights)
    assert not takes_compiled_form(features.double(), *weights)
    assert not takes_compiled_form(features, *weights[1:], weights[0].double())
    assert not takes_compiled_form(features.to("meta"), *weights)
    with torch.no_grad():
        assert not takes_compiled_form(features, *weights)
    lstm.requires_grad_(True)
    assert not takes_compiled_form(features, *lstm.parameters())
    lstm.requires_grad_(False)
    expected = with_gradient(lambda x: lstm_forward(x, lstm), features)
    monkeypatch.setattr(compiled, "_numba_is_installed", lambda: False)
    assert not takes_compiled_form(features, *weights)
    # The same numbers, up to rounding, without numba.
    for mine, theirs in zip(
        with_gradient(lambda x: lstm_forward(x, lstm), features), expected, strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)


def test_numba_is_imported_only_where_something_is_trained():
    code = """
import sys
import numpy as np
from sklearn_v2s import V2SClassifier
X = np.random.default_rng(0).normal(size=(8, 30))
y = np.arange(8) % 2
V2SClassifier("attrnn", max_epochs=0, random_state=0).fit(X, y).predict(X)
print("numba" in sys.modules)
V2SClassifier.from_paper(max_epochs=1, random_state=0).fit(X, y)
print("numba" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]


def test_compiles_without_a_folder_for_its_files(monkeypatch):
    import numba

    real = numba.njit

    def njit(*args, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(*args, **options)

    monkeypatch.setattr(numba, "njit", njit)
    assert jit(lambda x: x + 1)(2) == 3
