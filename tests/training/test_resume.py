# SPDX-License-Identifier: Apache-2.0
"""Trainings that are broken off and taken up again."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from skorch.callbacks import Callback

from sklearn_v2s import V2SClassifier
from sklearn_v2s.runtime.tensor_file import (
    TensorFileError,
    read_tensor_file,
    write_tensor_file,
)
from sklearn_v2s.sources import FrontEndConfig, load_source, save_checkpoint
from sklearn_v2s.sources.networks.attrnn import build_attrnn
from sklearn_v2s.training.resume import fit_with_checkpoints, state_path
from tests.small import WORDS, make_classifier, make_series

EARLY = {"early_stopping": True, "n_iter_no_change": 50}
SETTINGS = {
    "linear": {"dropout": 0.3, "lr_schedule": "cosine", "train_gain": True},
    "random": WORDS | {"mask": True, "l2": 0.1, "dropout": 0.1},
    "best epoch": EARLY | {"lr": 0.01, "lr_schedule": "cosine", "dropout": 0.1},
    "iterative": WORDS | EARLY | {"label_mapping": "iterative"},
    "bayesian": WORDS | {"label_mapping": "bayesian", "dropout": 0.2},
    "fine-tuning": {"fine_tune": True, "lr_schedule": "cosine", "dropout": 0.1},
    "float64": {"precision": "float64", "normalization": "series"},
}


class CrashError(RuntimeError):
    pass


class Crash(Callback):
    """Ends a training as a power failure does, after an epoch."""

    def __init__(self, epoch: int, error: type[BaseException] = CrashError) -> None:
        self.epoch = epoch
        self.error = error

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise self.error


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> str:
    front_end = FrontEndConfig(
        input_length=512, n_fft=64, hop_length=32, pad_left=16, pad_right=16, n_mels=8
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_attrnn(front_end, [f"word{number}" for number in range(12)])
    # As if it had been trained: it does not predict one class for everything.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(2.5)
    path = tmp_path_factory.mktemp("sources") / "small.safetensors"
    save_checkpoint(path, model, {})
    return str(path)


def without_seconds(history):
    return [{k: v for k, v in row.items() if k != "dur"} for row in history]


def assert_same(found: V2SClassifier, expected: V2SClassifier, X: np.ndarray) -> None:
    assert_array_equal(found.perturbation_, expected.perturbation_)
    assert_array_equal(found.input_gain_, expected.input_gain_)
    assert_array_equal(found.predict_proba(X), expected.predict_proba(X))
    assert without_seconds(found.history_) == without_seconds(expected.history_)
    assert found.n_iter_ == expected.n_iter_


def broken_off(source, path, X, y, epoch=5, every=2, **parameters):
    classifier = make_classifier(source, callbacks=[Crash(epoch)], **parameters)
    with pytest.raises(CrashError):
        fit_with_checkpoints(classifier, X, y, path, every=every)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_broken_training_ends_as_if_it_had_not_been(source, tmp_path, name):
    # Labels that nothing explains: the best epoch is one of the first.
    X, y = make_series(n_classes=3)
    y = np.random.default_rng(0).permutation(y)
    parameters = {"max_epochs": 7, **SETTINGS[name]}
    expected = make_classifier(source, **parameters).fit(X, y)
    path = tmp_path / "model.safetensors"
    broken_off(source, path, X, y, **parameters)
    assert len(V2SClassifier.load(path).history_) == 4
    resumed = make_classifier(source, **parameters)
    fit_with_checkpoints(resumed, X, y, path, every=2, resume=True)
    assert_same(resumed, expected, X)
    assert_same(V2SClassifier.load(path), expected, X)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    assert resumed.callbacks is None
    if parameters.get("early_stopping"):
        # What the state keeps beside the present epoch did matter.
        losses = [row["valid_loss"] for row in expected.history_]
        assert int(np.argmin(losses)) < 4


def test_a_training_without_interruption_is_that_of_fit(source, tmp_path):
    X, y = make_series()
    expected = make_classifier(source, dropout=0.2).fit(X, y)
    found = make_classifier(source, dropout=0.2)
    fit_with_checkpoints(found, X, y, tmp_path / "a.safetensors", resume=True)
    assert_same(found, expected, X)


def test_writing_changes_nothing_in_the_running_training(source, tmp_path):
    X, y = make_series()
    plain = make_classifier(source, max_epochs=3).fit(X, y)
    written = make_classifier(source, max_epochs=3)
    fit_with_checkpoints(written, X, y, tmp_path / "a.safetensors")
    assert_array_equal(written.perturbation_, plain.perturbation_)
    assert_array_equal(written.label_mapping_.coef_, plain.label_mapping_.coef_)
    assert written.label_mapping_.temperature_ == plain.label_mapping_.temperature_


def test_it_can_break_more_than_once(source, tmp_path):
    X, y = make_series()
    parameters = {"max_epochs": 9, "lr_schedule": "cosine", "dropout": 0.2}
    expected = make_classifier(source, **parameters).fit(X, y)
    path = tmp_path / "model.safetensors"
    broken_off(source, path, X, y, epoch=3, every=2, **parameters)
    again = make_classifier(source, callbacks=[Crash(6)], **parameters)
    with pytest.raises(CrashError):
        fit_with_checkpoints(again, X, y, path, resume=True)
    # It went on with a checkpoint each two epochs.
    assert len(V2SClassifier.load(path).history_) == 4
    last = make_classifier(source, **parameters)
    assert_same(fit_with_checkpoints(last, X, y, path, resume=True), expected, X)


def test_what_a_killed_write_left_is_removed(source, tmp_path):
    X, y = make_series()
    path = tmp_path / "model.safetensors"
    for target in (path, state_path(path)):
        path.with_name(f".{target.name}.{'0' * 16}").write_bytes(b"half")
    fit_with_checkpoints(make_classifier(source, max_epochs=1), X, y, path)
    assert list(tmp_path.iterdir()) == [path]


def test_patience_is_not_forgotten(source, tmp_path):
    X, y = make_series()
    parameters = WORDS | {"early_stopping": True, "n_iter_no_change": 3, "lr": 2.0}
    parameters |= {"max_epochs": 30, "random_state": 3}
    expected = make_classifier(source, **parameters).fit(X, y)
    assert expected.n_iter_ < 30
    path = tmp_path / "model.safetensors"
    broken_off(source, path, X, y, expected.n_iter_ - 1, every=1, **parameters)
    resumed = make_classifier(source, **parameters)
    assert_same(fit_with_checkpoints(resumed, X, y, path, resume=True), expected, X)
    assert not state_path(path).exists()


def test_a_checkpoint_is_the_classifier_as_the_gradient_left_it(source, tmp_path):
    X, y = make_series()
    path = tmp_path / "model.safetensors"
    broken_off(source, path, X, y, epoch=3, every=2, max_epochs=4)
    checkpoint = V2SClassifier.load(path)
    # partial_fit trains by gradient alone, one epoch for each call, from the same
    # numbers: the same module, head included.
    expected = make_classifier(source, max_epochs=4)
    for _ in range(2):
        expected.partial_fit(X, y)
    assert_array_equal(checkpoint.perturbation_, expected.perturbation_)
    assert_array_equal(checkpoint.predict_proba(X), expected.predict_proba(X))


def test_interrupted_by_the_user(source, tmp_path):
    X, y = make_series()
    path = tmp_path / "model.safetensors"
    stopped = make_classifier(
        source, max_epochs=5, callbacks=[Crash(3, KeyboardInterrupt)]
    )
    with pytest.warns(UserWarning, match="interrupted after 3 complete epochs"):
        fit_with_checkpoints(stopped, X, y, path, every=2)
    # The three epochs are there to predict with, the first two to go on from.
    assert V2SClassifier.load(path).n_iter_ == 3
    assert state_path(path).exists()
    resumed = make_classifier(source, max_epochs=5)
    fit_with_checkpoints(resumed, X, y, path, resume=True)
    assert_same(resumed, make_classifier(source, max_epochs=5).fit(X, y), X)


def test_global_generators_are_left_alone(source, tmp_path):
    X, y = make_series()
    path = tmp_path / "model.safetensors"
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    broken_off(source, path, X, y, max_epochs=6)
    fit_with_checkpoints(make_classifier(source, max_epochs=6), X, y, path, resume=True)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"lr": 0.01}, r"different now: lr=0\.01 \(it was 0\.02\)\."),
        ({"max_epochs": 9}, r"max_epochs=9 \(it was 8\)"),
        ({"dropout": 0.5}, r"dropout=0\.5 \(it was 0\.0\)"),
        ({"lr_schedule": "cosine"}, "lr_schedule='cosine'"),
        ({"early_stopping": True}, "n_iter_no_change=5 .*labels, series"),
        ({"random_state": 1}, "different now: initial perturbation"),
        ({"init_scale": 0.1}, "initial perturbation"),
        ({"n_views": 1}, "initial perturbation"),
        ({"normalization": "series"}, "different now: series"),
        (WORDS, "label mapping"),
        ({"fine_tune": True}, "fine_tune=True"),
        ({"views": ["replicas", "level"]}, r"different now: series\."),
        ({"mapping_size": 2}, r"different now: label mapping\."),
    ],
)
def test_another_training_is_refused(source, tmp_path, change, named):
    X, y = make_series()
    path = tmp_path / "model.safetensors"
    broken_off(source, path, X, y, epoch=3, max_epochs=8)
    classifier = make_classifier(source, **({"max_epochs": 8} | change))
    with pytest.raises(ValueError, match=named):
        fit_with_checkpoints(classifier, X, y, path, resume=True)
    assert classifier.callbacks is None


@pytest.mark.parametrize(
    "change", [{"mapping_size": 2}, {"label_mapping": "frequency"}]
)
def test_another_label_mapping_is_refused(source, tmp_path, change):
    # The matrix of the mapping has the same shape with them.
    X, y = make_series()
    path = tmp_path / "model.safetensors"
    contiguous = WORDS | {"label_mapping": "contiguous"}
    broken_off(source, path, X, y, epoch=3, **contiguous)
    classifier = make_classifier(source, **(contiguous | change))
    with pytest.raises(ValueError, match="different now: label mapping"):
        fit_with_checkpoints(classifier, X, y, path, resume=True)


def test_another_source_is_refused(source, tmp_path):
    X, y = make_series()
    path = tmp_path / "model.safetensors"
    broken_off(source, path, X, y, epoch=3)
    model = load_source(source)
    with torch.no_grad():
        other = copy.deepcopy(model)
        next(other.parameters()).add_(1.0)
    save_checkpoint(tmp_path / "other.safetensors", other, {})
    classifier = make_classifier(str(tmp_path / "other.safetensors"))
    with pytest.raises(ValueError, match="different now: source"):
        fit_with_checkpoints(classifier, X, y, path, resume=True)


def test_a_checkpoint_of_another_version_is_refused(source, tmp_path):
    X, y = make_series()
    path = tmp_path / "model.safetensors"
    broken_off(source, path, X, y, epoch=3)
    state = state_path(path)
    tensors, header, _ = read_tensor_file(state)
    for part in ("module/reprogrammed.perturbation.delta", "generator/train"):
        fewer = {name: value for name, value in tensors.items() if name != part}
        write_tensor_file(state, fewer, header)
        with pytest.raises(TensorFileError, match=r"this version .* cannot read"):
            fit_with_checkpoints(make_classifier(source), X, y, path, resume=True)
    del header["about"]
    write_tensor_file(state, tensors, header)
    with pytest.raises(TensorFileError, match=r"this version .* cannot read"):
        fit_with_checkpoints(make_classifier(source), X, y, path, resume=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rates", [1e9]),
        ("learning_rates", ["x"]),
        ("schedule", {"last_epoch": 1.5, "_step_count": 2, "_last_lr": [0.01]}),
        ("schedule", {"last_epoch": 1, "_step_count": 2, "_last_lr": [-1.0]}),
        ("history", [{"train_loss": "x"}]),
        ("about", {"label mapping": []}),
    ],
)
def test_a_checkpoint_with_other_values_is_refused(source, tmp_path, name, value):
    X, y = make_series()
    path = tmp_path / "model.safetensors"
    broken_off(source, path, X, y, epoch=3, lr_schedule="cosine")
    state = state_path(path)
    tensors, header, _ = read_tensor_file(state)
    write_tensor_file(state, tensors, header | {name: value})
    classifier = make_classifier(source, lr_schedule="cosine")
    with pytest.raises(TensorFileError, match=r"this version .* cannot read"):
        fit_with_checkpoints(classifier, X, y, path, resume=True)


def test_moments_of_another_shape_are_refused(source, tmp_path):
    X, y = make_series()
    path = tmp_path / "model.safetensors"
    broken_off(source, path, X, y, epoch=3)
    state = state_path(path)
    tensors, header, _ = read_tensor_file(state)
    for kind in ("exp_avg", "step"):
        other = tensors | {f"optimizer/0/{kind}": np.zeros((1, 1, 3), np.float32)}
        write_tensor_file(state, other, header)
        with pytest.raises(TensorFileError, match=rf"optimizer/0/{kind} has shape"):
            fit_with_checkpoints(make_classifier(source), X, y, path, resume=True)


def test_other_data_are_refused(source, tmp_path):
    X, y = make_series()
    path = tmp_path / "model.safetensors"
    broken_off(source, path, X, y, epoch=3)
    classifier = make_classifier(source, max_epochs=3)
    with pytest.raises(ValueError, match="different now: labels"):
        fit_with_checkpoints(classifier, X, y[::-1], path, resume=True)
    with pytest.raises(ValueError, match="different now: labels, series"):
        fit_with_checkpoints(classifier, X[:-2], y[:-2], path, resume=True)


def test_other_weights_are_refused(source, tmp_path):
    X, y = make_series()
    path = tmp_path / "model.safetensors"
    # Without mean and scale, which heed the weights, the series are the same.
    broken_off(source, path, X, y, epoch=3, normalization=None)
    classifier = make_classifier(source, normalization=None)
    with pytest.raises(ValueError, match="different now: series"):
        fit_with_checkpoints(
            classifier, X, y, path, resume=True, sample_weight=1 + np.arange(len(y))
        )


def test_refusals(source, tmp_path):
    X, y = make_series()
    path = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match="max_epochs is 0"):
        fit_with_checkpoints(make_classifier(source, max_epochs=0), X, y, path)
    with pytest.raises(ValueError, match="warm_start=True"):
        fit_with_checkpoints(make_classifier(source, warm_start=True), X, y, path)
    with pytest.raises(ValueError, match="every=0 must be"):
        fit_with_checkpoints(make_classifier(source), X, y, path, every=0)
    broken_off(source, path, X, y, epoch=3)
    with pytest.raises(FileExistsError, match=r"model\.state\.safetensors is the"):
        fit_with_checkpoints(make_classifier(source), X, y, path)
    state = state_path(path)
    content = bytearray(state.read_bytes())
    content[-5] ^= 1
    for damaged in (bytes(content), content[:-100], b""):
        state.write_bytes(damaged)
        with pytest.raises(TensorFileError, match=r"is damaged.* Remove the file"):
            fit_with_checkpoints(make_classifier(source), X, y, path, resume=True)
    write_tensor_file(state, {"a": np.zeros(1)}, {"kind": "something"})
    with pytest.raises(TensorFileError, match="holds a 'something'"):
        fit_with_checkpoints(make_classifier(source), X, y, path, resume=True)


@pytest.mark.slow
def test_a_killed_process(source, tmp_path):
    script = f"""
import os
from sklearn_v2s.training.resume import fit_with_checkpoints
from skorch.callbacks import Callback
from tests.small import make_classifier, make_series
class Kill(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 4:
            os._exit(9)
classifier = make_classifier({source!r}, max_epochs=6, dropout=0.2, callbacks=[Kill()])
fit_with_checkpoints(classifier, *make_series(), "model.safetensors", every=3)
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    assert done.returncode == 9
    X, y = make_series()
    parameters = {"max_epochs": 6, "dropout": 0.2}
    resumed = make_classifier(source, **parameters)
    fit_with_checkpoints(resumed, X, y, tmp_path / "model.safetensors", resume=True)
    assert_same(resumed, make_classifier(source, **parameters).fit(X, y), X)
