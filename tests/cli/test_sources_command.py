# SPDX-License-Identifier: Apache-2.0
"""The commands ``v2s sources`` and the evaluation behind one of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import wavfile
from torch import Tensor, nn

from sklearn_v2s import cli
from sklearn_v2s.pretraining.evaluation import evaluate_source
from sklearn_v2s.sources import (
    FRONT_ENDS,
    SourceOutputs,
    list_sources,
    load_checkpoint,
    load_source,
    register_source,
    save_checkpoint,
)
from sklearn_v2s.sources.networks.attrnn import build_attrnn
from sklearn_v2s.sources.registry import shipped_checkpoint

WORDS = ("unknown/silence", "go", "stop", "wow")


class Levels(nn.Module):
    """Names a clip after its mean level, so that the right class is known."""

    sample_rate = 16000
    input_length = 16000
    embedding_size = 1

    def __init__(self, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, waveform: Tensor) -> SourceOutputs:
        level = waveform.mean(dim=1, keepdim=True)
        centres = torch.arange(len(self.classes)) * 0.1
        return SourceOutputs(-((level - centres) ** 2), level)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two clips of each of four words; one "go" sounds like "stop"."""
    folder = tmp_path / "corpus"
    levels = {
        "go": (0.1, 0.2),
        "stop": (0.2, 0.2),
        "left": (0.0, 0.0),
        "up": (0.0, 0.3),
    }
    for word, values in levels.items():
        (folder / word).mkdir(parents=True)
        for index, level in enumerate(values):
            clip = np.full(16000, level * 32768, dtype=np.int16)
            wavfile.write(folder / word / f"a{index}_nohash_0.wav", 16000, clip)
    (folder / "testing_list.txt").write_text("go/a0_nohash_0.wav\nup/a1_nohash_0.wav\n")
    (folder / "validation_list.txt").write_text("")
    return folder


@pytest.fixture
def checkpoints(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ship_from: Callable[[Path], None],
) -> Path:
    """A package that ships one checkpoint, and an empty cache."""
    folder = tmp_path / "checkpoints"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        source = build_attrnn(FRONT_ENDS["kapre"], WORDS)
    card = {
        "licence": "CC BY 4.0, somebody",
        "accuracy": {"test/all": {"accuracy": 0.875, "n_clips": 8, "n_speakers": 2}},
    }
    sha256 = save_checkpoint(folder / "tiny.safetensors", source, card)
    entry = {"file": "tiny.safetensors", "sha256": sha256, "description": "a test"}
    (folder / "manifest.json").write_text(json.dumps({"tiny": entry}))
    ship_from(folder)
    monkeypatch.setenv("SKLEARN_V2S_CACHE", str(tmp_path / "cache"))
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main(["sources", *map(str, arguments)])
    return code, *capsys.readouterr()


# --- evaluate_source ------------------------------------------------------------------


def test_unknown_words_count_as_the_unknown_class(corpus: Path) -> None:
    result = evaluate_source(Levels(WORDS), corpus)
    assert result.unknown_words == ("left", "up")
    assert result.unknown_class == "unknown/silence"
    # Wrong: the "go" that sounds like "stop", and the "up" that sounds like "wow".
    assert (result.n_right, result.n_clips, result.n_left_out) == (6, 8, 0)
    assert result.accuracy == 0.75


def test_without_an_unknown_class_they_are_left_out(corpus: Path) -> None:
    result = evaluate_source(Levels(("up", "go", "stop")), corpus, batch_size=3)
    assert result.unknown_words == ("left",)
    assert result.unknown_class is None
    assert (result.n_right, result.n_clips, result.n_left_out) == (4, 6, 2)


def test_only_the_lists_that_were_asked_for(corpus: Path) -> None:
    result = evaluate_source(Levels(WORDS), corpus, splits=["test"])
    assert (result.n_right, result.n_clips) == (1, 2)


def test_nothing_to_play(corpus: Path) -> None:
    with pytest.raises(ValueError, match=r"none of the 8 clips .* has a word"):
        evaluate_source(Levels(("a", "b")), corpus)
    with pytest.raises(ValueError, match="there is no such folder"):
        evaluate_source(Levels(WORDS), corpus / "none")


def test_other_sample_rates_are_refused(corpus: Path) -> None:
    source = Levels(WORDS)
    source.sample_rate = 8000
    with pytest.raises(ValueError, match="the source at 8000 Hz"):
        evaluate_source(source, corpus)


# --- v2s sources ----------------------------------------------------------------------


def test_list(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, output, errors = run(capsys, "list")
    assert (code, errors) == (0, "")
    shipped, published = output.split("attrnn-gsc: ")
    sha256 = shipped_checkpoint("tiny")[1]
    size = (checkpoints / "tiny.safetensors").stat().st_size
    assert shipped.splitlines() == [
        "tiny: a test",
        "  where: shipped with the package",
        "  licence: CC BY 4.0, somebody",
        "  classes: 4",
        f"  size: {size} bytes",
        f"  SHA-256: {sha256}",
        "  accuracy: test/all 0.8750 (8 clips)",
    ]
    assert "where: v2s sources fetch attrnn-gsc" in published
    assert "licence: MIT" in published


def test_list_of_torchaudio(capsys: pytest.CaptureFixture[str]) -> None:
    assert "see 'v2s sources list --torchaudio'" in run(capsys, "list")[1]
    code, output, errors = run(capsys, "list", "--torchaudio")
    assert (code, errors) == (0, "")
    licences = dict(line.rsplit(": ", 1) for line in output.splitlines())
    assert licences["torchaudio:WAV2VEC2_ASR_BASE_960H"] == "MIT"
    assert licences["torchaudio:MMS_FA"] == "CC-BY-NC-4.0"
    forbidden = [name for name, licence in licences.items() if "NC" in licence]
    # Five languages of VoxPopuli, and the aligner.
    assert len(forbidden) == 6


def test_list_leaves_out_what_is_no_file(
    checkpoints: Path,
    forget_sources: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    # A doctest in the same process may have registered a source too.
    forget_sources()
    register_source("mine", lambda: Levels(WORDS))
    assert set(list_sources()) == {"tiny", "mine"}
    assert "mine" not in run(capsys, "list")[1]


def test_verify(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sha256 = shipped_checkpoint("tiny")[1]
    for names in ([], ["tiny"]):
        code, output, _ = run(capsys, "verify", *names)
        assert (code, output) == (0, f"tiny: ok, SHA-256 {sha256}\n")
    path = checkpoints / "tiny.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    code, output, _ = run(capsys, "verify")
    assert code == 1
    assert output.startswith(f"tiny: DAMAGED, {path} has SHA-256 ")
    assert output.endswith(f"expected {sha256}\n")
    path.unlink()
    code, output, _ = run(capsys, "verify")
    assert (code, output) == (1, f"tiny: MISSING, there is no file {path}\n")
    code, _, errors = run(capsys, "verify", "large")
    assert code == 1
    assert "unknown sources ['large']; choose among ['attrnn-gsc', 'tiny']" in errors


def test_verify_what_was_downloaded(
    checkpoints: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output, _ = run(capsys, "verify", "attrnn-gsc")
    assert code == 1
    assert output.startswith("attrnn-gsc: MISSING")
    (tmp_path / "cache").mkdir()
    shutil.copy(shared / "weights" / "model-attRNN.h5", tmp_path / "cache")
    code, output, _ = run(capsys, "verify")
    assert code == 0
    assert [line.split(",")[0] for line in output.splitlines()] == [
        "tiny: ok",
        "attrnn-gsc: ok",
    ]
    path = tmp_path / "cache" / "model-attRNN.h5"
    assert run(capsys, "fetch", "attrnn-gsc") == (0, f"{path}\n", "")
    assert f"where: {path}" in run(capsys, "list")[1]


def test_fetch_names_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    code, output, errors = run(capsys, "fetch", "other")
    assert (code, output) == (1, "")
    assert errors.startswith("v2s: unknown published source 'other'")


@pytest.mark.parametrize("by", ["name", "file"])
def test_evaluate_a_checkpoint(
    checkpoints: Path, corpus: Path, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    source = "tiny" if by == "name" else checkpoints / "tiny.safetensors"
    code, output, errors = run(capsys, "evaluate", source, "--corpus", corpus)
    assert (code, errors) == (0, "")
    expected = evaluate_source("tiny", corpus)
    assert output.splitlines() == [
        "words that are no source classes: left, up; counted as 'unknown/silence'",
        f"accuracy: {expected.accuracy:.4f} ({expected.n_right}/8)",
    ]
    _, output, _ = run(
        capsys, "evaluate", source, "--corpus", corpus, "--split", "test"
    )
    assert output.splitlines()[-1].endswith("/2)")


def test_evaluate_says_what_was_left_out(
    checkpoints: Path,
    corpus: Path,
    forget_sources: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    forget_sources()
    register_source("mine", lambda: Levels(("up", "go", "stop")))
    _, output, _ = run(capsys, "evaluate", "mine", "--corpus", corpus)
    assert output.splitlines() == [
        "words that are no source classes: left; left out, 2 clips",
        "accuracy: 0.6667 (4/6)",
    ]


@pytest.mark.slow
def test_evaluate_the_published_weights(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("h5py", reason="reading Keras files needs h5py")
    path = shared / "weights" / "model-attRNN.h5"
    code, output, errors = run(
        capsys, "evaluate", path, "--corpus", shared / "gsc_mini"
    )
    assert (code, output, errors) == (0, "accuracy: 0.9633 (289/300)\n", "")


def test_evaluate_an_unknown_source(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for source in ("nothing", tmp_path / "no.safetensors", tmp_path / "no.h5"):
        code, output, errors = run(capsys, "evaluate", source, "--corpus", corpus)
        assert (code, output) == (1, "")
        assert errors.startswith("v2s: ")


def test_import(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keras_h5 = pytest.importorskip("sklearn_v2s.sources.importers.keras_h5")
    pytest.importorskip("h5py", reason="reading Keras files needs h5py")
    path = shared / "weights" / "model-attRNN.h5"
    output = tmp_path / "gsc.safetensors"
    code, text, _ = run(capsys, "import", path, output)
    assert code == 0
    source, card, sha256 = load_checkpoint(output)
    assert text == f"{output}: 36 classes, SHA-256 {sha256}\n"
    # The file is known by its SHA-256, so its licence is too.
    assert card["licence"].startswith("MIT, de Andrade")
    assert card["imported_from"]["file"] == "model-attRNN.h5"
    assert card["command"] == "v2s sources import model-attRNN.h5 gsc.safetensors"
    # In float64, where the order of sums, which differs between machines, is no matter.
    waveform = torch.linspace(-0.5, 0.5, 16000, dtype=torch.float64)[None]
    expected = keras_h5.import_keras_h5(path).double()(waveform)
    loaded = load_source(output, torch.float64)
    for outputs in (source.double().eval()(waveform), loaded(waveform)):
        torch.testing.assert_close(outputs, expected)
    run(capsys, "import", path, output, "--licence", "mine")
    assert load_checkpoint(output)[1]["licence"] == "mine"


def test_import_refuses_another_ending(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, errors = run(capsys, "import", tmp_path / "a.h5", tmp_path / "a.pt")
    assert code == 1
    assert "must end in .safetensors" in errors


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["sources"])
    assert caught.value.code == 2
    assert "{list,evaluate,verify,import,fetch,logits}" in capsys.readouterr().err
