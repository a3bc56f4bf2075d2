# SPDX-License-Identifier: Apache-2.0
"""Speech corpora, augmentation and the training of a source, on small made-up sound."""

import csv
import dataclasses
import hashlib
import json
import re
import wave

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from scipy.io import wavfile

from sklearn_v2s.pretraining import (
    PretrainingSettings,
    corpora,
    join_corpora,
    pretrain,
    read_corpus,
    trainer,
)
from sklearn_v2s.pretraining.augmentation import Augmentation
from sklearn_v2s.pretraining.corpora import CorpusError, google_split, read_clip
from sklearn_v2s.sources import load_checkpoint
from tests.pretend_device import NAME, pretend_device

RATE = 16000
SPLITS = ("train", "validation", "test")
WORDS = {"high": 2500.0, "low": 300.0}


def which_set(file_name):
    """The rule as the README of Google Speech Commands prints it."""
    base = file_name.rsplit("/", 1)[-1]
    speaker = re.sub(r"_nohash_.*$", "", base)
    number = int(hashlib.sha1(speaker.encode()).hexdigest(), 16)
    percentage = (number % 2**27) * (100.0 / (2**27 - 1))
    if percentage < 10:
        return "validation"
    return "test" if percentage < 20 else "train"


def speakers_of(split, n):
    """Return names of speakers that the rule puts into a split."""
    names = (f"{number:08x}" for number in range(10_000))
    return [name for name in names if which_set(f"{name}_nohash_0.wav") == split][:n]


def write_word(path, word, speaker):
    """A word is a tone, a speaker detunes and shortens it."""
    rng = np.random.default_rng(int(hashlib.sha1(speaker.encode()).hexdigest()[:8], 16))
    time = np.arange(RATE - rng.integers(4000)) / RATE
    hertz = WORDS.get(word, 1000.0) * rng.uniform(0.9, 1.1)
    sound = 0.4 * np.sin(2 * np.pi * hertz * time) + rng.normal(0, 0.005, len(time))
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, RATE, np.rint(sound * 32767).astype(np.int16))


N_SPEAKERS = {"train": 6, "validation": 2, "test": 2}


def write_google(folder, words=tuple(WORDS)):
    """Return the split of each clip, by the rule."""
    splits = {}
    for split, n in N_SPEAKERS.items():
        for speaker in speakers_of(split, n):
            for word in words:
                for take in range(2):
                    name = f"{word}/{speaker}_nohash_{take}.wav"
                    write_word(folder / name, word, speaker)
                    splits[name] = split
    return splits


def write_lists(folder, splits):
    for split, name in (
        ("validation", "validation_list.txt"),
        ("test", "testing_list.txt"),
    ):
        clips = sorted(clip for clip, of in splits.items() if of == split)
        (folder / name).write_text("\n".join(clips) + "\n")


def write_arabic(folder, words=("high", "نعم")):
    splits, speaker = {}, 0
    for split, file in zip(SPLITS, ("train.csv", "val.csv", "test.csv"), strict=True):
        with open(folder / file, "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["file", "class"])
            for _ in range(N_SPEAKERS[split]):
                speaker += 1
                for word in words:
                    name = f"dataset/{word}/{speaker:08d}_NO_01.wav"
                    write_word(folder / name, word, f"{speaker:08d}")
                    writer.writerow([name, word])
                    splits[name] = split
    return splits


@pytest.fixture(scope="module")
def google(tmp_path_factory):
    folder = tmp_path_factory.mktemp("google")
    write_google(folder)
    return folder


def found_splits(corpus, folder):
    return {
        path.relative_to(folder).as_posix(): split
        for path, split in zip(corpus.files, corpus.splits, strict=True)
    }


def assert_speakers_apart(corpus):
    sets = [set(corpus.speakers[corpus.select(split)]) for split in SPLITS]
    assert all(sets)
    assert sum(map(len, sets)) == len(set.union(*sets))


# --- corpora -------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [".", "data"])
def test_google_folder_without_lists_follows_the_rule(inside, tmp_path):
    splits = write_google(tmp_path / inside)
    write_word(tmp_path / inside / "_background_noise_" / "hum.wav", "hum", "x")
    corpus = read_corpus(tmp_path)
    assert corpus.name == "Google Speech Commands"
    assert "CC BY 4.0" in corpus.licence
    assert corpus.classes == ("high", "low")
    assert found_splits(corpus, tmp_path / inside) == splits
    for path, label, speaker in zip(
        corpus.files, corpus.labels, corpus.speakers, strict=True
    ):
        assert corpus.classes[label] == path.parent.name
        assert speaker == f"gsc/{path.name[:8]}"
    assert_speakers_apart(corpus)


def test_google_lists_go_before_the_rule(tmp_path):
    splits = write_google(tmp_path)
    swap = {"train": "train", "validation": "test", "test": "validation"}
    splits = {clip: swap[split] for clip, split in splits.items()}
    write_lists(tmp_path, splits)
    assert found_splits(read_corpus(tmp_path), tmp_path) == splits


@pytest.mark.parametrize("name", ["validation_list.txt", "testing_list.txt"])
def test_one_list_alone_is_refused(name, tmp_path):
    write_lists(tmp_path, write_google(tmp_path))
    (tmp_path / name).unlink()
    with pytest.raises(CorpusError, match="alone"):
        read_corpus(tmp_path)


def test_arabic_repository_keeps_its_own_lists(tmp_path):
    splits = write_arabic(tmp_path)
    corpus = read_corpus(tmp_path)
    assert corpus.name == "Arabic Speech Commands"
    assert "CC BY 4.0" in corpus.licence
    assert corpus.classes == ("high", "نعم")
    assert found_splits(corpus, tmp_path) == splits
    assert set(corpus.speakers) == {f"asc/{n:08d}" for n in range(1, 11)}
    assert_speakers_apart(corpus)


def test_arabic_clips_that_are_not_there_are_named(tmp_path):
    write_arabic(tmp_path)
    (tmp_path / "dataset/high/00000001_NO_01.wav").unlink()
    with pytest.raises(CorpusError, match=r"1 clips.*high/00000001_NO_01\.wav"):
        read_corpus(tmp_path)


def test_arabic_lists_with_other_columns_are_refused(tmp_path):
    write_arabic(tmp_path)
    (tmp_path / "val.csv").write_text("path,word\n")
    with pytest.raises(CorpusError, match=r"val\.csv has the columns"):
        read_corpus(tmp_path)


@pytest.fixture
def torchaudio_root(tmp_path):
    folder = tmp_path / "SpeechCommands" / "speech_commands_v0.02"
    splits = write_google(folder)
    write_word(folder / "_background_noise_" / "hum.wav", "hum", "x")
    write_lists(folder, splits)
    # What torchaudio downloaded stays beside the folder, under a similar name.
    (tmp_path / "SpeechCommands" / "speech_commands_v0.02.tar.gz").write_bytes(b"")
    return tmp_path


def test_torchaudio_folder_lists_what_torchaudio_lists(torchaudio_root):
    try:
        from torchaudio.datasets import SPEECHCOMMANDS
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"torchaudio does not load here: {error}")
    corpus = read_corpus(torchaudio_root)
    assert_speakers_apart(corpus)
    for split, subset in zip(
        SPLITS, ("training", "validation", "testing"), strict=True
    ):
        theirs = SPEECHCOMMANDS(torchaudio_root, download=False, subset=subset)
        metadata = [theirs.get_metadata(index) for index in range(len(theirs))]
        expected = {
            (path, word, f"gsc/{speaker}") for path, _, word, speaker, _ in metadata
        }
        rows = corpus.select(split)
        found = {
            (
                corpus.files[row]
                .relative_to(torchaudio_root / "SpeechCommands")
                .as_posix(),
                corpus.classes[corpus.labels[row]],
                str(corpus.speakers[row]),
            )
            for row in rows
        }
        assert found == expected
        assert len(found) == len(rows) == len(theirs) > 0


def test_official_lists_are_those_of_the_rule(shared):
    folder = shared / "gsc_mini"
    lists = {"validation": "validation_list.txt", "test": "testing_list.txt"}
    if not all((folder / name).is_file() for name in lists.values()):
        pytest.skip(f"no official lists in {folder}")
    official = dict.fromkeys(
        (path.relative_to(folder).as_posix() for path in folder.glob("*/*.wav")),
        "train",
    )
    for split, name in lists.items():
        listed = (folder / name).read_text().split()
        assert {google_split(clip) for clip in listed} == {split}
        official.update((clip, split) for clip in listed if clip in official)
    assert len(official) == 300
    assert {clip: google_split(clip) for clip in official} == official
    corpus = read_corpus(folder)
    assert found_splits(corpus, folder) == official
    assert len(corpus.classes) == 30
    assert_speakers_apart(corpus)


@settings(max_examples=200, deadline=None)
@given(speaker=st.text("0123456789abcdefxyzé-. ", max_size=12))
def test_google_split_is_the_published_rule(speaker):
    for take in (0, 12):
        name = f"bed/{speaker}x_nohash_{take}.wav"
        assert google_split(name) == which_set(name)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_a_folder_without_clips_is_refused(make, tmp_path):
    make(tmp_path / "corpus")
    with pytest.raises(CorpusError, match=r"no such folder|has no clips"):
        read_corpus(tmp_path / "corpus")


def test_joined_corpora_keep_colliding_words_apart(tmp_path):
    (tmp_path / "z").mkdir()
    arabic_splits = write_arabic(tmp_path / "z")
    google_splits = write_google(tmp_path / "a")
    arabic, google = read_corpus(tmp_path / "z"), read_corpus(tmp_path / "a")
    both = join_corpora([arabic, google])
    assert both.name == "Arabic Speech Commands + Google Speech Commands"
    assert arabic.licence in both.licence
    assert google.licence in both.licence
    assert both.classes == (
        "Arabic Speech Commands: high",
        "Google Speech Commands: high",
        "low",
        "نعم",
    )
    # In the order given, wherever the folders lie: training depends on the order.
    assert both.files == arabic.files + google.files
    assert found_splits(both, tmp_path) == {
        **{f"z/{clip}": split for clip, split in arabic_splits.items()},
        **{f"a/{clip}": split for clip, split in google_splits.items()},
    }
    for path, label in zip(both.files, both.labels, strict=True):
        assert both.classes[label].split(": ")[-1] == path.parent.name
    assert_speakers_apart(both)


def test_two_parts_of_one_corpus_share_their_words(tmp_path):
    write_google(tmp_path / "a", ["high", "low"])
    write_google(tmp_path / "b", ["low", "bed"])
    both = join_corpora([read_corpus(tmp_path / "a"), read_corpus(tmp_path / "b")])
    assert both.name == "Google Speech Commands"
    assert both.classes == ("bed", "high", "low")
    assert_speakers_apart(both)


def test_clips_are_cut_and_padded(google):
    corpus = read_corpus(google)
    whole = read_clip(corpus.files[0])
    assert 12000 <= len(whole) <= RATE
    (padded,) = corpus.read([0], 20000)
    assert padded.dtype == np.int16
    assert np.array_equal(padded[: len(whole)], whole)
    assert not padded[len(whole) :].any()
    (cut,) = corpus.read(np.array([0]), 5000)
    assert np.array_equal(cut, whole[:5000])
    assert corpus.read([], 10).shape == (0, 10)
    assert corpus.read([0, 1, 0], 10).shape == (3, 10)


# --- clips ---------------------------------------------------------------------------


def sound(n=1600, hertz=440.0, rate=RATE):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(n) / rate)


def write_pcm(path, samples, n_bytes, rate=RATE, channels=1):
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(channels)
        stream.setsampwidth(n_bytes)
        stream.setframerate(rate)
        stream.writeframes(samples)


def test_sixteen_bit_samples_are_kept(tmp_path):
    samples = np.array([0, 1, -1, 32767, -32768], dtype=np.int16)
    wavfile.write(tmp_path / "a.wav", RATE, samples)
    found = read_clip(tmp_path / "a.wav")
    assert found.dtype == np.int16
    assert np.array_equal(found, samples)


def test_other_formats_have_the_same_loudness(tmp_path):
    expected = np.rint(sound() * 32768)
    eight = np.rint(sound() * 128 + 128).astype(np.uint8)
    write_pcm(tmp_path / "8.wav", eight.tobytes(), 1)
    twenty_four = np.rint(sound() * 2**23).astype("<i4")
    low_bytes = twenty_four.view(np.uint8).reshape(-1, 4)[:, :3]
    write_pcm(tmp_path / "24.wav", low_bytes.tobytes(), 3)
    wavfile.write(tmp_path / "32.wav", RATE, (sound() * 2**31).astype(np.int32))
    wavfile.write(tmp_path / "f32.wav", RATE, sound().astype(np.float32))
    wavfile.write(tmp_path / "f64.wav", RATE, sound())
    for name, tolerance in (("8", 129), ("24", 1), ("32", 1), ("f32", 1), ("f64", 1)):
        found = read_clip(tmp_path / f"{name}.wav")
        assert np.abs(found - expected).max() <= tolerance, name


def test_silence_of_eight_bits_is_silence(tmp_path):
    write_pcm(tmp_path / "a.wav", bytes([128] * 100), 1)
    assert not read_clip(tmp_path / "a.wav").any()


def test_float_samples_beyond_one_are_clipped(tmp_path):
    samples = np.array([0.5, 1.5, -1.5], dtype=np.float32)
    wavfile.write(tmp_path / "a.wav", RATE, samples)
    assert read_clip(tmp_path / "a.wav").tolist() == [16384, 32767, -32768]


def test_channels_are_averaged(tmp_path):
    both = np.array([[100, 300], [-5, -5], [32767, 32767], [1, -1]], dtype=np.int16)
    wavfile.write(tmp_path / "a.wav", RATE, both)
    assert read_clip(tmp_path / "a.wav").tolist() == [200, -5, 32767, 0]


def test_quiet_stereo_stays_quiet(tmp_path):
    # The mean of integers is a float, but not one of full scale 1.
    wavfile.write(tmp_path / "a.wav", RATE, np.ones((5, 2), dtype=np.int16))
    assert read_clip(tmp_path / "a.wav").tolist() == [1] * 5


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
def test_other_sample_rates_are_resampled(rate, tmp_path):
    samples = np.rint(sound(rate, rate=rate) * 32767).astype(np.int16)
    wavfile.write(tmp_path / "a.wav", rate, samples)
    found = read_clip(tmp_path / "a.wav")
    assert len(found) == RATE
    inner = slice(1000, -1000)
    expected = sound(RATE) * 32767
    assert np.abs(found[inner] - expected[inner]).max() < 0.01 * 32767


def test_target_rate_can_be_chosen(tmp_path):
    wavfile.write(tmp_path / "a.wav", RATE, np.zeros(1600, dtype=np.int16))
    assert len(read_clip(tmp_path / "a.wav", 8000)) == 800


def test_unknown_chunks_are_skipped(tmp_path):
    path = tmp_path / "a.wav"
    wavfile.write(path, RATE, np.arange(10, dtype=np.int16))
    content = (
        path.read_bytes() + b"LIST\x04\x00\x00\x00abcd" + b"odd \x02\x00\x00\x00ab"
    )
    size = (len(content) - 8).to_bytes(4, "little")
    path.write_bytes(content[:4] + size + content[8:])
    assert read_clip(path).tolist() == list(range(10))


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken")
    wavfile.write(folder / "whole.wav", RATE, np.arange(1000, dtype=np.int16))
    return folder / "broken.wav", (folder / "whole.wav").read_bytes()


@settings(max_examples=100, deadline=None)
@given(length=st.integers(0, 2043))
def test_a_clip_that_was_cut_off_is_refused(length, broken):
    path, content = broken
    path.write_bytes(content[:length])
    with pytest.raises(CorpusError, match=r"broken\.wav"):
        read_clip(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RIFF",
        b"RIFF\x04\x00\x00\x00WAVE",
        b"<html>not found</html>" * 10,
        b"OggS" + bytes(100),
    ],
)
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(CorpusError, match=r"a\.wav is not an intact WAV file"):
        read_clip(tmp_path / "a.wav")


def test_clips_without_sound_are_refused(tmp_path):
    wavfile.write(tmp_path / "a.wav", RATE, np.zeros(0, dtype=np.int16))
    wavfile.write(tmp_path / "b.wav", 0, np.zeros(5, dtype=np.int16))
    wavfile.write(tmp_path / "c.wav", RATE, np.array([0, np.nan], dtype=np.float32))
    for name, message in (("a", "no sound"), ("b", "no sound"), ("c", "not finite")):
        with pytest.raises(CorpusError, match=message):
            read_clip(tmp_path / f"{name}.wav")


def test_a_missing_clip_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_clip(tmp_path / "none.wav")


# --- augmentation --------------------------------------------------------------------

NOTHING = Augmentation(shift=0, speed=0, noise=0, gain=0, time_mask=0, mel_mask=0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def only(**strengths):
    return dataclasses.replace(NOTHING, **strengths)


def some_waveforms(batch=4):
    return torch.rand(batch, RATE, generator=generator(9)) * 2.0 - 1.0


def test_augmentation_keeps_the_shape_and_changes_the_sound():
    waveforms, features = some_waveforms(), torch.ones(4, 125, 80)
    loud = Augmentation().waveforms(waveforms, RATE, generator())
    masked = Augmentation().features(features, generator())
    assert loud.shape == waveforms.shape
    assert masked.shape == features.shape
    assert loud.dtype == masked.dtype == torch.float32
    assert (loud - waveforms).abs().max() > 0.1
    assert (masked == 0.0).any()


def test_augmentation_depends_on_its_generator_alone():
    waveforms, features = some_waveforms(), torch.ones(4, 125, 80)
    state = torch.get_rng_state()
    results = []
    for seed in (1, 1, 2):
        g = generator(seed)
        results.append(
            (
                Augmentation().waveforms(waveforms, RATE, g),
                Augmentation().features(features, g),
            )
        )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(waveforms, some_waveforms())
    for first, second, third in zip(*results, strict=True):
        assert torch.equal(first, second)
        assert not torch.equal(first, third)


def test_augmentation_of_no_strength_changes_nothing():
    waveforms = some_waveforms()
    features = torch.randn(4, 125, 80, generator=generator())
    assert torch.equal(NOTHING.features(features, generator()), features)
    found = NOTHING.waveforms(waveforms, RATE, generator())
    # The positions of the interpolation are float32: white noise shows that.
    torch.testing.assert_close(found, waveforms, rtol=0, atol=2e-3)
    assert (found - waveforms).abs().mean() < 1e-4


def test_shift_moves_a_click_within_its_bounds():
    clicks = torch.zeros(64, RATE)
    clicks[:, 8000] = 1.0
    moved = only(shift=0.1).waveforms(clicks, RATE, generator())
    places = moved.abs().argmax(1) - 8000
    assert places.abs().max() <= 1601
    assert places.min() < -800
    assert places.max() > 800


def test_speed_changes_the_pitch_within_its_bounds():
    tone = torch.from_numpy(sound(RATE, 1000.0)).float().expand(32, -1)
    fast = only(speed=0.1).waveforms(tone, RATE, generator())
    peak = (
        torch.fft.rfft(fast[:, 2000:14000] * torch.hann_window(12000)).abs().argmax(1)
    )
    hertz = peak * RATE / 12000
    assert 898 < hertz.min() < 950
    assert 1050 < hertz.max() < 1102


def test_gain_and_noise_stay_within_their_bounds():
    waveforms = some_waveforms(32)
    louder = only(gain=6.0).waveforms(waveforms, RATE, generator())
    decibel = 20.0 * torch.log10(louder.std(1) / waveforms.std(1))
    assert -6.01 < decibel.min() < -3.0
    assert 3.0 < decibel.max() < 6.01
    noisy = only(noise=0.02).waveforms(torch.zeros(64, RATE), RATE, generator()).std(1)
    assert 0.01 < noisy.max() < 0.021
    clean = int((noisy == 0.0).sum())
    assert 16 <= clean <= 48


def test_masks_are_whole_frames_and_bands():
    masked = only(time_mask=25, mel_mask=15).features(
        torch.ones(64, 125, 80), generator()
    )
    frames = (masked == 0.0).all(2)
    bands = (masked == 0.0).all(1)
    assert torch.equal(masked == 0.0, frames[:, :, None] | bands[:, None, :])
    assert 25 < frames.sum(1).max() <= 50
    assert 15 < bands.sum(1).max() <= 30


# --- training ------------------------------------------------------------------------

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


@pytest.mark.parametrize(
    ("architecture", "front_end"), [("attrnn", "kapre"), ("wavebank", "kernel-bank")]
)
def test_an_accelerator_trains_the_same(google, tmp_path, architecture, front_end):
    short = dataclasses.replace(
        QUICK, architecture=architecture, front_end=front_end, epochs=1
    )
    losses, accuracies = [], []
    for device in ("cpu", NAME):
        with pretend_device():
            card = train(read_corpus(google), tmp_path / device, short, device=device)
        assert card["device"] == device
        losses.append(float(losses_of(tmp_path / device)[0]))
        accuracies.append(card["accuracy"])
        # What it has written is read anywhere.
        again = train(read_corpus(google), tmp_path / device, short, resume=True)
        assert again["accuracy"] == card["accuracy"]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert accuracies[0] == accuracies[1]


def test_another_seed_gives_another_model(trained, google, tmp_path):
    train(read_corpus(google), tmp_path, dataclasses.replace(QUICK, seed=6, epochs=1))
    name = "network.output.weight"
    assert not np.array_equal(tensors_of(trained[0])[name], tensors_of(tmp_path)[name])


def test_generators_of_accelerators_are_not_seeded(google, monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    trainer._Run(QUICK, read_corpus(google), torch.device("cpu"))
    assert not seeded


def test_a_resumed_run_is_the_uninterrupted_one(trained, google, tmp_path, monkeypatch):
    epoch, calls = trainer._Run.epoch, []

    def interrupted(run, *arguments):
        calls.append(len(run.history))
        if len(calls) == 2:
            # In the middle of the second epoch: weights and generator have moved on.
            epoch(run, *arguments)
            raise KeyboardInterrupt
        return epoch(run, *arguments)

    monkeypatch.setattr(trainer._Run, "epoch", interrupted)
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
    monkeypatch.setattr(trainer._Run, "epoch", None)
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
    epoch = trainer._Run.epoch

    def watched(path, *arguments):
        read.append(str(split_of[path]))
        return read_clip(path, *arguments)

    def watched_epoch(run, clips, *arguments):
        trained_on.append((len(clips), set(read)))
        return epoch(run, clips, *arguments)

    monkeypatch.setattr(corpora, "read_clip", watched)
    monkeypatch.setattr(trainer._Run, "epoch", watched_epoch)
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
