# SPDX-License-Identifier: Apache-2.0
"""torchaudio bundles as sources, with small random weights, against torchaudio."""

import copy
import dataclasses
import pickle
import subprocess
import sys

import pytest
import torch
from sklearn.base import clone

from sklearn_v2s import V2SClassifier
from sklearn_v2s.sources import CheckpointError, check_source, load_source
from sklearn_v2s.sources.registry import pack_source, unpack_source
from sklearn_v2s.sources.torchaudio_bundle import (
    BundleNetwork,
    WaveformFrontEnd,
    bundle_file,
    list_bundles,
)

try:
    import torchaudio
    from torchaudio import pipelines
except (ImportError, OSError, RuntimeError) as error:
    pytest.skip(f"torchaudio does not load here: {error}", allow_module_level=True)

SMALL = {
    "extractor_conv_layer_config": [(12, 40, 20), (12, 8, 16)],
    "encoder_embed_dim": 8,
    "encoder_pos_conv_kernel": 4,
    "encoder_pos_conv_groups": 2,
    "encoder_num_layers": 3,
    "encoder_num_heads": 2,
    "encoder_ff_interm_features": 16,
}
# One of each kind: groups and layers as norms, characters or none, other languages.
NAMES = (
    "WAV2VEC2_ASR_BASE_960H",
    "WAV2VEC2_BASE",
    "WAV2VEC2_ASR_LARGE_LV60K_10M",
    "WAV2VEC2_XLSR_300M",
    "HUBERT_ASR_LARGE",
    "WAVLM_BASE",
    "WAVLM_LARGE",
    "VOXPOPULI_ASR_BASE_10K_DE",
    "MMS_FA",
)
NON_COMMERCIAL = pytest.mark.filterwarnings("ignore:.*must not be used commercially")


def small(bundle):
    return dataclasses.replace(bundle, _params={**bundle._params, **SMALL})


def random_state(bundle, seed=0):
    """Weights as they are downloaded: with the rows that torchaudio removes."""
    models = torchaudio.models
    factory = (
        models.wavlm_model if bundle._model_type == "WavLM" else models.wav2vec2_model
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = factory(**bundle._params).state_dict()
        for name, value in state.items():
            if name.startswith(("aux.", "encoder.transformer.layer_norm.")):
                # As if trained: what is always 1 or 0 at the beginning hides mistakes.
                state[name] = torch.randn_like(value)
        if "aux.bias" in state:
            for key in ("aux.weight", "aux.bias"):
                rows = list(state[key])
                for place in bundle._remove_aux_axis:
                    rows.insert(place, torch.full_like(rows[0], 99.0))
                state[key] = torch.stack(rows)
    return state


@pytest.fixture
def shelf(tmp_path, monkeypatch, forget_sources):
    """A folder of torch.hub with small weights under the names of the real ones."""
    forget_sources()
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path))
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in NAMES:
        bundle = small(getattr(pipelines, name))
        monkeypatch.setattr(pipelines, name, bundle)
        file = bundle._path.rsplit("/", 1)[-1]
        torch.save(random_state(bundle), folder / file)
    yield folder
    torch.hub.set_dir(before)


def speech(batch=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(batch, 16000, generator=generator).to(dtype) * 0.1


@pytest.mark.parametrize("name", NAMES)
@NON_COMMERCIAL
def test_outputs_are_those_of_torchaudio(name, shelf):
    bundle = getattr(pipelines, name)
    theirs = bundle.get_model()
    waveforms = speech()
    layers = [theirs.extract_features(one[None])[0] for one in waveforms]
    for layer in (1, 2, 3):
        source = load_source(f"torchaudio:{name}:{layer}")
        expected = torch.cat([found[layer - 1] for found in layers]).mean(1)
        torch.testing.assert_close(
            source(waveforms).embedding, expected, atol=1e-5, rtol=1e-4
        )
    last = load_source(f"torchaudio:{name}")
    outputs = last(waveforms)
    torch.testing.assert_close(outputs.embedding, expected, atol=1e-5, rtol=1e-4)
    if not hasattr(bundle, "get_labels"):
        assert outputs.logits is outputs.embedding
        assert last.classes == tuple(map(str, range(8)))
        return
    arguments = {"star": None} if name == "MMS_FA" else {}
    labels = bundle.get_labels(**arguments)
    assert last.classes == labels[1:]
    scores = torch.cat([theirs(one[None])[0] for one in waveforms])
    if name == "MMS_FA":
        # torchaudio normalises these to log-probabilities; the rest is the same.
        scores = scores[..., : len(labels)]
        frames = [last.network.model(last.front_end(one[None]))[0] for one in waveforms]
        torch.testing.assert_close(
            torch.cat(frames).log_softmax(-1), scores, atol=1e-5, rtol=1e-4
        )
        scores = torch.cat(frames)
    torch.testing.assert_close(
        outputs.logits, scores[..., 1:].mean(1), atol=1e-5, rtol=1e-4
    )


def test_layer_zero_is_the_convolutions(shelf):
    source = load_source("torchaudio:WAV2VEC2_BASE:0")
    waveforms = speech()
    expected = pipelines.WAV2VEC2_BASE.get_model().feature_extractor(waveforms, None)
    torch.testing.assert_close(source(waveforms).embedding, expected[0].mean(1))
    assert source.embedding_size == 12
    assert len(source.classes) == 12


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@NON_COMMERCIAL
def test_every_kind_is_a_frozen_source(name, dtype, shelf):
    state = torch.get_rng_state()
    source = load_source(f"torchaudio:{name}", dtype)
    assert torch.equal(torch.get_rng_state(), state)
    assert check_source(source) is source
    assert not any(parameter.requires_grad for parameter in source.parameters())
    assert {parameter.dtype for parameter in source.parameters()} == {dtype}
    assert (
        unpack_source(pickle.loads(pickle.dumps(pack_source(source))), dtype) is source
    )
    assert clone(source, safe=False) is source
    duplicate = copy.deepcopy(source)
    waveforms = speech(dtype=dtype)
    assert torch.equal(duplicate(waveforms).logits, source(waveforms).logits)
    for parameter in duplicate.parameters():
        parameter.data.zero_()
    assert source(waveforms).logits.abs().max() > 0


@pytest.mark.parametrize("name", ["WAV2VEC2_ASR_BASE_960H", "HUBERT_ASR_LARGE"])
def test_gradient_at_silence_is_finite(name, shelf):
    source = load_source(f"torchaudio:{name}")
    silence = torch.zeros(1, 16000, requires_grad=True)
    source(silence).logits.sum().backward()
    assert torch.isfinite(silence.grad).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_is_that_of_finite_differences(dtype, shelf):
    source = load_source("torchaudio:HUBERT_ASR_LARGE", torch.float64)
    waveform = speech(1, torch.float64).requires_grad_()
    weight = torch.randn(len(source.classes), dtype=torch.float64)
    (source(waveform).logits[0] @ weight).backward()
    direction = torch.randn(1, 16000, dtype=torch.float64)
    step = 1e-6
    with torch.no_grad():
        above, below = (
            source(waveform + sign * step * direction).logits[0] @ weight
            for sign in (1.0, -1.0)
        )
    expected = (waveform.grad * direction).sum()
    assert float((above - below) / (2 * step)) == pytest.approx(float(expected), 1e-4)


def test_outputs_for_a_waveform_do_not_depend_on_its_batch(shelf):
    source = load_source("torchaudio:HUBERT_ASR_LARGE")
    waveforms = speech(3) * torch.tensor([[1.0], [0.1], [10.0]])
    together = source(waveforms).logits
    one_by_one = torch.cat([source(one[None]).logits for one in waveforms])
    torch.testing.assert_close(together, one_by_one, atol=1e-5, rtol=1e-4)


def test_a_classifier_with_a_bundle_as_its_source(shelf):
    rng = torch.Generator().manual_seed(0)
    series = torch.randn(24, 50, generator=rng).numpy()
    series[12:] += 2.0
    classes = ["low"] * 12 + ["high"] * 12
    classifier = V2SClassifier(
        "torchaudio:WAV2VEC2_ASR_BASE_960H:2",
        views="replicas",
        normalization="global",
        max_epochs=0,
        random_state=0,
    ).fit(series, classes)
    assert classifier.score(series, classes) > 0.7
    content = pickle.dumps(classifier)
    again = pickle.loads(content)
    assert (again.predict_proba(series) == classifier.predict_proba(series)).all()


# --- names, licences, errors ---------------------------------------------------------


def test_every_bundle_has_a_name_and_the_licence_of_its_documentation():
    theirs = {
        f"torchaudio:{name}": getattr(pipelines, name)
        for name in pipelines.__all__
        if isinstance(getattr(pipelines, name), pipelines.Wav2Vec2Bundle)
    }
    assert set(list_bundles()) == set(theirs)
    assert len(theirs) == 30
    for name, licence in list_bundles().items():
        said = " ".join(theirs[name].__doc__.replace("-", " ").split())
        assert ("under MIT License" in said) is (licence == "MIT"), name
        forbids = "CC BY NC 4.0" in said
        assert forbids is (licence == "CC-BY-NC-4.0"), name


def test_non_commercial_weights_are_announced(shelf):
    for name in ("VOXPOPULI_ASR_BASE_10K_DE", "MMS_FA"):
        with pytest.warns(UserWarning, match=rf"{name}.*CC-BY-NC-4\.0"):
            load_source(f"torchaudio:{name}")


@pytest.mark.filterwarnings("error")
def test_free_weights_are_loaded_in_silence(shelf):
    load_source("torchaudio:WAV2VEC2_BASE")


def test_missing_weights_say_where_they_belong(shelf):
    (shelf / "wav2vec2_fairseq_base_ls960.pth").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        load_source("torchaudio:WAV2VEC2_BASE")
    for part in (
        "'wav2vec2_fairseq_base_ls960.pth'",
        str(shelf),
        "torchaudio.pipelines.WAV2VEC2_BASE.get_model()",
        "licence: MIT",
        "TORCH_HOME",
    ):
        assert part in str(caught.value)


def test_the_file_of_a_full_address_is_its_last_part(shelf):
    assert bundle_file("torchaudio:MMS_FA") == shelf / "model.pt"


class Evil:
    def __reduce__(self):
        return exec, ("import sys; sys.v2s_was_here = True",)


@pytest.mark.parametrize(
    "content",
    [{"a": Evil()}, {"a": torch.zeros(2)}, [1, 2], "text"],
    ids=["code", "other weights", "a list", "text"],
)
def test_other_files_are_refused_and_never_run(content, shelf):
    torch.save(content, shelf / "wav2vec2_fairseq_base_ls960.pth")
    with pytest.raises(CheckpointError, match=r"does not hold the weights.*get_model"):
        load_source("torchaudio:WAV2VEC2_BASE")
    assert not hasattr(sys, "v2s_was_here")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"<html>not found</html>"])
def test_damaged_files_are_refused(content, shelf):
    (shelf / "wav2vec2_fairseq_base_ls960_asr_ls960.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="does not hold the weights"):
        load_source("torchaudio:WAV2VEC2_ASR_BASE_960H")


def test_changed_weights_are_other_weights(shelf, forget_sources):
    name = "torchaudio:WAV2VEC2_BASE"
    before = load_source(name)
    assert load_source(name) is before
    packed = pack_source(before)
    state = random_state(pipelines.WAV2VEC2_BASE, seed=1)
    state["encoder.transformer.layer_norm.weight"] += 1.0
    torch.save(state, shelf / "wav2vec2_fairseq_base_ls960.pth")
    after = load_source(name)
    assert after is not before
    assert after.reference.sha256 != before.reference.sha256
    forget_sources()
    with pytest.raises(CheckpointError, match="was fitted with"):
        unpack_source(packed, torch.float32)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchaudio:WAV2VEC9", "unknown source 'torchaudio:WAV2VEC9'.*HUBERT_BASE"),
        ("torchaudio:SQUIM_OBJECTIVE", "unknown source"),
        ("torchaudio:__name__", "unknown source"),
        ("torchaudio:WAV2VEC2_BASE:last", "whole number from 0 on, got 'last'"),
        ("torchaudio:WAV2VEC2_BASE:-1", "whole number from 0 on, got '-1'"),
        ("torchaudio:WAV2VEC2_BASE:4", r"from 0 \(the convolutions\) to 3, got 4"),
    ],
)
def test_names_that_mean_nothing_are_refused(name, message, shelf):
    with pytest.raises(ValueError, match=message):
        load_source(name)


def test_models_are_what_the_network_takes():
    model = torchaudio.models.wav2vec2_model(
        **small(pipelines.WAV2VEC2_BASE)._params
    ).eval()
    network = BundleNetwork(model, 1)
    assert (network.n_layers, network.embedding_size) == (3, 8)
    assert network(WaveformFrontEnd(False)(speech())).embedding.shape == (2, 8)


def test_torchaudio_is_imported_only_when_it_is_asked_for():
    code = (
        "import sys, sklearn_v2s\n"
        "from sklearn_v2s.sources import load_source\n"
        "from sklearn_v2s.sources.torchaudio_bundle import list_bundles\n"
        "list_bundles(), load_source('attrnn')\n"
        "assert 'torchaudio' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_torchaudio_that_does_not_load_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    with pytest.raises(ImportError, match=r"sklearn-v2s\[audio\]"):
        load_source("torchaudio:WAV2VEC2_BASE")
