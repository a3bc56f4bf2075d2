# SPDX-License-Identifier: Apache-2.0
"""Distances between speech and reprogrammed series, and the logits kept for them."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.io import wavfile
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss

import sklearn_v2s
from sklearn_v2s import V2SClassifier, cli
from sklearn_v2s.alignment import (
    LARGEST_RISK,
    AlignmentCallback,
    alignment_scores,
    rank_sources,
    risk_bound,
    sliced_wasserstein,
    wasserstein1,
)
from sklearn_v2s.pretraining.source_logits import save_source_logits
from sklearn_v2s.sources import CheckpointError, load_source
from sklearn_v2s.sources.logits import SourceLogits, load_source_logits
from tests.small import WORDS, make_classifier, make_series

CHECKPOINTS = Path(sklearn_v2s.__file__).parent / "sources" / "checkpoints"


def clouds(seed=0, n=30, m=30, d=5):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(loc=0.5, scale=2.0, size=(m, d))


# Distances


@given(seed=st.integers(0, 1000), d=st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_w1_is_the_best_assignment(seed, d):
    a, b = clouds(seed, n=12, m=12, d=d)
    costs = cdist(a, b)
    expected = costs[linear_sum_assignment(costs)].mean()
    assert_allclose(wasserstein1(a, b), expected, rtol=1e-9)
    # The distance of the means is the least that any coupling can have.
    assert wasserstein1(a, b) >= np.linalg.norm(a.mean(0) - b.mean(0)) - 1e-9


def test_w1_of_samples_of_different_size():
    a, b = clouds(n=7, m=12, d=1)
    assert_allclose(wasserstein1(a, b), wasserstein_distance(a[:, 0], b[:, 0]))


def test_sliced_distance_in_one_dimension_is_w2():
    a, b = clouds(d=1)
    expected = np.sqrt(np.mean((np.sort(a[:, 0]) - np.sort(b[:, 0])) ** 2))
    assert_allclose(sliced_wasserstein(a, b, random_state=0), expected)


def test_sliced_distance_is_the_mean_over_directions():
    a, b = clouds(d=4)
    rng = np.random.default_rng(5)
    directions = rng.normal(size=(4, 20000))
    directions /= np.linalg.norm(directions, axis=0)
    gaps = np.sort(a @ directions, axis=0) - np.sort(b @ directions, axis=0)
    expected = np.sqrt(np.mean(gaps**2))
    found = sliced_wasserstein(a, b, n_projections=20000, random_state=0)
    assert_allclose(found, expected, rtol=0.02)


@given(seed=st.integers(0, 1000), d=st.integers(2, 6))
@settings(max_examples=20, deadline=None)
def test_sliced_distance_is_a_distance_below_w2(seed, d):
    a, b = clouds(seed, d=d)
    found = sliced_wasserstein(a, b, 50, random_state=seed)
    assert_allclose(found, sliced_wasserstein(b, a, 50, random_state=seed))
    assert_allclose(found * 3, sliced_wasserstein(3 * a, 3 * b, 50, seed), rtol=1e-9)
    assert sliced_wasserstein(a, a, 50, random_state=seed) < 1e-9
    costs = cdist(a, b) ** 2
    assert 0 < found <= np.sqrt(costs[linear_sum_assignment(costs)].mean()) + 1e-9


def test_the_random_state_decides_and_nothing_else():
    a, b = clouds()
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = sliced_wasserstein(a, b, 10, random_state=1)
    assert first == sliced_wasserstein(a, b, 10, random_state=1)
    assert first != sliced_wasserstein(a, b, 10, random_state=2)
    assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_the_bound_says_nothing_at_the_numbers_of_the_paper():
    assert_allclose(risk_bound(0.171, 35, 1.829), 21.81, atol=0.01)
    assert risk_bound(0.171, 35, 1.829) > LARGEST_RISK
    assert risk_bound(0.2, 9, 0.0) == 0.2
    corners = cdist(np.eye(3), np.eye(3))
    assert_allclose(corners.max(), LARGEST_RISK)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wasserstein1(np.ones((2, 3)), np.ones((2, 4))), "a has 3 columns"),
        (lambda: wasserstein1(np.ones((5001, 1)), np.ones((2, 1))), "5001 and 2"),
        (lambda: sliced_wasserstein([[np.nan]], [[1.0]]), "Input a contains NaN"),
        (lambda: sliced_wasserstein([[1.0]], [[1.0]], 0), "n_projections=0"),
        (lambda: risk_bound(-1, 2, 0.0), "source_loss=-1"),
        (lambda: risk_bound(0.1, 0, 0.0), "n_classes=0"),
        (lambda: risk_bound(0.1, 2, -0.5), "w1=-0.5"),
        (lambda: risk_bound(0.171, 1.829, 35), "n_classes=1.829"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Scores of an estimator


def test_scores_compare_the_logits_of_both(tiny_source):
    X, y = make_series()
    classifier = make_classifier(tiny_source, max_epochs=0).fit(X, y)
    speech = np.random.default_rng(0).normal(size=(50, 12))
    found = alignment_scores(classifier, X, speech, n_projections=30, random_state=4)
    target = classifier.source_outputs(X).logits.reshape(-1, 12)
    assert (found.n_source, found.n_target) == (50, 72)
    assert found.sliced_wasserstein == sliced_wasserstein(speech, target, 30, 4)
    assert found.wasserstein1 == wasserstein1(speech, target)
    with pytest.raises(ValueError, match="source is a TinySource"):
        alignment_scores(classifier, X)


def test_logits_of_different_sources_have_no_distance():
    X, y = make_series(n=8)
    classifier = V2SClassifier(
        "attrnn", views="replicas", max_epochs=0, random_state=0
    ).fit(X, y)
    other = load_source_logits("wavebank")
    message = "source_logits are of another source.*load_source_logits\\('attrnn'\\)"
    with pytest.raises(ValueError, match=message):
        alignment_scores(classifier, X, other)
    paper = V2SClassifier.from_paper(max_epochs=1, random_state=0)
    with pytest.raises(ValueError, match=message):
        paper.set_params(callbacks=[AlignmentCallback("wavebank")]).fit(X, y)
    # Of logits without a card it is unknown.
    assert alignment_scores(classifier, X, other.logits).n_source == 400


def test_only_what_is_reprogrammed_has_a_distance():
    X, y = make_series(n=8)
    with pytest.raises(NotFittedError):
        alignment_scores(V2SClassifier(), X)
    classifier = V2SClassifier(views="tone", max_epochs=0, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=r"has the views \['tone'\]; only 'replicas'"):
        alignment_scores(classifier, X)


def test_speech_is_nearer_to_speech_than_to_series():
    X, y = make_series()
    classifier = V2SClassifier(
        "attrnn", views="replicas", max_epochs=0, random_state=0
    ).fit(X, y)
    speech = load_source_logits("attrnn").logits
    found = alignment_scores(classifier, X, random_state=0)
    halves = sliced_wasserstein(speech[::2], speech[1::2], random_state=0)
    assert halves < found.sliced_wasserstein


def test_the_callback_records_the_distance(tiny_source):
    X, y = make_series()
    speech = np.random.default_rng(0).normal(size=(50, 12))
    callback = AlignmentCallback(speech, every=2, n_projections=20, random_state=3)
    classifier = make_classifier(
        tiny_source, max_epochs=4, callbacks=[callback], **WORDS
    )
    classifier = clone(classifier).fit(X, y)
    recorded = [row.get("sliced_wasserstein") for row in classifier.history_]
    assert recorded[0] is None
    assert recorded[2] is None
    target = classifier.source_outputs(X).logits.reshape(-1, 12)
    expected = sliced_wasserstein(speech, target, 20, random_state=3)
    assert_allclose(recorded[3], expected, rtol=1e-9)
    assert recorded[1] != recorded[3]
    # What was held for the training is let go, and nothing else is changed by it.
    assert set(vars(classifier.callbacks[0])) == set(callback.get_params())
    silent = make_classifier(tiny_source, max_epochs=4, **WORDS).fit(X, y)
    assert_array_equal(silent.perturbation_, classifier.perturbation_)
    again = pickle.loads(pickle.dumps(classifier))
    assert again.history_ == classifier.history_


def test_the_callback_takes_the_name_of_a_source():
    X, y = make_series(n=8)
    classifier = V2SClassifier.from_paper(
        max_epochs=1,
        early_stopping=False,
        callbacks=[AlignmentCallback("attrnn", n_projections=50)],
        random_state=0,
    ).fit(X, y)
    speech = load_source_logits("attrnn").logits
    target = classifier.source_outputs(X).logits[:, 0]
    expected = sliced_wasserstein(speech, target, 50, random_state=0)
    assert_allclose(classifier.history_[0]["sliced_wasserstein"], expected, rtol=1e-6)
    classifier.set_params(callbacks=[AlignmentCallback("attrnn", every=0)])
    with pytest.raises(ValueError, match="every=0 must be at least 1"):
        classifier.fit(X, y)


def test_sources_are_ranked_by_the_distance():
    X, y = make_series(n=12)
    ranks = rank_sources(X, y, ["wavebank", "attrnn", "unet-attrnn"])
    distances = [rank.scores.sliced_wasserstein for rank in ranks]
    assert distances == sorted(distances)
    assert {rank.name for rank in ranks} == {"attrnn", "unet-attrnn", "wavebank"}
    for rank in ranks:
        speech = load_source_logits(rank.name)
        classifier = V2SClassifier(
            rank.name, views="replicas", max_epochs=0, random_state=0
        )
        scores = alignment_scores(classifier.fit(X, y), X, random_state=0)
        assert rank.scores == scores
        assert rank.source_loss == speech.loss
        assert rank.bound == risk_bound(speech.risk, 43, scores.wasserstein1)
    # Logits that are near to the series' own come first.
    own = classifier.set_params(source="wavebank").fit(X, y).source_outputs(X)
    known = load_source_logits("wavebank")
    near = SourceLogits(own.logits[:, 0], known.labels[:12], known.classes, {})
    ranks = rank_sources(X, y, source_logits={"wavebank": near})
    assert ranks[0].name == "wavebank"
    assert ranks[0].scores.sliced_wasserstein < 1e-6


def test_sources_to_rank_are_names():
    X, y = make_series(n=8)
    (rank,) = rank_sources(X, y, "wavebank")
    assert rank.name == "wavebank"
    for sources, kind in (([], "nothing"), ([load_source("attrnn")], "SourceModel")):
        with pytest.raises(ValueError, match=rf"sources holds .*{kind}.*; give at"):
            rank_sources(X, y, sources)


# Logits that are kept


@pytest.mark.parametrize("name", ["attrnn", "unet-attrnn", "wavebank"])
def test_shipped_logits_fit_their_checkpoint(name):
    kept = load_source_logits(name)
    source = load_source(name)
    assert kept.classes == source.classes
    assert kept.card["checkpoint_sha256"] == source.reference.sha256
    assert kept.card["licence"].startswith("CC BY 4.0")
    assert kept.card["splits"] == ["test"]
    assert len(kept.logits) == len(kept.labels) == 400
    assert_array_equal(np.bincount(kept.labels, minlength=43) % 10, 0)
    # As on all clips of the list: see the card.
    assert 0.95 < kept.accuracy < 0.99
    proba = torch.softmax(torch.from_numpy(kept.logits).double(), 1).numpy()
    assert_allclose(kept.loss, log_loss(kept.labels, proba, labels=range(43)))
    truth = np.zeros_like(proba)
    truth[np.arange(400), kept.labels] = 1
    assert_allclose(kept.risk, np.sqrt(((proba - truth) ** 2).sum(1)).mean())
    assert (CHECKPOINTS / f"{name}-logits.safetensors").stat().st_size < 50_000


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Five clips of each of three words; the first two are source classes."""
    rng = np.random.default_rng(0)
    for word in ("cat", "happy", "xylophone"):
        folder = tmp_path / "words" / word
        folder.mkdir(parents=True)
        for speaker in range(5):
            clip = rng.integers(-3000, 3000, size=16000).astype(np.int16)
            wavfile.write(folder / f"{speaker:08x}_nohash_0.wav", 16000, clip)
    for speaker, name in ((3, "validation_list.txt"), (4, "testing_list.txt")):
        listed = [f"{word}/{speaker:08x}_nohash_0.wav" for word in ("cat", "happy")]
        (tmp_path / "words" / name).write_text("\n".join(listed))
    return tmp_path / "words"


def test_logits_of_a_corpus_are_those_of_the_source(corpus, tmp_path, capsys):
    checkpoint = tmp_path / "mine.safetensors"
    shutil.copy(CHECKPOINTS / "wavebank.safetensors", checkpoint)
    output = tmp_path / "mine-logits.safetensors"
    arguments = ["sources", "logits", str(checkpoint), "--corpus", str(corpus)]
    arguments += ["--output", str(output), "--split", "train", "--clips", "2"]
    assert cli.main(arguments) == 0
    assert "4 clips of 2 speakers" in capsys.readouterr().out
    kept = load_source_logits(str(checkpoint))
    source = load_source("wavebank")
    assert [source.classes[label] for label in kept.labels] == [
        "cat",
        "cat",
        "happy",
        "happy",
    ]
    # Three clips of each word are for training; evenly spread, 0 and 1 of 0, 1, 2.
    rows = [f"{word}/{n:08x}_nohash_0.wav" for word in ("cat", "happy") for n in (0, 1)]
    clips = np.stack([wavfile.read(corpus / row)[1] for row in rows])
    waveforms = torch.from_numpy(clips.astype(np.float32) / 32768)
    with torch.no_grad():
        expected = source(waveforms).logits.numpy()
    assert_allclose(kept.logits, expected, rtol=1e-3, atol=1e-2)
    command = "v2s sources logits mine.safetensors --corpus words"
    assert kept.card["command"].startswith(command)
    assert str(tmp_path) not in json.dumps(kept.card)


def test_logits_that_cannot_be_made(corpus, tmp_path):
    output = tmp_path / "out.safetensors"
    with pytest.raises(ValueError, match="no clip of the lists"):
        folder = tmp_path / "other"
        shutil.copytree(corpus / "xylophone", folder / "xylophone")
        save_source_logits("attrnn", folder, output, splits=["train"])
    with pytest.raises(ValueError, match="has no checkpoint"):
        save_source_logits("attrnn:untrained", corpus, output)
    with pytest.raises(ValueError, match="clips_of_each=0"):
        save_source_logits("attrnn", corpus, output, clips_of_each=0)
    assert not output.exists()


def test_logits_that_cannot_be_loaded(tmp_path):
    checkpoint = tmp_path / "mine.safetensors"
    shutil.copy(CHECKPOINTS / "wavebank.safetensors", checkpoint)
    beside = tmp_path / "mine-logits.safetensors"
    with pytest.raises(FileNotFoundError, match="v2s sources logits"):
        load_source_logits(checkpoint)
    shutil.copy(CHECKPOINTS / "attrnn-logits.safetensors", beside)
    with pytest.raises(CheckpointError, match="was made with the checkpoint f89b"):
        load_source_logits(checkpoint)
    shutil.copy(checkpoint, beside)
    with pytest.raises(CheckpointError, match="holds a 'source model'"):
        load_source_logits(checkpoint)
    content = bytearray((CHECKPOINTS / "wavebank-logits.safetensors").read_bytes())
    content[-5] ^= 1
    beside.write_bytes(content)
    with pytest.raises(CheckpointError, match="was changed or cut off"):
        load_source_logits(checkpoint)
    with pytest.raises(FileNotFoundError, match="has no checkpoint"):
        load_source_logits("attrnn:untrained")
    with pytest.raises(ValueError, match="unknown source 'nobody'"):
        load_source_logits("nobody")
