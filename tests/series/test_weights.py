# SPDX-License-Identifier: Apache-2.0
"""Sample weights, class weights and the choice of a device."""

import multiprocessing
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import Parallel, delayed
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.utils.class_weight import compute_class_weight

from sklearn_v2s.runtime.devices import resolve_device, warn_of_sharing
from sklearn_v2s.series.weights import balance_classes, check_weights

quick = settings(max_examples=50, deadline=None)

# --- sample weights ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_weight", "expected"),
    [
        (None, [1.0, 1.0, 1.0]),
        (2, [2.0, 2.0, 2.0]),
        (0.5, [0.5, 0.5, 0.5]),
        (np.float32(3), [3.0, 3.0, 3.0]),
        ([1, 0, 2], [1.0, 0.0, 2.0]),
        ((1.5, 1.5, 0.0), [1.5, 1.5, 0.0]),
        (np.array([True, False, True]), [1.0, 0.0, 1.0]),
        (torch.tensor([1.0, 2.0, 3.0]), [1.0, 2.0, 3.0]),
    ],
    ids=repr,
)
def test_weights_that_are_allowed(given_weight, expected):
    weight = check_weights(given_weight, 3)
    assert weight.dtype == np.float64
    assert_array_equal(weight, expected)


@pytest.mark.parametrize(
    ("given_weight", "message"),
    [
        ([1, 1], r"shape \(2,\), expected \(3,\)"),
        ([1, 1, 1, 1], r"shape \(4,\), expected \(3,\)"),
        ([[1], [1], [1]], r"shape \(3, 1\), expected \(3,\)"),
        (np.ones((3, 1, 1)), "dim 3"),
        (
            [1, -0.5, 1],
            r"negative value -0\.5 at position 1; weights must be 0 or larger",
        ),
        (-1, "negative value -1"),
        ([0, 0, 0], "only zero values.*positive"),
        (0, "only zero values"),
        ([1, np.nan, 1], "sample_weight contains NaN"),
        ([1, np.inf, 1], "sample_weight contains infinity"),
        (np.nan, "sample_weight contains NaN"),
        (np.array([1, 1j, 1]), "Complex"),
        (["a", "b", "c"], "could not convert string"),
        ("heavy", "could not convert string"),
        ([], "0 sample"),
    ],
    ids=repr,
)
def test_weights_that_are_refused(given_weight, message):
    with pytest.raises(ValueError, match=message):
        check_weights(given_weight, 3)


# --- class weights -------------------------------------------------------------------

labels = st.lists(st.sampled_from("abc"), min_size=1, max_size=30)


def codes_of(y):
    """Return all classes, of which y may lack some, and the codes of y."""
    classes = np.array(list("abc"))
    return classes, np.searchsorted(classes, y)


@quick
@given(labels)
def test_balanced_is_that_of_scikit_learn(y):
    classes, codes = codes_of(y)
    present = np.unique(y)
    expected = compute_class_weight("balanced", classes=present, y=y)
    factors = balance_classes("balanced", classes, codes, np.ones(len(y)))
    assert_allclose(factors, expected[np.searchsorted(present, y)], rtol=1e-12)


@quick
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5)), min_size=1))
def test_balanced_takes_an_integer_weight_for_a_repetition(rows):
    y, counts = (np.array(column) for column in zip(*rows, strict=True))
    classes, codes = codes_of(y)
    weighted = balance_classes("balanced", classes, codes, counts.astype(float))
    repeated = balance_classes(
        "balanced", classes, codes.repeat(counts), np.ones(counts.sum())
    )
    assert_allclose(weighted.repeat(counts), repeated, rtol=1e-12)
    totals = np.bincount(codes, weights=weighted * counts)
    assert_allclose(totals[totals > 0], counts.sum() / len(np.unique(y)), rtol=1e-12)


def test_balanced_leaves_out_a_class_without_weight():
    classes, codes = codes_of(["a", "b", "b", "c"])
    factors = balance_classes("balanced", classes, codes, np.array([0.0, 1, 1, 2]))
    assert_array_equal(factors, [1, 1, 1, 1])


@pytest.mark.parametrize(
    ("classes", "class_weight"),
    [
        (np.array([-1, 1]), {-1: 2.0, 1: 0.5}),
        (np.array([-1, 1]), {np.int64(-1): np.float32(2)}),
        (np.array(["a", "b"]), {"b": 3}),
        (np.array([False, True]), {True: 3}),
        (np.array([0.5, 1.5]), {0.5: 0}),
        (np.array(["a", "b"]), {}),
        (np.array(["a", "b"]), None),
    ],
    ids=repr,
)
def test_a_dictionary_is_looked_up(classes, class_weight):
    codes = np.array([0, 1, 1, 0, 1])
    factors = balance_classes(class_weight, classes, codes, np.ones(5))
    expected = [(class_weight or {}).get(label, 1) for label in classes[codes]]
    assert_array_equal(factors, expected)


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        (
            {"d": 1},
            r"classes \['d'\], which are not in y; allowed are \['a', 'b', 'c'\]",
        ),
        ({"a": -1}, r"class_weight\['a'\]=-1 must be a finite number of 0 or more"),
        ({"a": np.nan}, r"class_weight\['a'\]=nan must be"),
        ({"a": np.inf}, r"class_weight\['a'\]=inf must be"),
        ({"a": "1"}, r"class_weight\['a'\]='1' must be"),
        ({"a": None}, r"class_weight\['a'\]=None must be"),
        ({"a": 0, "b": 0}, "leaves no sample of y with a positive weight"),
    ],
    ids=repr,
)
def test_dictionaries_that_are_refused(class_weight, message):
    classes, codes = codes_of(["a", "b", "b"])
    with pytest.raises(ValueError, match=message):
        balance_classes(class_weight, classes, codes, np.ones(3))


# --- devices -------------------------------------------------------------------------


def pretend(monkeypatch, **counts):
    """Make torch believe that it has so many devices of each kind."""
    for name in ("cuda", "xpu"):
        count = counts.get(name, 0)
        module = getattr(torch, name)
        monkeypatch.setattr(module, "is_available", lambda count=count: count > 0)
        monkeypatch.setattr(module, "device_count", lambda count=count: count)
    mps = counts.get("mps", 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps > 0)
    monkeypatch.setattr(torch.mps, "device_count", lambda: mps)


@pytest.mark.parametrize(
    ("counts", "chosen"),
    [
        ({}, "cpu"),
        ({"mps": 1}, "mps"),
        ({"xpu": 1, "mps": 1}, "xpu"),
        ({"cuda": 2, "xpu": 1, "mps": 1}, "cuda"),
    ],
    ids=repr,
)
def test_auto_takes_the_first_that_is_there(monkeypatch, counts, chosen):
    pretend(monkeypatch, **counts)
    assert resolve_device("auto") == torch.device(chosen)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda", 0), "cpu"])
def test_a_device_that_is_there_is_taken(monkeypatch, device):
    pretend(monkeypatch, cuda=2)
    assert resolve_device(device) == torch.device(device)


@pytest.mark.parametrize(
    ("counts", "device", "allowed"),
    [
        ({}, "cuda", ["auto", "cpu"]),
        ({}, torch.device("cuda:0"), ["auto", "cpu"]),
        ({}, "abacus", ["auto", "cpu"]),
        ({}, "", ["auto", "cpu"]),
        ({}, "meta", ["auto", "cpu"]),
        ({"mps": 1}, "cuda", ["auto", "mps", "cpu"]),
        ({"cuda": 1}, "mps", ["auto", "cuda", "cpu"]),
        ({"cuda": 2}, "cuda:2", ["auto", "cuda", "cpu"]),
        ({}, "cpu:1", ["auto", "cpu"]),
    ],
    ids=repr,
)
def test_a_device_that_is_not_there_is_refused(monkeypatch, counts, device, allowed):
    pretend(monkeypatch, **counts)
    with pytest.raises(ValueError, match="device=") as caught:
        resolve_device(device)
    assert repr(str(device)) in str(caught.value)
    assert f"allowed here: {allowed}" in str(caught.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_cuda_device_of_this_machine_can_be_used():
    device = resolve_device("auto")
    assert device.type == "cuda"
    assert torch.ones(2, device=device).sum().item() == 2
    count = torch.cuda.device_count()
    assert resolve_device(f"cuda:{count - 1}").index == count - 1
    with pytest.raises(ValueError, match=f"which has {count} of that kind"):
        resolve_device(f"cuda:{count}")


@pytest.mark.parametrize(
    ("kind", "worker", "count", "warned"),
    [
        ("cuda", True, 1, True),
        ("cuda", True, 2, False),
        ("cuda", False, 1, False),
        ("cpu", True, 1, False),
    ],
)
def test_workers_that_share_an_accelerator(kind, worker, count, warned, monkeypatch):
    parent = object() if worker else None
    monkeypatch.setattr("multiprocessing.parent_process", lambda: parent)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            warn_of_sharing(torch.device(kind))
    assert len(caught) == warned
    for warning in caught:
        assert "one cuda device" in str(warning.message)
        assert "V2SClassifierCV" in str(warning.message)


def test_workers_of_joblib_know_that_they_are_workers():
    seen = Parallel(n_jobs=2)(delayed(_is_worker)() for _ in range(2))
    assert seen == [True, True]
    assert not _is_worker()


def _is_worker():
    return multiprocessing.parent_process() is not None
