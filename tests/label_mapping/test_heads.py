# SPDX-License-Identifier: Apache-2.0
"""Label mappings as torch modules: the same scores, and their gradients."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from sklearn_v2s.label_mapping import (
    BayesianLabelMapping,
    ContiguousLabelMapping,
    LinearLabelMapping,
    RandomLabelMapping,
)
from sklearn_v2s.label_mapping.contract import MatrixMapping
from sklearn_v2s.label_mapping.heads import LinearHead, MatrixHead, head_for
from tests.small_mappings import BLOCKS, each, each_solver, make_block_data, make_data


@each
def test_a_mapping_of_source_classes_has_a_matrix_and_others_a_learned_head(mapping):
    scores, y = make_data()
    mapping = clone(mapping)
    assert not isinstance(mapping, MatrixMapping)
    mapping.fit(scores, y)
    assert isinstance(mapping, MatrixMapping) == mapping.reads_logits
    head = head_for(mapping, 9, 3)
    assert isinstance(head, MatrixHead if mapping.reads_logits else LinearHead)
    with torch.no_grad():
        found = head(torch.from_numpy(scores)).exp()
    assert_allclose(found, mapping.transform(scores), rtol=1e-9, atol=1e-12)


# --- a matrix of source classes ------------------------------------------------------


@pytest.mark.parametrize("aggregation", ["probability", "logit"])
@pytest.mark.parametrize("make", [RandomLabelMapping, BayesianLabelMapping])
def test_the_matrix_head_is_the_mapping(make, aggregation):
    rng = np.random.default_rng(0)
    logits, codes = 3 * rng.normal(size=(20, 12)), np.arange(20) % 5
    mapping = make(aggregation=aggregation).fit(logits, codes)
    scores = MatrixHead(mapping)(torch.tensor(logits)).exp()
    assert_allclose(scores, mapping.transform(logits), rtol=1e-13)


def test_the_loss_stays_finite_where_all_source_classes_of_a_class_are_unlikely():
    mapping = ContiguousLabelMapping().fit(np.eye(4), [0, 1, 0, 1])
    logits = torch.tensor([[1e4, 0, 0, 0]], dtype=torch.float64, requires_grad=True)
    score = MatrixHead(mapping)(logits)[0, 1]
    # (e^0 + e^0) / 2 of e^10000
    assert score.item() == pytest.approx(-1e4)
    score.backward()
    # Half for each of its source classes, minus the softmax: all of it on the first.
    assert_allclose(logits.grad, [[-1.0, 0.0, 0.5, 0.5]], atol=1e-9)


@pytest.mark.parametrize("solver", ["ridge", "logistic"])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_linear_head_starts_as_the_fitted_mapping(solver, n_classes):
    rng = np.random.default_rng(0)
    codes = np.arange(30) % n_classes
    features = rng.normal(5.0, 2.0, (30, 8)) + codes[:, None]
    mapping = LinearLabelMapping(solver=solver).fit(features, codes)
    head = LinearHead(mapping, 8, n_classes)
    with torch.no_grad():
        scores = head(torch.tensor(features)).exp()
        assert_allclose(scores, mapping.transform(features), rtol=1e-12)
        # In single precision the same up to that precision.
        single = head.float()(torch.tensor(features, dtype=torch.float32)).exp()
    assert_allclose(single, scores, atol=1e-5)


def test_the_linear_head_starts_at_zero_beside_a_mapping_of_another_kind():
    head = LinearHead(object(), 3, 4)
    scores = head(torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator()))
    assert_allclose(scores.detach().exp(), 0.25)


def test_heads_keep_the_precision_of_the_mapping():
    mapping = ContiguousLabelMapping().fit(np.eye(6), [0, 1, 0, 1, 0, 1])
    assert_array_equal(MatrixHead(mapping).to(torch.float64).weights, mapping.weights_)
    head = MatrixHead(mapping).float()
    head.read(mapping)
    assert head.weights.dtype == torch.float32


def test_a_head_never_writes_into_its_mapping():
    mapping = ContiguousLabelMapping().fit(np.eye(6), [0, 1, 0, 1, 0, 1])
    before = mapping.weights_.copy()
    head = MatrixHead(mapping)
    head.load_state_dict({"weights": torch.zeros_like(head.weights)})
    assert_array_equal(mapping.weights_, before)


# --- the linear mapping --------------------------------------------------------------


@BLOCKS
@each_solver
def test_the_linear_head_is_the_mapping(sizes, solver):
    x, y = make_block_data(sizes=sizes)
    fresh, _ = make_block_data(sizes=sizes, seed=1)
    mapping = LinearLabelMapping(solver, sizes, C=0.1).fit(x, y)
    head = LinearHead(mapping, sum(sizes), 3)
    for rows in (x, fresh, 5 * fresh, mapping.mean_[None]):
        with torch.no_grad():
            found = head(torch.from_numpy(rows)).exp()
        assert_allclose(found, mapping.transform(rows), rtol=0, atol=1e-10)


def test_the_gradient_of_the_head_is_the_slope():
    sizes = [33, 4, 1]
    x, y = make_block_data(n=12, sizes=sizes)
    mapping = LinearLabelMapping(block_sizes=sizes).fit(x, y)
    head = LinearHead(mapping, sum(sizes), 3)
    scaled = torch.from_numpy((x - mapping.mean_) / mapping.scale_).requires_grad_()
    mean, scale = map(torch.from_numpy, (mapping.mean_, mapping.scale_))
    assert torch.autograd.gradcheck(lambda rows: head(rows * scale + mean), (scaled,))


@BLOCKS
def test_the_gradient_along_a_direction_is_the_slope(sizes):
    x, y = make_block_data(sizes=sizes)
    mapping = LinearLabelMapping(block_sizes=sizes).fit(x, y)
    head = LinearHead(mapping, sum(sizes), 3)
    rows = torch.from_numpy(x).requires_grad_()
    truth = torch.from_numpy(y)[:, None]
    head(rows).gather(1, truth).sum().backward()
    rng = np.random.default_rng(0)
    for _ in range(3):
        direction = rng.normal(size=x.shape) * mapping.scale_
        step = 1e-6

        def log_likelihood(moved):
            return np.log(mapping.transform(moved))[np.arange(len(y)), y].sum()

        rise = log_likelihood(x + step * direction)
        rise -= log_likelihood(x - step * direction)
        exact = float((rows.grad.numpy() * direction).sum())
        assert exact == pytest.approx(rise / (2 * step), rel=1e-5, abs=1e-6)


def test_the_gradient_at_the_mean_is_finite():
    x, y = make_block_data(sizes=[40, 50])
    mapping = LinearLabelMapping(block_sizes=[40, 50]).fit(x, y)
    head = LinearHead(mapping, 90, 3)
    rows = torch.from_numpy(mapping.mean_[None].copy()).requires_grad_()
    head(rows)[0, 0].backward()
    assert torch.isfinite(rows.grad).all()
