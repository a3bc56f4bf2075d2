# SPDX-License-Identifier: Apache-2.0
"""Speech corpora of single words: a folder for each word, one clip a file.

Three layouts are read: the Arabic Speech Commands repository as cloned, a Google
Speech Commands folder (any part of it), and the folder that torchaudio's
``SPEECHCOMMANDS`` unpacks. Splits are the corpus' own and keep speakers apart.
"""

import csv
import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.io import wavfile
from scipy.signal import resample_poly

__all__ = [
    "CorpusError",
    "SpeechCorpus",
    "google_split",
    "join_corpora",
    "read_clip",
    "read_corpus",
]

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

# The constants of the rule that Google Speech Commands defines its lists by.
_GOOGLE_MAX_CLIPS_PER_SPLIT = 2**27 - 1
_GOOGLE_VALIDATION_PERCENT = 10.0
_GOOGLE_TEST_PERCENT = 10.0
_GOOGLE_NOT_WORDS = ("_background_noise_",)

# What makes the samples of a WAV file 16 bit: (zero, factor). The 24-bit samples come
# as the upper bits of 32.
_TO_16_BIT: dict[str, tuple[float, float]] = {
    "uint8": (128.0, 2.0**8),
    "int16": (0.0, 1.0),
    "int32": (0.0, 2.0**-16),
    "int64": (0.0, 2.0**-48),
    "float32": (0.0, 2.0**15),
    "float64": (0.0, 2.0**15),
}


class CorpusError(ValueError):
    """A folder is not a speech corpus that can be read."""


@dataclass(frozen=True)
class SpeechCorpus:
    """Clips of single words with their speaker-disjoint split.

    Attributes
    ----------
    name : str
        Name of the corpus.
    licence : str
        Licence and attribution, as a model card must repeat them.
    classes : tuple of str
        The words, in the order of the labels.
    files : tuple of Path
        One WAV file for each clip.
    labels : ndarray of shape (n_clips,)
        Index into `classes`.
    splits : ndarray of shape (n_clips,)
        ``"train"``, ``"validation"`` or ``"test"``.
    speakers : ndarray of shape (n_clips,)
        Speaker of each clip.
    """

    name: str
    licence: str
    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: np.ndarray
    splits: np.ndarray
    speakers: np.ndarray

    def select(self, *splits: Split) -> np.ndarray:
        """Return the indices of the clips of the given splits."""
        return np.flatnonzero(np.isin(self.splits, splits))

    def read(
        self,
        indices: Sequence[int] | np.ndarray,
        length: int,
        sample_rate: int = 16000,
    ) -> np.ndarray:
        """Return clips as 16-bit samples of shape (n, length), cut or zero-padded."""
        clips = np.zeros((len(indices), length), dtype=np.int16)
        for row, index in zip(clips, indices, strict=True):
            samples = read_clip(self.files[index], sample_rate)[:length]
            row[: len(samples)] = samples
        return clips


def read_clip(path: str | os.PathLike[str], sample_rate: int = 16000) -> np.ndarray:
    """Return the samples of a WAV file, mono, 16 bit.

    Parameters
    ----------
    path : path-like
        WAV file, integer PCM or floating point. The channels are averaged.
    sample_rate : int, default=16000
        Rate to resample to, in Hz.

    Returns
    -------
    ndarray of shape (n_samples,) and dtype int16
        The clip.

    Raises
    ------
    CorpusError
        If it is not a WAV file, was cut off, or holds no sound.
    FileNotFoundError
        If there is no such file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            warnings.filterwarnings("error", "Reached EOF", wavfile.WavFileWarning)
            rate, samples = wavfile.read(path)
        zero, factor = _TO_16_BIT[samples.dtype.name]
    except OSError:
        raise
    except Exception as error:
        # scipy's reader fails on a broken file with errors of many types.
        raise CorpusError(f"{path} is not an intact WAV file: {error}") from error
    if samples.size == 0 or rate <= 0:
        raise CorpusError(f"{path} holds no sound.")
    samples = (samples.astype(np.float64) - zero) * factor
    if not np.isfinite(samples).all():
        raise CorpusError(f"{path} holds samples that are not finite.")
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    if rate != sample_rate:
        common = gcd(rate, sample_rate)
        samples = resample_poly(samples, sample_rate // common, rate // common)
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16)


def google_split(file_name: str) -> Split:
    """Return the split of a Google Speech Commands clip from its file name.

    Parameters
    ----------
    file_name : str
        Such as ``"bed/0c40e715_nohash_0.wav"``. Only the speaker counts.

    Returns
    -------
    {"train", "validation", "test"}
        The same as in the lists that come with the corpus.

    References
    ----------
    Warden. Speech Commands: a dataset for limited-vocabulary speech recognition.
    arXiv:1804.03209, 2018, section 5.2 and its function ``which_set``.

    Examples
    --------
    >>> from sklearn_v2s.pretraining.corpora import google_split
    >>> google_split("bed/0c40e715_nohash_0.wav")
    'test'
    """
    speaker = Path(file_name).name.split("_nohash_")[0]
    digest = int(hashlib.sha1(speaker.encode(), usedforsecurity=False).hexdigest(), 16)
    modulus = _GOOGLE_MAX_CLIPS_PER_SPLIT + 1
    percentage = (digest % modulus) * (100.0 / _GOOGLE_MAX_CLIPS_PER_SPLIT)
    if percentage < _GOOGLE_VALIDATION_PERCENT:
        return "validation"
    if percentage < _GOOGLE_VALIDATION_PERCENT + _GOOGLE_TEST_PERCENT:
        return "test"
    return "train"


def _corpus(
    name: str,
    licence: str,
    rows: list[tuple[Path, str, Split, str]],
) -> SpeechCorpus:
    classes = tuple(sorted({word for _, word, _, _ in rows}))
    index = {word: position for position, word in enumerate(classes)}
    return SpeechCorpus(
        name=name,
        licence=licence,
        classes=classes,
        files=tuple(path for path, _, _, _ in rows),
        labels=np.array([index[word] for _, word, _, _ in rows], dtype=np.int64),
        splits=np.array([split for _, _, split, _ in rows]),
        speakers=np.array([speaker for _, _, _, speaker in rows]),
    )


def _read_arabic(folder: Path) -> SpeechCorpus:
    rows: list[tuple[Path, str, Split, str]] = []
    for split, file_name in zip(
        SPLITS, ("train.csv", "val.csv", "test.csv"), strict=True
    ):
        with open(folder / file_name, newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            if not {"file", "class"} <= set(reader.fieldnames or ()):
                raise CorpusError(
                    f"{folder / file_name} has the columns {reader.fieldnames}, "
                    "expected 'file' and 'class'."
                )
            for row in reader:
                path = folder / row["file"]
                speaker = path.name.split("_NO_")[0]
                rows.append((path, row["class"], split, f"asc/{speaker}"))
    missing = [str(path) for path, *_ in rows if not path.is_file()]
    if missing:
        raise CorpusError(
            f"{folder}: its lists name {len(missing)} clips that are not there, the "
            f"first is {missing[0]}. Clone the repository again."
        )
    return _corpus(
        "Arabic Speech Commands",
        "CC BY 4.0, Ghandoura, Hjabo, Al Dakkak: Building and benchmarking an Arabic "
        "Speech Commands dataset for small-footprint keyword spotting, Engineering "
        "Applications of Artificial Intelligence, 2021",
        sorted(rows),
    )


def _read_google(folder: Path) -> SpeechCorpus:
    listed: dict[str, Split] = {}
    lists: tuple[tuple[Split, str], ...] = (
        ("validation", "validation_list.txt"),
        ("test", "testing_list.txt"),
    )
    found = [name for _, name in lists if (folder / name).is_file()]
    if len(found) == 1:
        raise CorpusError(
            f"{folder} has {found[0]} alone: without the other list the clips of one "
            "split would pass for training clips."
        )
    for split, file_name in lists if found else ():
        names = (folder / file_name).read_text(encoding="utf-8").splitlines()
        listed.update(dict.fromkeys((name.strip() for name in names), split))
    rows: list[tuple[Path, str, Split, str]] = []
    for path in sorted(folder.glob("*/*.wav")):
        word = path.parent.name
        if word in _GOOGLE_NOT_WORDS:
            continue
        # A part of the corpus comes without its lists; the rule that made them holds.
        split = (
            listed.get(f"{word}/{path.name}", "train")
            if found
            else google_split(path.name)
        )
        speaker = path.name.split("_nohash_")[0]
        rows.append((path, word, split, f"gsc/{speaker}"))
    if not rows:
        raise CorpusError(
            f"{folder} has no clips: expected a folder for each word with WAV files, "
            "the Arabic Speech Commands repository, or the root folder of torchaudio's "
            "SPEECHCOMMANDS."
        )
    return _corpus(
        "Google Speech Commands",
        "CC BY 4.0, Warden: Speech Commands: a dataset for limited-vocabulary speech "
        "recognition, arXiv:1804.03209, 2018",
        rows,
    )


def read_corpus(folder: str | os.PathLike[str]) -> SpeechCorpus:
    """Read a speech corpus, whichever of the known layouts it has.

    Parameters
    ----------
    folder : path-like
        The Arabic Speech Commands repository, a Google Speech Commands folder, the
        root folder given to ``torchaudio.datasets.SPEECHCOMMANDS``, or any folder that
        holds a folder of WAV files for each word (its split is then Google's rule on
        the part of the file name before ``_nohash_``).

    Returns
    -------
    SpeechCorpus
        Names of the clips; the samples are read later.

    Raises
    ------
    CorpusError
        If nothing of this is found there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CorpusError(f"corpus {str(folder)!r}: there is no such folder.")
    if (folder / "train.csv").is_file() and (folder / "dataset").is_dir():
        return _read_arabic(folder)
    unpacked = sorted(
        path
        for path in folder.glob("SpeechCommands/speech_commands_v*")
        if path.is_dir()
    )
    if unpacked:
        return _read_google(unpacked[-1])
    if (folder / "data").is_dir() and not any(folder.glob("*/*.wav")):
        return _read_google(folder / "data")
    return _read_google(folder)


def join_corpora(corpora: Sequence[SpeechCorpus]) -> SpeechCorpus:
    """Return one corpus with the clips of several.

    Parameters
    ----------
    corpora : sequence of SpeechCorpus
        At least one. A word that stands in two of them becomes two classes, named
        after corpus and word: the same spelling need not be the same sound. Two folders
        of the same corpus share their words.

    Returns
    -------
    SpeechCorpus
        All clips, in the order of `corpora`.
    """
    homes: dict[str, set[str]] = {}
    for corpus in corpora:
        for word in corpus.classes:
            homes.setdefault(word, set()).add(corpus.name)
    rows: list[tuple[Path, str, Split, str]] = []
    for corpus in corpora:
        names = [
            word if len(homes[word]) == 1 else f"{corpus.name}: {word}"
            for word in corpus.classes
        ]
        rows += [
            (path, names[label], split, speaker)
            for path, label, split, speaker in zip(
                corpus.files, corpus.labels, corpus.splits, corpus.speakers, strict=True
            )
        ]
    return _corpus(
        " + ".join(dict.fromkeys(corpus.name for corpus in corpora)),
        "; ".join(dict.fromkeys(corpus.licence for corpus in corpora)),
        rows,
    )
