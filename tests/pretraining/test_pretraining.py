# SPDX-License-Identifier: Apache-2.0
"""The training of a source, on small made-up sound."""

import csv
import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from sklearn_v2s.pretraining import (
    PretrainingSettings,
    corpora,
    pretrain,
    read_corpus,
)
from sklearn_v2s.pretraining.augmentation import Augmentation
from sklearn_v2s.pretraining.corpora import read_clip
from sklearn_v2s.pretraining.trainer import PretrainingRun
from sklearn_v2s.sources import load_checkpoint
from tests.speech_folders import RATE, write_google

QUICK = PretrainingSettings(epochs=2, batch_size=8, seed=5)


def train(corpus, output, quick=QUICK, **options):
    return pretrain(
        corpus, output, quick, **{"device": "cpu", "progress": False} | options
    )


@pytest.fixture(scope="module")
def trained(google, tmp_path_factory):
    """One run of two epochs, and its card."""
    output = tmp_path_factory.mktemp("trained")
    return output, train(read_corpus(google), output, command="v2s pretrain")


def tensors_of(folder):
    return load_file(folder / "attrnn.safetensors")


def assert_same_tensors(first, second):
    first, second = tensors_of(first), tensors_of(second)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.tobytes() == second[name].tobytes(), name


def history_of(folder):
    with open(folder / "history.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def losses_of(folder):
    return [row["train_loss"] for row in history_of(folder)]


def test_same_seed_gives_the_same_model(trained, google, tmp_path):
    torch.rand(7)  # what ran before must not matter
    state = torch.get_rng_state()
    train(read_corpus(google), tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert_same_tensors(trained[0], tmp_path)
    assert losses_of(trained[0]) == losses_of(tmp_path)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("architecture", "front_end"), [("attrnn", "kapre"), ("wavebank", "kernel-bank")]
)
def test_a_run_begins_on_an_accelerator_and_goes_on_without(
    google, tmp_path, monkeypatch, architecture, front_end
):
    quick = dataclasses.replace(QUICK, architecture=architecture, front_end=front_end)
    expected = train(read_corpus(google), tmp_path / "whole", quick)
    epoch = PretrainingRun.epoch

    def interrupted(run, *arguments):
        if run.history:
            raise KeyboardInterrupt
        return epoch(run, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainingRun, "epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(read_corpus(google), tmp_path / "parts", quick, device="cuda")
    found = train(read_corpus(google), tmp_path / "parts", quick, resume=True)
    for one, other in zip(
        losses_of(tmp_path / "parts"), losses_of(tmp_path / "whole"), strict=True
    ):
        assert float(one) == pytest.approx(float(other), rel=1e-3)
    assert found["accuracy"] == expected["accuracy"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_run_ends_on_an_accelerator(google, tmp_path):
    quick = dataclasses.replace(
        QUICK, architecture="wavebank", front_end="kernel-bank", epochs=1
    )
    cards = {}
    for device in ("cpu", "cuda"):
        cards[device] = train(
            read_corpus(google), tmp_path / device, quick, device=device
        )
        assert cards[device]["device"] == device
        load_checkpoint(tmp_path / device / "wavebank.safetensors")
    assert cards["cuda"]["accuracy"] == cards["cpu"]["accuracy"]


def test_another_seed_gives_another_model(trained, google, tmp_path):
    train(read_corpus(google), tmp_path, dataclasses.replace(QUICK, seed=6, epochs=1))
    name = "network.output.weight"
    assert not np.array_equal(tensors_of(trained[0])[name], tensors_of(tmp_path)[name])


def test_generators_of_accelerators_are_not_seeded(google, monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    PretrainingRun(QUICK, read_corpus(google), torch.device("cpu"))
    assert not seeded


def test_a_resumed_run_is_the_uninterrupted_one(trained, google, tmp_path, monkeypatch):
    epoch, calls = PretrainingRun.epoch, []

    def interrupted(run, *arguments):
        calls.append(len(run.history))
        if len(calls) == 2:
            # In the middle of the second epoch: weights and generator have moved on.
            epoch(run, *arguments)
            raise KeyboardInterrupt
        return epoch(run, *arguments)

    monkeypatch.setattr(PretrainingRun, "epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(read_corpus(google), tmp_path)
    assert not (tmp_path / "attrnn.safetensors").exists()
    assert len(history_of(tmp_path)) == 1
    card = train(read_corpus(google), tmp_path, resume=True)
    assert calls == [0, 1, 1]
    assert_same_tensors(trained[0], tmp_path)
    assert losses_of(trained[0]) == losses_of(tmp_path)
    assert card["accuracy"] == trained[1]["accuracy"]


def test_a_complete_run_resumes_to_itself(trained, google, tmp_path, monkeypatch):
    (tmp_path / "state.pt").write_bytes((trained[0] / "state.pt").read_bytes())
    monkeypatch.setattr(PretrainingRun, "epoch", None)
    card = train(read_corpus(google), tmp_path, resume=True)
    assert_same_tensors(trained[0], tmp_path)
    assert card["accuracy"] == trained[1]["accuracy"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"lr": 1e-3}, "lr"),
        ({"epochs": 3}, "epochs"),
        ({"augmentation": Augmentation(speed=0.0)}, "augmentation"),
        ({"train_on": "train+validation"}, "train_on"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_resume_with_other_settings_is_refused(change, name, trained, google, tmp_path):
    other = dataclasses.replace(QUICK, **change)
    state = (trained[0] / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(state)
    with pytest.raises(
        ValueError, match=rf"other settings \(different: \['{name}'\]\)"
    ):
        train(read_corpus(google), tmp_path, other, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
    assert (tmp_path / "state.pt").read_bytes() == state


def test_resume_on_other_clips_is_refused(trained, tmp_path):
    folder, output = tmp_path / "clips", tmp_path / "output"
    write_google(folder)
    output.mkdir()
    (output / "state.pt").write_bytes((trained[0] / "state.pt").read_bytes())
    corpus = read_corpus(folder)
    swapped = dataclasses.replace(corpus, labels=1 - corpus.labels)
    with pytest.raises(ValueError, match="run on other clips"):
        train(swapped, output, resume=True)
    # The same clips in another folder are the same clips.
    train(corpus, output, resume=True)
    assert_same_tensors(trained[0], output)


def test_without_resume_a_run_starts_again(trained, google, tmp_path):
    (tmp_path / "state.pt").write_bytes(b"not a state")
    train(read_corpus(google), tmp_path)
    assert_same_tensors(trained[0], tmp_path)


def test_state_holds_plain_values_only(trained):
    state = torch.load(trained[0] / "state.pt", weights_only=True)
    assert state["settings"] == dataclasses.asdict(QUICK)


@pytest.mark.parametrize(
    ("train_on", "opened", "closed"),
    [
        ("train", {"train", "validation"}, {"test"}),
        ("train+validation", {"train", "validation", "test"}, set()),
    ],
)
def test_closed_lists_are_not_read(
    train_on, opened, closed, google, tmp_path, monkeypatch
):
    corpus = read_corpus(google)
    split_of = dict(zip(corpus.files, corpus.splits, strict=True))
    read, trained_on = [], []
    epoch = PretrainingRun.epoch

    def watched(path, *arguments):
        read.append(str(split_of[path]))
        return read_clip(path, *arguments)

    def watched_epoch(run, clips, *arguments):
        trained_on.append((len(clips), set(read)))
        return epoch(run, clips, *arguments)

    monkeypatch.setattr(corpora, "read_clip", watched)
    monkeypatch.setattr(PretrainingRun, "epoch", watched_epoch)
    quick = dataclasses.replace(QUICK, train_on=train_on, epochs=1)
    card = train(corpus, tmp_path, quick)
    assert set(read) == opened
    n_clips = len(corpus.select(*train_on.split("+")))
    # The test list is opened after training, if at all.
    assert trained_on == [(n_clips, {"train", "validation"})]
    assert card["n_clips"] == n_clips
    held_out = "validation" if "test" in closed else "test"
    assert set(card["accuracy"]) == {f"{held_out}/gsc", f"{held_out}/all"}


def test_card_says_what_was_done(trained):
    output, card = trained
    assert card["corpus"] == "Google Speech Commands"
    assert "CC BY 4.0" in card["licence"]
    assert card["settings"] == dataclasses.asdict(QUICK)
    assert (card["n_clips"], card["n_speakers"]) == (24, 6)
    assert card["command"] == "v2s pretrain"
    entry = card["accuracy"]["validation/all"]
    assert (entry["n_clips"], entry["n_speakers"]) == (8, 2)
    assert entry["accuracy"] in {k / 8 for k in range(9)}
    content = (output / "attrnn.safetensors").read_bytes()
    assert card["sha256"] == hashlib.sha256(content).hexdigest()
    source, loaded, sha256 = load_checkpoint(output / "attrnn.safetensors")
    assert sha256 == card["sha256"]
    assert loaded == {key: value for key, value in card.items() if key != "sha256"}
    assert source.classes == ("high", "low")
    assert str(output) not in json.dumps(card)


def test_accuracies_are_those_of_the_checkpoint(trained, google):
    output, card = trained
    corpus = read_corpus(google)
    source, _, _ = load_checkpoint(output / "attrnn.safetensors")
    rows = corpus.select("validation")
    waveforms = torch.from_numpy(corpus.read(rows, RATE) / 32768.0).float()
    with torch.no_grad():
        predicted = source.eval()(waveforms).logits.argmax(1).numpy()
    expected = float((predicted == corpus.labels[rows]).mean())
    assert card["accuracy"]["validation/all"]["accuracy"] == expected
    assert float(history_of(output)[-1]["validation_accuracy"]) == expected


def test_model_card_is_readable(trained):
    output, card = trained
    text = (output / "attrnn.md").read_text(encoding="utf-8")
    for part in (card["sha256"], card["licence"], "v2s pretrain", "high, low"):
        assert part in text
    entry = card["accuracy"]["validation/all"]
    assert f"| validation/all | {entry['accuracy']:.4f} | 8 | 2 |" in text
    block = text.split("```json\n")[1].split("```")[0]
    assert json.loads(block) == card["settings"]


def test_history_has_a_row_for_each_epoch(trained):
    rows = history_of(trained[0])
    assert [float(row["epoch"]) for row in rows] == [1.0, 2.0]
    assert set(rows[0]) == {"epoch", "train_loss", "validation_accuracy", "seconds"}
    assert all(float(row["train_loss"]) > 0.0 for row in rows)


def test_training_learns_the_words(google, tmp_path):
    quick = PretrainingSettings(
        epochs=6, batch_size=8, lr=2e-2, train_on="train+validation"
    )
    card = train(read_corpus(google), tmp_path, quick)
    losses = [float(loss) for loss in losses_of(tmp_path)]
    assert losses[-1] < 0.7 * losses[0]
    assert card["accuracy"]["test/all"]["accuracy"] == 1.0
    assert set(history_of(tmp_path)[0]) == {"epoch", "train_loss", "seconds"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"architecture": "conformer"},
        {"front_end": "mfcc"},
        {"train_on": "test"},
        {"epochs": 0},
        {"batch_size": 0},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        PretrainingSettings(**wrong)


@pytest.mark.parametrize(
    ("train_on", "lacks"),
    [("train", "train"), ("train", "validation"), ("train+validation", "test")],
)
def test_an_empty_list_is_noticed_before_training(train_on, lacks, google, tmp_path):
    corpus = read_corpus(google)
    other = "test" if lacks != "test" else "train"
    splits = np.where(corpus.splits == lacks, other, corpus.splits)
    changed = dataclasses.replace(corpus, splits=splits)
    quick = dataclasses.replace(QUICK, train_on=train_on)
    with pytest.raises(ValueError, match=f"no clip in its {lacks} list"):
        train(changed, tmp_path, quick)
    assert not list(tmp_path.iterdir())
