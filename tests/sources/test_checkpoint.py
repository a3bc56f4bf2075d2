# SPDX-License-Identifier: Apache-2.0
"""Checkpoints and tensor files: bit-exact, and never loaded when damaged."""

import hashlib
import json
import os
import pickle
import random
import struct
import zipfile

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sklearn_v2s.runtime import tensor_file
from sklearn_v2s.runtime.tensor_file import (
    TensorFileError,
    read_tensor_file,
    write_bytes,
    write_tensor_file,
)
from sklearn_v2s.sources import (
    FRONT_ENDS,
    CheckpointError,
    FrontEndConfig,
    LogMelFrontEnd,
    SourceModel,
    SourceOutputs,
    load_checkpoint,
    save_checkpoint,
)
from sklearn_v2s.sources.checkpoint import ARCHITECTURES, Architecture
from sklearn_v2s.sources.networks.attrnn import build_attrnn

CARD = {"corpus": "Töne", "accuracy": {"test/all": 0.1 + 0.2}, "seeds": [1, 2]}

TINY_FRONT_END = FrontEndConfig(
    input_length=64, n_fft=16, hop_length=8, pad_left=0, pad_right=0, n_mels=3
)


class TinyNetwork(nn.Module):
    embedding_size = 3

    def __init__(self, n_classes):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.output = nn.Linear(3, n_classes)

    def forward(self, features):
        embedding = self.norm(features.mean(1))
        return SourceOutputs(self.output(embedding), embedding)


def build_tiny(front_end, classes):
    return SourceModel(
        LogMelFrontEnd(front_end),
        TinyNetwork(len(classes)),
        classes,
        sample_rate=front_end.sample_rate,
        input_length=front_end.input_length,
        architecture="tiny",
    )


@pytest.fixture(scope="module", autouse=True)
def tiny_architecture():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            ARCHITECTURES,
            "tiny",
            Architecture(build_tiny, FrontEndConfig, FRONT_ENDS, "kapre"),
        )
        yield


def make_source(architecture, front_end, classes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        source = ARCHITECTURES[architecture].build(front_end, classes)
        for tensor in source.state_dict().values():
            if tensor.is_floating_point():
                tensor.normal_()
            else:
                tensor.fill_(7)
    return source


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, tiny_architecture):
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    save_checkpoint(path, make_source("tiny", TINY_FRONT_END, ["a", "ب"]), CARD)
    return path


@pytest.fixture(scope="module")
def attrnn(tmp_path_factory):
    path = tmp_path_factory.mktemp("attrnn") / "attrnn.safetensors"
    classes = [f"word {i}" for i in range(36)]
    save_checkpoint(path, make_source("attrnn", FRONT_ENDS["kapre"], classes), CARD)
    return path


# --- what was saved is what is loaded ------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "front_end", "classes"),
    [
        ("tiny", TINY_FRONT_END, ["a", "ب"]),
        ("attrnn", FRONT_ENDS["kapre"], ["yes", "no", "نعم"]),
        ("attrnn", FRONT_ENDS["speech-cmd-recognition"], ["only"]),
    ],
)
def test_round_trip_is_bit_exact(architecture, front_end, classes, tmp_path):
    source = make_source(architecture, front_end, classes)
    path = tmp_path / "model.safetensors"
    sha256 = save_checkpoint(path, source, CARD)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    loaded, card, found = load_checkpoint(path, sha256)
    assert (card, found) == (CARD, sha256)
    assert loaded.classes == tuple(classes)
    assert loaded.architecture == architecture
    assert loaded.front_end.config == front_end
    expected, tensors = source.state_dict(), loaded.state_dict()
    assert expected.keys() == tensors.keys()
    for name, tensor in expected.items():
        assert tensors[name].dtype == tensor.dtype
        assert tensors[name].shape == tensor.shape
        assert tensors[name].numpy().tobytes() == tensor.numpy().tobytes()


def test_same_model_gives_the_same_file(tmp_path):
    for name in ("a", "b"):
        source = make_source("tiny", TINY_FRONT_END, ["a", "b"])
        save_checkpoint(tmp_path / name, source, CARD)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_mel_filters_travel_with_the_checkpoint(tmp_path):
    source = make_source("tiny", TINY_FRONT_END, ["a", "b"])
    source.front_end.filter_bank.fill_(0.25)
    save_checkpoint(tmp_path / "tiny.safetensors", source, {})
    loaded, _, _ = load_checkpoint(tmp_path / "tiny.safetensors")
    assert (loaded.front_end.filter_bank == 0.25).all()


def test_loading_leaves_the_generators_alone(tiny):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    load_checkpoint(tiny)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


@pytest.mark.parametrize(
    "array",
    [
        np.array(5),
        np.zeros((0, 3), dtype=np.float32),
        np.arange(6.0).reshape(2, 3).T,
        np.array([np.nan, -0.0, np.inf]),
        np.array([True, False]),
    ],
    ids=["0-d", "empty", "transposed", "special", "bool"],
)
def test_tensor_file_keeps_any_array(array, tmp_path):
    write_tensor_file(tmp_path / "a", {"a": array}, {"n": 1})
    found = read_tensor_file(tmp_path / "a")
    assert found.header == {"n": 1}
    assert found.tensors["a"].dtype == array.dtype
    assert found.tensors["a"].shape == array.shape
    assert found.tensors["a"].tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "header",
    [
        {"a": "0" * 64},
        {"z": "x" + "0" * 70},
        {"sha256": "mine"},
        {"a": "b" * (1 << 22)},
    ],
    ids=["zeros before", "zeros after", "key", "too long"],
)
def test_refuses_a_header_that_could_not_be_read_again(header, tmp_path):
    with pytest.raises(ValueError, match="header"):
        write_tensor_file(tmp_path / "a", {"a": np.ones(2)}, header)
    assert not list(tmp_path.iterdir())


# --- damage --------------------------------------------------------------------------


def check_refused(path, content):
    # Written over, not anew: some file systems flush a file that is emptied first.
    with open(path, "r+b" if path.exists() else "xb") as stream:
        stream.write(content)
        stream.truncate()
    with pytest.raises(CheckpointError, match="not an intact sklearn_v2s file"):
        load_checkpoint(path)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "damaged.safetensors"


def corrupted(content, where, change):
    position = where % len(content)
    changed = (content[position] + change) % 256
    return content[:position] + bytes([changed]) + content[position + 1 :]


CHANGE = {"where": st.integers(0, 2**40), "change": st.integers(1, 255)}


@settings(max_examples=1000, deadline=None)
@given(**CHANGE)
def test_any_changed_byte_is_noticed(where, change, tiny, damaged):
    check_refused(damaged, corrupted(tiny.read_bytes(), where, change))


@settings(max_examples=300, deadline=None)
@given(**CHANGE)
def test_any_changed_byte_is_noticed_in_attrnn(where, change, attrnn, damaged):
    check_refused(damaged, corrupted(attrnn.read_bytes(), where, change))


def test_a_change_at_every_position_is_noticed(tiny, damaged):
    content, rng = tiny.read_bytes(), random.Random(0)
    for position in range(len(content)):
        # The lowest bit as well: it turns the letters of a digest into others.
        for change in (1, rng.randint(2, 255)):
            check_refused(damaged, corrupted(content, position, change))


def test_the_undamaged_bytes_do_load(tiny, damaged):
    damaged.write_bytes(tiny.read_bytes())
    assert load_checkpoint(damaged)[1] == CARD


@settings(max_examples=200, deadline=None)
@given(length=st.integers(0, 2**40))
def test_any_truncation_is_noticed(length, tiny, damaged):
    content = tiny.read_bytes()
    check_refused(damaged, content[: length % len(content)])


@settings(max_examples=30, deadline=None)
@given(length=st.integers(0, 2**40))
def test_any_truncation_of_attrnn_is_noticed(length, attrnn, damaged):
    content = attrnn.read_bytes()
    check_refused(damaged, content[: length % len(content)])


def test_appended_bytes_are_noticed(tiny, damaged):
    check_refused(damaged, tiny.read_bytes() + b"\0")


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=300))
def test_random_bytes_are_refused(content, damaged):
    check_refused(damaged, content)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"__metadata__": {}}',
        b'{"__metadata__": {"sklearn_v2s": "[]"}}',
        b'{"__metadata__": {"sklearn_v2s": "{}"}}',
        b'{"__metadata__": {"sklearn_v2s": 3}}',
        b'{"__metadata__": {"sklearn_v2s": "{\\"sha256\\": 3}"}}',
        b'{"__metadata__": {"sklearn_v2s": "{\\"sha256\\": \\"abc\\"}"}}',
        b"\xff\xfe\x00",
    ],
)
def test_foreign_headers_are_refused(document, damaged):
    check_refused(damaged, struct.pack("<Q", len(document)) + document)


def test_a_huge_header_claim_is_refused(damaged):
    check_refused(damaged, struct.pack("<Q", 2**63) + b"{}" * 50)


def test_other_files_are_refused(damaged):
    check_refused(damaged, b"")
    check_refused(damaged, pickle.dumps({"weights": [1, 2, 3]}))
    check_refused(damaged, b"# a text\n" * 100)
    with zipfile.ZipFile(damaged, "w") as archive:
        archive.writestr("data.pkl", b"x" * 100)
    check_refused(damaged, damaged.read_bytes())


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_safetensors_file_of_someone_else_is_refused(metadata, damaged):
    content = safetensors.numpy.save({"a": np.ones(3)}, metadata=metadata)
    check_refused(damaged, content)


def test_error_names_the_file_and_what_to_do(tiny, damaged):
    damaged.write_bytes(tiny.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"damaged\.safetensors.*Get the file"):
        load_checkpoint(damaged)


def test_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "none.safetensors")


# --- intact files that do not fit ----------------------------------------------------


def rewritten(tiny, path, tensors=None, header=None):
    """Write the tiny checkpoint with changes, under a digest that is right."""
    file = read_tensor_file(tiny)
    changed = {**file.tensors, **(tensors or {})}
    document = {**file.header, **(header or {})}
    write_tensor_file(
        path,
        {name: array for name, array in changed.items() if array is not None},
        {key: value for key, value in document.items() if value is not None},
    )
    return path


def test_rewriting_without_changes_loads(tiny, damaged):
    assert load_checkpoint(rewritten(tiny, damaged))[1] == CARD


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"network.output.weight": np.ones((3, 2), np.float32)},
            r"network\.output\.weight has shape \(3, 2\), expected \(2, 3\)",
        ),
        (
            {"network.norm.num_batches_tracked": np.ones(1, np.int64)},
            r"num_batches_tracked has shape \(1,\), expected \(\)",
        ),
        ({"network.output.bias": None}, r"network\.output\.bias is missing"),
        ({"extra": np.ones(1)}, "extra is unknown"),
    ],
)
def test_tensors_must_fit_the_architecture(tensors, message, tiny, damaged):
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(rewritten(tiny, damaged, tensors))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"kind": "classifier"}, "holds a 'classifier', not a 'source model'"),
        ({"kind": None}, "holds a None"),
        (
            {"architecture": "conformer"},
            r"'conformer'.*this version has.*attrnn.*Update sklearn-v2s",
        ),
        ({"architecture": None}, r"header of .* has no \['architecture'\]"),
        ({"card": None, "classes": None}, r"has no \['classes', 'card'\]"),
        ({"classes": ["a", "b", "c"]}, r"expected \(3, 3\)"),
        ({"front_end": {"compression": "pcen"}}, "front end.*pcen.*Update"),
        ({"front_end": {"n_mfcc": 13}}, "front end.*n_mfcc.*Update"),
        ({"front_end": {"pad_left": 0.5}}, "front end.*pad_left.*0.5.*Update"),
        ({"front_end": {"pad_right": 2**70}}, "front end.*pad_right .*Update"),
        ({"front_end": {"hop_length": 2**70}}, "front end.*hop_length .*Update"),
        ({"front_end": {"hop_length": 0}}, "front end.*hop_length.*Update"),
        ({"front_end": {"n_fft": True}}, "front end.*n_fft.*True.*Update"),
        ({"front_end": {"f_max": "x"}}, "cannot build .*TypeError.*Update"),
        ({"architecture": {}}, r"architecture \{\}.*Update"),
        ({"classes": 5}, "cannot build .*TypeError.*Update"),
    ],
)
def test_header_must_fit(header, message, tiny, damaged):
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(rewritten(tiny, damaged, header=header))


def test_another_file_than_the_one_asked_for_is_refused(tiny):
    with pytest.raises(CheckpointError, match=f"expected {'f' * 64}"):
        load_checkpoint(tiny, "f" * 64)


def test_an_architecture_that_cannot_be_rebuilt_is_not_saved(tmp_path):
    source = make_source("tiny", TINY_FRONT_END, ["a", "b"])
    source.architecture = "custom"
    with pytest.raises(CheckpointError, match="'custom' cannot be rebuilt"):
        save_checkpoint(tmp_path / "a.safetensors", source, {})
    assert not list(tmp_path.iterdir())


# --- writing -------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file(call, tiny, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    path.write_bytes(tiny.read_bytes())

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensor_file.os, call, fail)
    source = make_source("tiny", TINY_FRONT_END, ["other", "words"])
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, source, {})
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == tiny.read_bytes()


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tensor_file.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "a", b"content")
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_replaced(tmp_path):
    path = tmp_path / "new folder" / "a"
    write_bytes(path, b"old and long")
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_files_get_the_permissions_of_open(tmp_path):
    write_bytes(tmp_path / "a", b"")
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


# --- no pickle -----------------------------------------------------------------------


def test_nothing_is_unpickled(tiny, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a checkpoint was unpickled")

    for owner, name in (
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (torch, "load"),
    ):
        monkeypatch.setattr(owner, name, refuse)
    assert load_checkpoint(tiny)[1] == CARD


def test_file_is_json_and_plain_numbers(tiny):
    content = tiny.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    metadata = header.pop("__metadata__")
    assert json.loads(metadata["sklearn_v2s"])["kind"] == "source model"
    assert {entry["dtype"] for entry in header.values()} == {"F32", "I64"}
    size = sum(
        end - start
        for start, end in (entry["data_offsets"] for entry in header.values())
    )
    assert len(content) == 8 + length + size
    assert not zipfile.is_zipfile(tiny)
    assert set(safetensors.numpy.load_file(tiny)) == set(header)


def test_checkpoint_error_is_a_value_error(tiny, damaged):
    assert issubclass(CheckpointError, ValueError)
    assert issubclass(TensorFileError, ValueError)
    damaged.write_bytes(tiny.read_bytes()[:20])
    with pytest.raises(TensorFileError):
        read_tensor_file(damaged)


def test_attrnn_is_built_by_name():
    assert ARCHITECTURES["attrnn"].build is build_attrnn
