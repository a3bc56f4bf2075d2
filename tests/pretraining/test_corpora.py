# SPDX-License-Identifier: Apache-2.0
"""Speech corpora: their lists, and the clips in their files."""

import wave

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile

from sklearn_v2s.pretraining import (
    join_corpora,
    read_corpus,
)
from sklearn_v2s.pretraining.corpora import CorpusError, google_split, read_clip
from tests.speech_folders import (
    RATE,
    SPLITS,
    sound,
    which_set,
    write_arabic,
    write_google,
    write_lists,
    write_word,
)


def found_splits(corpus, folder):
    return {
        path.relative_to(folder).as_posix(): split
        for path, split in zip(corpus.files, corpus.splits, strict=True)
    }


def assert_speakers_apart(corpus):
    sets = [set(corpus.speakers[corpus.select(split)]) for split in SPLITS]
    assert all(sets)
    assert sum(map(len, sets)) == len(set.union(*sets))


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
