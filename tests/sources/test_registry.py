# SPDX-License-Identifier: Apache-2.0
"""Loading of sources: names, sharing, references, and modules of the user's own."""

import copy
import hashlib
import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from sklearn_v2s.sources import (
    FRONT_ENDS,
    CheckpointError,
    SourceContractError,
    SourceModel,
    SourceOutputs,
    check_source,
    list_sources,
    load_checkpoint,
    load_source,
    register_source,
    save_checkpoint,
)
from sklearn_v2s.sources.contract import SourceReference
from sklearn_v2s.sources.kernel_bank import KernelBankConfig
from sklearn_v2s.sources.networks.attrnn import build_attrnn
from sklearn_v2s.sources.registry import (
    load_reference,
    pack_source,
    shipped_checkpoint,
    source_on,
    unpack_source,
)


def make_attrnn(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_attrnn(FRONT_ENDS["kapre"], ["a", "b", "c"])


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Two checkpoints, and their digests."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return [
        (path, save_checkpoint(path, make_attrnn(seed), {}))
        for seed, path in enumerate(
            [folder / "0.safetensors", folder / "1.safetensors"]
        )
    ]


@pytest.fixture
def shelf(checkpoints, tmp_path, ship_from, forget_sources):
    """An installation of its own: one shipped source, nothing loaded or registered."""
    ship_from(tmp_path)
    forget_sources()
    path, sha256 = checkpoints[0]
    (tmp_path / "tiny.safetensors").write_bytes(path.read_bytes())
    entry = {"file": "tiny.safetensors", "sha256": sha256, "description": "for tests"}
    (tmp_path / "manifest.json").write_text(json.dumps({"tiny": entry}))
    return tmp_path


class Small(nn.Module):
    """A module of the user's own that meets the contract, with every state there is."""

    sample_rate = 16000
    input_length = 40
    classes = ("a", "b")
    embedding_size = 3

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first = nn.Linear(40, 3)
            self.norm = nn.BatchNorm1d(3)
            self.dropout = nn.Dropout(0.5)
            self.last = nn.Linear(3, 2)

    def forward(self, waveform):
        embedding = self.dropout(self.norm(self.first(waveform)))
        return SourceOutputs(self.last(embedding), embedding)


def state_of(module):
    return (
        {name: value.clone() for name, value in module.state_dict().items()},
        [child.training for child in module.modules()],
        [parameter.requires_grad for parameter in module.parameters()],
    )


def assert_same_state(module, state):
    values, modes, gradients = state_of(module)
    assert values.keys() == state[0].keys()
    for name, value in values.items():
        assert torch.equal(value, state[0][name]), name
    assert (modes, gradients) == state[1:]


def assert_frozen(source):
    assert not any(parameter.requires_grad for parameter in source.parameters())
    for module in source.modules():
        assert module.training is isinstance(module, nn.RNNBase)


# --- names and paths -----------------------------------------------------------------


def test_loads_a_shipped_source_by_name(shelf, checkpoints):
    source = load_source("tiny")
    assert_frozen(source)
    assert source.reference == SourceReference("tiny", checkpoints[0][1])
    expected = make_attrnn(0).state_dict()
    for name, value in source.state_dict().items():
        assert torch.equal(value, expected[name])
    assert shipped_checkpoint("tiny") == (shelf / "tiny.safetensors", checkpoints[0][1])
    assert list_sources() == {"tiny": "for tests"}


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
def test_loads_a_source_by_path(kind, shelf, checkpoints):
    path, sha256 = checkpoints[1]
    source = load_source(kind(path))
    assert_frozen(source)
    assert source.reference == SourceReference(str(path), sha256)


def test_unknown_name_lists_the_names(shelf):
    register_source("mine", Small)
    with pytest.raises(ValueError, match=r"unknown source 'tyni'.*\['mine', 'tiny'\]"):
        load_source("tyni")


def test_missing_file_is_named(shelf, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors.*no such"):
        load_source(tmp_path / "gone.safetensors")


def test_damaged_shipped_file_is_refused(shelf, checkpoints):
    # Intact in itself, but not the one that was shipped.
    (shelf / "tiny.safetensors").write_bytes(checkpoints[1][0].read_bytes())
    with pytest.raises(CheckpointError, match="not the file that was asked for"):
        load_source("tiny")


@pytest.mark.parametrize("thing", [None, 3, ["tiny"], np.zeros(3), Small], ids=type)
def test_things_that_are_no_source_are_refused(thing, shelf):
    with pytest.raises(SourceContractError, match=r"must be a torch\.nn\.Module"):
        load_source(thing)


# --- sharing -------------------------------------------------------------------------


def test_the_same_source_is_shared(shelf, checkpoints):
    path = checkpoints[1][0]
    assert load_source("tiny") is load_source("tiny")
    assert load_source(path) is load_source(str(path))
    assert load_source("tiny") is not load_source(path)
    assert load_source(load_source("tiny")) is load_source("tiny")


def test_each_precision_has_its_own_copy(shelf):
    single, double = load_source("tiny"), load_source("tiny", torch.float64)
    assert single is not double
    assert double is load_source("tiny", torch.float64)
    assert load_source(single, torch.float64) is double
    assert {p.dtype for p in single.parameters()} == {torch.float32}
    assert {p.dtype for p in double.parameters()} == {torch.float64}
    for one, other in zip(single.parameters(), double.parameters(), strict=True):
        assert torch.equal(one.double(), other)


def test_threads_share_one_source(shelf):
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(load_source, ["tiny"] * 8))
    assert len({id(source) for source in loaded}) == 1


def test_a_changed_file_is_another_source(shelf, checkpoints, tmp_path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(checkpoints[0][0].read_bytes())
    before = load_source(path)
    path.write_bytes(checkpoints[1][0].read_bytes())
    after = load_source(path)
    assert before is not after
    assert before.reference.sha256 == checkpoints[0][1]
    assert after.reference.sha256 == checkpoints[1][1]


def test_a_name_is_kept_though_its_file_was_loaded_by_path(shelf):
    by_path = load_source(shelf / "tiny.safetensors")
    assert load_source("tiny").reference.name == "tiny"
    assert by_path.reference.name == str(shelf / "tiny.safetensors")


# --- references ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_estimators_share_a_loaded_source(dtype, shelf):
    source = load_source("tiny", dtype)
    assert clone(source, safe=False) is source
    packed = pickle.loads(pickle.dumps(pack_source(source)))
    assert unpack_source(packed, dtype) is source
    other = copy.deepcopy(source)
    assert other is not source and load_source(other, dtype) is source


def test_a_device_gets_one_copy(shelf, monkeypatch):
    source = load_source("tiny")
    # What a copy holds is of no interest: "meta" is a device that every machine has.
    there = source_on(source, torch.device("meta"))
    assert next(there.parameters()).is_meta and not next(source.parameters()).is_meta
    assert source_on(source, torch.device("meta")) is there
    assert source_on(source, torch.device("cpu")) is source


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_holds_a_name_and_no_weights(protocol, shelf, checkpoints):
    content = pickle.dumps(pack_source(load_source("tiny")), protocol)
    assert len(content) < 1000
    assert checkpoints[0][1].encode() in content


def test_pickle_is_read_in_a_process_that_loaded_nothing(shelf, forget_sources):
    source = load_source("tiny", torch.float64)
    content = pickle.dumps(pack_source(source))
    forget_sources()
    found = unpack_source(pickle.loads(content), torch.float64)
    assert found is not source
    assert found is load_source("tiny", torch.float64)
    assert found.reference == source.reference
    assert_frozen(found)


def test_pickle_of_another_version_is_refused(shelf, checkpoints, forget_sources):
    packed = pack_source(load_source("tiny"))
    path, sha256 = checkpoints[1]
    entry = {"file": str(path), "sha256": sha256, "description": "newer"}
    (shelf / "manifest.json").write_text(json.dumps({"tiny": entry}))
    forget_sources()
    with pytest.raises(CheckpointError, match=f"{sha256} here.*{checkpoints[0][1]}"):
        unpack_source(packed, torch.float32)


def test_reference_to_a_changed_file_is_refused(shelf, checkpoints):
    with pytest.raises(CheckpointError, match="fitted with"):
        load_reference(str(checkpoints[0][0]), checkpoints[1][1], "float32")


def test_reference_to_a_name_that_is_now_the_users_is_refused(shelf):
    register_source("gone", Small)
    with pytest.raises(CheckpointError, match="fitted with"):
        load_reference("gone", "0" * 64, "float32")


def test_reference_to_a_deleted_file_says_so(
    shelf, checkpoints, tmp_path, forget_sources
):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(checkpoints[0][0].read_bytes())
    packed = pack_source(load_source(path))
    path.unlink()
    assert unpack_source(packed, torch.float32) is not None  # still in memory
    forget_sources()
    with pytest.raises(FileNotFoundError, match=r"mine\.safetensors"):
        unpack_source(packed, torch.float32)


def test_copy_source_has_its_own_weights(shelf):
    source = load_source("tiny")
    duplicate = copy.deepcopy(source)
    assert duplicate is not source
    assert duplicate.reference == source.reference
    assert_same_state(duplicate, state_of(source))
    duplicate.network.output.weight.zero_()
    duplicate.double()
    assert source.network.output.weight.abs().max() > 0.0
    assert source.network.output.weight.dtype == torch.float32


# --- modules of the user -------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_module_is_copied_and_frozen(dtype, shelf):
    mine = Small().train()
    mine.first.weight.requires_grad_(False)
    state = state_of(mine)
    source = load_source(mine, dtype)
    assert source is not mine
    assert_frozen(source)
    assert {value.dtype for value in source.parameters()} == {dtype}
    assert_same_state(mine, state)
    source.last.weight.zero_()
    assert_same_state(mine, state)


def test_a_read_checkpoint_may_be_handed_in(shelf, checkpoints):
    mine, _, _ = load_checkpoint(checkpoints[0][0])
    state = state_of(mine.train())
    source = load_source(mine)
    assert source is not mine
    assert_frozen(source)
    assert_same_state(mine, state)


def test_a_module_may_have_a_part_called_reference(shelf):
    mine = Small()
    mine.reference = nn.Linear(2, 2)
    source = load_source(mine)
    assert isinstance(source.reference, nn.Linear)
    assert source.reference is not mine.reference


def test_a_module_without_reference_is_copied_by_value(shelf):
    source = make_attrnn()
    duplicate = pickle.loads(pickle.dumps(source))
    assert duplicate is not source
    assert_same_state(duplicate, state_of(source))
    assert load_source(source) is not load_source(source)


class Wrapped(nn.Module):
    """A module around a source that all estimators share."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.classes, self.embedding_size = inner.classes, inner.embedding_size
        self.sample_rate, self.input_length = inner.sample_rate, inner.input_length

    def forward(self, waveform):
        return self.inner(waveform)


def test_a_module_around_a_shared_source_does_not_change_it(shelf):
    shared_one = load_source("tiny")
    mine = Wrapped(shared_one)
    source = load_source(mine, torch.float64)
    assert mine.inner is shared_one
    assert source.inner is not shared_one
    assert source.inner.reference == shared_one.reference
    assert {value.dtype for value in source.parameters()} == {torch.float64}
    assert {value.dtype for value in shared_one.parameters()} == {torch.float32}
    # A module of the user's is pickled whole.
    assert pack_source(source) is source


def test_a_bad_module_is_refused(shelf):
    mine = Small()
    mine.classes = ("a", "b", "c")
    with pytest.raises(SourceContractError, match=r"logits.*\(2, 3\), got \(2, 2\)"):
        load_source(mine)


def test_a_registered_source_is_made_and_frozen(shelf):
    made = []

    def factory():
        made.append(Small().train())
        return made[-1]

    register_source("mine", factory)
    assert list_sources()["mine"] == "registered by the user"
    source = load_source("mine", torch.float64)
    assert len(made) == 1
    assert_frozen(source)
    assert made[0].training
    assert made[0].first.weight.dtype == torch.float32
    assert load_source("mine") is not source


def test_a_factory_may_return_a_shared_source(shelf):
    register_source("mine", lambda: load_source("tiny"))
    shared_one = load_source("tiny")
    source = load_source("mine", torch.float64)
    assert source is not shared_one
    assert {value.dtype for value in source.parameters()} == {torch.float64}
    assert {value.dtype for value in shared_one.parameters()} == {torch.float32}


def test_a_bad_factory_is_refused(shelf):
    register_source("mine", lambda: "tiny")
    with pytest.raises(SourceContractError, match="got str"):
        load_source("mine")


def test_a_shipped_name_cannot_be_taken(shelf):
    with pytest.raises(ValueError, match="'tiny' belongs to a shipped"):
        register_source("tiny", Small)


def test_loading_leaves_the_generators_alone(shelf, checkpoints):
    register_source("random", lambda: build_attrnn(FRONT_ENDS["kapre"], ["a"]))
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    for thing in ("tiny", checkpoints[1][0], Small().train(), "random"):
        load_source(thing)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


# --- the contract --------------------------------------------------------------------


def outputs(function):
    """Return Small with another forward; `function` gets what it would return."""

    def change(source):
        forward = source.forward
        source.forward = lambda waveform: function(*forward(waveform))

    return change


def without(attribute):
    def change(source):
        source.__class__ = type("Small", (nn.Module,), {"forward": Small.forward})
        for name in ("sample_rate", "input_length", "classes", "embedding_size"):
            if name != attribute:
                setattr(source, name, getattr(Small, name))

    return change


def attribute(name, value):
    return lambda source: setattr(source, name, value)


def raise_inside(source):
    def forward(waveform):
        raise RuntimeError("too long")

    source.forward = forward


def ignore_the_waveform(source):
    # The logits depend on weights that require a gradient, but not on the sound.
    forward = source.forward
    source.forward = lambda waveform: forward(waveform.detach())


def infinite_slope(source):
    forward = source.forward

    def root(waveform):
        silent = (waveform * 0.0).sum().sqrt()
        return SourceOutputs(*(part + silent for part in forward(waveform)))

    source.forward = root


WRONG = {
    "no sample rate": (without("sample_rate"), "has no attribute 'sample_rate'"),
    "no length": (without("input_length"), "has no attribute 'input_length'"),
    "no classes": (without("classes"), "has no attribute 'classes'"),
    "no size": (without("embedding_size"), "has no attribute 'embedding_size'"),
    "length 0": (attribute("input_length", 0), "must be a positive int, got 0"),
    "length 1.5": (attribute("input_length", 1.5), "must be a positive int, got 1.5"),
    "classes 2": (attribute("classes", 2), "classes must be a sequence"),
    "size x": (attribute("embedding_size", "x"), "embedding_size an int"),
    "tensor": (outputs(lambda logits, _: logits), "returned Tensor; return SourceOut"),
    "tuple": (outputs(lambda *both: both), "returned tuple; return SourceOutputs"),
    "none": (outputs(lambda *_: None), "returned NoneType"),
    "wrong logits": (
        outputs(lambda logits, e: SourceOutputs(logits[:, :1], e)),
        r"logits of 2 waveforms must be a tensor of shape \(2, 2\), got \(2, 1\)",
    ),
    "wrong embedding": (
        outputs(lambda logits, e: SourceOutputs(logits, e[0])),
        r"embedding of 2 waveforms must be .* \(2, 3\), got \(3,\)",
    ),
    "numpy": (
        outputs(lambda logits, e: SourceOutputs(logits.detach().numpy(), e)),
        "logits of 2 waveforms must be a tensor .*ndarray",
    ),
    "nan": (
        outputs(lambda logits, e: SourceOutputs(logits * torch.nan, e)),
        "logits must be finite",
    ),
    "infinite": (
        outputs(lambda logits, e: SourceOutputs(logits, e + torch.inf)),
        "embedding must be finite",
    ),
    "detached": (
        outputs(lambda logits, e: SourceOutputs(logits.detach(), e)),
        "no gradient flows back",
    ),
    "deaf": (ignore_the_waveform, "no gradient flows back"),
    "infinite slope": (infinite_slope, "gradient .* must be finite"),
    "raises": (raise_inside, r"failed on a waveform of shape \(2, 40\): .*too long"),
    "other length": (attribute("input_length", 41), r"failed on .* \(2, 41\)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_check_says_what_is_wrong(case):
    change, message = WRONG[case]
    source = Small()
    change(source)
    with pytest.raises(SourceContractError, match=message) as caught:
        check_source(source)
    assert "source Small" in str(caught.value)
    assert isinstance(caught.value, TypeError)


def test_check_returns_the_object_untouched():
    source = Small().train()
    source.dropout.eval()
    source.last.bias.requires_grad_(False)
    state, generator = state_of(source), torch.get_rng_state()
    assert check_source(source) is source
    assert_same_state(source, state)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(parameter.grad is None for parameter in source.parameters())


def test_a_failing_check_restores_the_modes():
    source = Small().train()
    source.forward = lambda waveform: None
    with pytest.raises(SourceContractError):
        check_source(source)
    assert all(module.training for module in source.modules())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_check_works_where_gradients_are_off(mode):
    source = Small()
    with mode():
        assert check_source(source) is source


def test_check_follows_the_precision_of_the_source():
    assert check_source(Small().double()).last.weight.dtype == torch.float64


def test_source_model_meets_the_contract():
    source = make_attrnn()
    assert isinstance(check_source(source), SourceModel)


# --- what ships ----------------------------------------------------------------------


FRONT_END_OF_SHIPPED = {
    "attrnn": FRONT_ENDS["kapre"],
    "tc-resnet": FRONT_ENDS["mel-64"],
    "unet-attrnn": FRONT_ENDS["kapre"],
    "wavebank": KernelBankConfig(),
}


def test_every_shipped_source_is_tested_here():
    registered = {
        name for name, text in list_sources().items() if text.startswith("registered")
    }
    assert set(list_sources()) - registered == set(FRONT_END_OF_SHIPPED)


@pytest.mark.parametrize("name", FRONT_END_OF_SHIPPED)
def test_a_shipped_source_matches_its_card(name):
    source = load_source(name)
    assert_frozen(source)
    assert check_source(source) is source
    path, sha256 = shipped_checkpoint(name)
    assert path.stat().st_size < 2_000_000
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    again, card, found = load_checkpoint(path, sha256)
    assert found == sha256 == source.reference.sha256
    assert source.classes == again.classes
    assert len(set(source.classes)) == len(source.classes)
    assert source.front_end.config == FRONT_END_OF_SHIPPED[name]
    assert {"corpus", "licence", "accuracy", "command", "settings"} <= card.keys()
    assert all(0.5 < entry["accuracy"] <= 1.0 for entry in card["accuracy"].values())
    assert path.with_suffix(".md").is_file()
    assert sha256 in path.with_suffix(".md").read_text(encoding="utf-8")
    assert unpack_source(pack_source(source), torch.float32) is source


@pytest.mark.parametrize("name", ["attrnn", "unet-attrnn", "wavebank"])
def test_an_untrained_source_is_the_same_architecture_with_other_weights(name):
    state = torch.random.get_rng_state()
    trained, untrained = load_source(name), load_source(f"{name}:untrained")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert untrained.classes == trained.classes
    assert untrained.reference is None
    again = load_source(f"{name}:untrained").state_dict()
    learned = dict(trained.named_parameters())
    for key, tensor in untrained.state_dict().items():
        assert torch.equal(tensor, again[key])
        assert tensor.shape == trained.state_dict()[key].shape
        if key in learned and "norm" not in key:
            assert not torch.equal(tensor, learned[key])


@pytest.mark.parametrize(
    ("name", "n_bands", "n_classes"),
    [
        ("resnet", 80, 43),
        ("tcn-paper", 80, 43),
        ("vggish", 64, 43),
        ("yamnet", 64, 521),
    ],
)
def test_an_architecture_without_a_checkpoint_comes_untrained(name, n_bands, n_classes):
    source = load_source(f"{name}:untrained")
    assert source.architecture == name
    assert len(source.classes) == n_classes
    assert source.front_end.config.n_mels == n_bands
    assert not any(each.requires_grad for each in source.parameters())
    first = next(iter(source.parameters()))
    assert torch.equal(first, next(iter(load_source(f"{name}:untrained").parameters())))


def test_only_architectures_come_untrained():
    with pytest.raises(ValueError, match=r"unknown source 'nobody:untrained'.*'tcn'"):
        load_source("nobody:untrained")


def test_the_shipped_wavebank_has_kernels_without_mean():
    source = load_source("wavebank")
    kernels = source.front_end.kernels
    assert kernels.shape == (84, 9)
    assert kernels.sum(1).abs().max() < 1e-6
    outputs = source(torch.zeros(1, source.input_length))
    assert outputs.logits.shape == (1, len(source.classes))
