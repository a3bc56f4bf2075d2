# SPDX-License-Identifier: Apache-2.0
"""Small folders of made-up speech, in the layouts that real corpora have."""

import csv
import hashlib
import re

import numpy as np
from scipy.io import wavfile

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


def sound(n=1600, hertz=440.0, rate=RATE):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(n) / rate)
