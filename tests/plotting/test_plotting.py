# SPDX-License-Identifier: Apache-2.0
"""Displays, and the examples that show them."""

import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import sklearn_v2s
import sklearn_v2s.classifier as classifier_module
from sklearn_v2s import (
    BlackBoxV2SClassifier,
    FCNClassifier,
    SourceEmbeddingDisplay,
    TrainingHistoryDisplay,
    TransferClassifier,
    V2SClassifier,
    V2SExplanationDisplay,
)
from sklearn_v2s.explain import attribute_series, explain_source, represent_series
from sklearn_v2s.plotting.axes import COLOURS, class_styles
from sklearn_v2s.training.train import stratified_validation_rows
from tests.small import WORDS, make_classifier, make_series

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _no_window():
    matplotlib.use("Agg")
    yield
    plt.close("all")


@pytest.fixture
def fitted(tiny_source):
    X, y = make_series(n_classes=3)
    return make_classifier(tiny_source, max_epochs=0).fit(X, y), X, y


def image_of(axes) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


def texts_of(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def overlapping(figure) -> list[tuple[str, str]]:
    """Return pairs of titles, axis labels and legends that cover each other."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    found = []
    for axes in figure.axes:
        found += [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
        legend = axes.get_legend()
        found += [] if legend is None else legend.get_texts()
    boxes = [
        (text.get_text(), text.get_window_extent(renderer))
        for text in found
        if text.get_text()
    ]
    return [
        (name, other)
        for position, (name, box) in enumerate(boxes)
        for other, second in boxes[position + 1 :]
        if box.overlaps(second)
    ]


# Explanation


def test_the_explanation_draws_what_was_computed(fitted):
    classifier, X, _ = fitted
    display = V2SExplanationDisplay.from_estimator(
        classifier, X[0], target=2, layer="conv", perturbation=1, window=3
    )
    expected = explain_source(classifier, X[0], target=2, layer="conv", perturbation=1)
    attribution = attribute_series(classifier, X[0], target=2, window=3)
    assert display.figure_ is display.axes_[0].figure
    waveform, attention, spectrogram, activation, series = display.axes_
    drawn = np.nan_to_num([line.get_ydata() for line in waveform.lines]).sum(0)
    assert_allclose(drawn, expected.waveform)
    sounding = ~np.isnan(waveform.lines[1].get_ydata())
    assert sounding.sum() == 3 * 24
    assert texts_of(attention) == ["this source has no attention"]
    assert_allclose(image_of(spectrogram).T, expected.spectrogram)
    # Low frequencies at the bottom.
    assert spectrogram.images[0].origin == activation.images[0].origin == "lower"
    assert_allclose(image_of(activation)[0], expected.activation_map)
    assert_allclose(image_of(series), attribution.values)
    heights = series.lines[0].get_ydata()
    # Axes of images grow downwards: the largest value is drawn at the top.
    assert heights.argmin() == X[0].argmax()
    assert "class 2" in series.get_title(loc="left")
    assert "conv" in activation.get_title(loc="left")


def test_the_figure_of_the_default_classifier_has_no_overlaps():
    X, y = make_series()
    labels = np.where(y == 0, "a class of a long name", "another one of that kind")
    classifier = V2SClassifier(max_epochs=0, random_state=0).fit(X, labels)
    for view in ("replicas", "tone"):
        display = V2SExplanationDisplay.from_estimator(classifier, X[0], view=view)
        assert overlapping(display.figure_) == []
        weights = display.axes_[1].lines[0].get_ydata()
        assert_allclose(weights, np.log10(display.explanation.attention))
        # The panels share the second, so that they can be compared.
        boxes = [axes.get_position() for axes in display.axes_]
        assert_allclose([box.x0 for box in boxes], boxes[0].x0)
        assert_allclose([box.x1 for box in boxes], boxes[0].x1)
        assert {axes.get_xlim() for axes in display.axes_[:4]} == {(0.0, 1.0)}


def test_channels_have_rows_of_their_own(tiny_source):
    X, y = make_series(n_channels=3)
    classifier = make_classifier(tiny_source, max_epochs=0).fit(X, y)
    display = V2SExplanationDisplay.from_estimator(
        classifier, X[0], method="gradient", cam="hires-cam"
    )
    series = display.axes_[4]
    assert image_of(series).shape == (3, 24)
    for channel, line in enumerate(series.lines):
        assert channel < line.get_ydata().min() <= line.get_ydata().max() < channel + 1
    assert series.get_ylabel() == "Channel"
    assert overlapping(display.figure_) == []


def test_an_empty_map_says_so(fitted):
    classifier, X, _ = fitted
    display = V2SExplanationDisplay.from_estimator(classifier, X[0])
    object.__setattr__(
        display.explanation,
        "activation_map",
        np.zeros_like(display.explanation.activation_map),
    )
    display.plot()
    text = "nothing in this layer speaks for the class"
    assert texts_of(display.axes_[3]) == [text]


def test_maps_are_drawn_at_their_time(fitted):
    classifier, X, _ = fitted
    display = V2SExplanationDisplay.from_estimator(classifier, X[0])
    for name, span in (("map_span", (0.1, 0.7)), ("spectrogram_span", (-0.1, 1.2))):
        object.__setattr__(display.explanation, name, span)
    weights = np.full(6, 0.5)
    object.__setattr__(display.explanation, "attention", weights)
    display.plot()
    _, attention, spectrogram, activation, _ = display.axes_
    assert tuple(activation.images[0].get_extent()[:2]) == (0.1, 0.7)
    assert tuple(spectrogram.images[0].get_extent()[:2]) == (-0.1, 1.2)
    assert_allclose(attention.lines[0].get_xdata(), np.arange(0.15, 0.7, 0.1))


def test_a_source_without_time_says_so(fitted):
    classifier, X, _ = fitted
    display = V2SExplanationDisplay.from_estimator(classifier, X[0])
    object.__setattr__(display.explanation, "activation_map", None)
    display.plot()
    assert texts_of(display.axes_[3]) == ["no layer of this source has a time axis"]


def test_views_outside_the_second_have_only_the_last_panel():
    X, y = make_series()
    classifier = V2SClassifier(
        views=["wave", "slope"], max_epochs=0, random_state=0
    ).fit(X, y)
    display = V2SExplanationDisplay.from_estimator(classifier, X[0], window=3)
    assert display.explanation is None
    (series,) = display.axes_
    expected = attribute_series(classifier, X[0], window=3)
    assert_allclose(image_of(series), expected.values)
    assert "Time point" in series.get_xlabel()
    with pytest.raises(
        ValueError,
        match="an input of the source is there for 'replicas' and 'tone' only",
    ):
        V2SExplanationDisplay.from_estimator(classifier, X[0], view="tone")


def test_constant_series_are_drawn(fitted):
    classifier, _, _ = fitted
    display = V2SExplanationDisplay.from_estimator(classifier, np.ones(24))
    assert np.isfinite(display.axes_[4].lines[0].get_ydata()).all()


def test_axes_of_the_user(fitted):
    classifier, X, _ = fitted
    figure, axes = plt.subplots(5, 1)
    display = V2SExplanationDisplay.from_estimator(classifier, X[0], axes=axes)
    assert display.figure_ is figure
    assert list(display.axes_) == list(axes)
    with pytest.raises(ValueError, match="axes holds 4 axes, but 5 are drawn on"):
        display.plot(axes=axes[:4])


# Learning curves


def test_the_history_is_drawn(tiny_source):
    X, y = make_series()
    classifier = make_classifier(tiny_source, early_stopping=True).fit(X, y)
    display = TrainingHistoryDisplay.from_estimator(classifier)
    loss, accuracy = display.axes_
    for axes, key in ((loss, "loss"), (accuracy, "accuracy")):
        for line, part in zip(axes.lines, ("train", "valid"), strict=True):
            expected = [row[f"{part}_{key}"] for row in classifier.history_]
            assert_array_equal(line.get_ydata(), expected)
            assert_array_equal(line.get_xdata(), [1, 2, 3])
    assert overlapping(display.figure_) == []


def test_the_history_of_baselines_and_of_distances_is_drawn():
    X, y = make_series()
    for classifier in (
        FCNClassifier(max_epochs=2, random_state=0),
        TransferClassifier(max_epochs=1, random_state=0),
    ):
        display = TrainingHistoryDisplay.from_estimator(classifier.fit(X, y))
        assert [len(axes.lines) for axes in display.axes_] == [1, 1]
    history = [
        {"epoch": 1.0, "train_loss": 2.0},
        {"epoch": 2.0, "train_loss": 1.0, "sliced_wasserstein": 3.0},
    ]
    _, distance = TrainingHistoryDisplay(history).plot().axes_
    assert_array_equal(distance.lines[0].get_xydata(), [[2.0, 3.0]])


def test_the_history_of_a_black_box_is_drawn_by_its_questions():
    X, y = make_series(n=12)
    weights = np.random.default_rng(0).normal(size=(16000, 5))

    def ask(waveforms):
        scores = np.exp(waveforms @ weights / 100)
        return scores / scores.sum(1, keepdims=True)

    classifier = BlackBoxV2SClassifier(ask, max_queries=600, random_state=0).fit(X, y)
    (axes,) = TrainingHistoryDisplay.from_estimator(classifier).axes_
    assert axes.get_xlabel() == "Questions to the source"
    rows = classifier.history_
    assert_allclose(axes.lines[0].get_xdata(), [row["n_queries"] for row in rows])
    assert_allclose(axes.lines[0].get_ydata(), [row["loss"] for row in rows])


def test_without_training_there_is_no_history(fitted):
    classifier, _, _ = fitted
    with pytest.raises(ValueError, match="history is empty"):
        TrainingHistoryDisplay.from_estimator(classifier)


@pytest.mark.parametrize("parameters", [{}, WORDS], ids=["linear", "words"])
def test_the_accuracy_of_an_epoch_is_that_of_its_batches(
    tiny_source, parameters, monkeypatch
):
    chosen = []

    def remember(*args):
        chosen.append(stratified_validation_rows(*args))
        return chosen[-1]

    monkeypatch.setattr(classifier_module, "stratified_validation_rows", remember)
    X, y = make_series(n_classes=3)
    # Some labels are wrong, so that not all can be right.
    y[::4] = (y[::4] + 1) % 3
    weight = np.random.default_rng(0).uniform(0.5, 2.0, size=len(y))
    # So slow that the parameters do not change within the epoch.
    classifier = make_classifier(
        tiny_source,
        max_epochs=1,
        lr=1e-12,
        batch_size=10,
        early_stopping=True,
        validation_fraction=0.3,
        **parameters,
    ).fit(X, y, sample_weight=weight)
    (row,) = classifier.history_
    right = classifier.predict(X) == y
    assert 0 < right.mean() < 1
    (validation,) = chosen
    train = np.setdiff1d(np.arange(len(y)), validation)
    for rows, name in ((train, "train_accuracy"), (validation, "valid_accuracy")):
        expected = np.average(right[rows], weights=weight[rows])
        assert_allclose(row[name], expected, rtol=1e-5)


def test_partial_fit_goes_on_recording(tiny_source):
    X, y = make_series()
    classifier = make_classifier(tiny_source, **WORDS)
    for _ in range(3):
        classifier.partial_fit(X, y)
    assert all("train_accuracy" in row for row in classifier.history_)
    assert len(TrainingHistoryDisplay.from_estimator(classifier).axes_) == 2


# Embeddings


def test_the_embeddings_are_drawn(fitted, tiny_source):
    classifier, X, y = fitted
    transfer = TransferClassifier(tiny_source, max_epochs=1, random_state=0).fit(X, y)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    names = np.array(["one", "two", "three"])[y]
    display = SourceEmbeddingDisplay.from_estimators(
        classifier, X, names, transfer=transfer, random_state=0
    )
    assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    found = represent_series(classifier, X, transfer=transfer)
    assert display.names == [each.name for each in found]
    for axes, points in zip(display.axes_, display.points, strict=True):
        drawn = np.concatenate([each.get_offsets() for each in axes.collections])
        assert len(drawn) == 36
        first = points[names == "one"]
        assert_allclose(axes.collections[0].get_offsets(), first)
    assert all(-1 <= value <= 1 for value in display.silhouettes)
    labels = [text.get_text() for text in display.figure_.legends[0].get_texts()]
    assert labels == ["one", "three", "two"]
    assert overlapping(display.figure_) == []
    again = SourceEmbeddingDisplay.from_estimators(
        classifier, X, names, transfer=transfer, random_state=0
    )
    assert_array_equal(again.points, display.points)


def test_separate_classes_have_a_high_silhouette(fitted):
    classifier, _, _ = fitted
    rng = np.random.default_rng(0)
    y = np.arange(24) % 2
    # Two series, each many times with little noise.
    X = np.where(y[:, None] == 0, np.sin(np.arange(24)), np.arange(24) % 5)
    X = X + rng.normal(scale=0.01, size=X.shape)
    display = SourceEmbeddingDisplay.from_estimators(classifier, X, y, random_state=0)
    assert min(display.silhouettes) > 0.8
    mixed = SourceEmbeddingDisplay.from_estimators(
        classifier, X, rng.permutation(y), random_state=0
    )
    assert max(mixed.silhouettes) < 0.3
    single = SourceEmbeddingDisplay.from_estimators(
        classifier, X, np.zeros(24), random_state=0
    )
    assert np.isnan(single.silhouettes).all()


def test_too_few_series_for_tsne(fitted):
    classifier, X, y = fitted
    with pytest.raises(ValueError, match="t-SNE needs at least 3"):
        SourceEmbeddingDisplay.from_estimators(classifier, X[:2], y[:2])


def test_classes_are_told_apart():
    styles = class_styles(64)
    assert len({(style["color"], style["marker"]) for style in styles}) == 64
    assert len(set(COLOURS)) == 8


# Imports


def test_displays_without_matplotlib_name_the_extra():
    code = """
import sys
sys.modules["matplotlib"] = None
sys.modules["matplotlib.pyplot"] = None
import sklearn_v2s
assert "sklearn_v2s.plotting" not in sys.modules
assert "V2SExplanationDisplay" in dir(sklearn_v2s)
try:
    sklearn_v2s.TrainingHistoryDisplay([{"epoch": 1.0, "train_loss": 1.0}]).plot()
except ImportError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert 'pip install "sklearn-v2s[plot]"' in result.stdout


def test_unknown_names_of_the_package():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = sklearn_v2s.Nothing
    assert set(sklearn_v2s.__all__) <= set(dir(sklearn_v2s))


# Examples


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "n_figures"), [("plot_explain.py", 2), ("plot_alignment.py", 2)]
)
def test_examples_run(name, n_figures, monkeypatch, capsys):
    monkeypatch.setattr(plt, "show", lambda: None)
    found = runpy.run_path(str(EXAMPLES / name))
    assert len(plt.get_fignums()) == n_figures
    for number in plt.get_fignums():
        assert overlapping(plt.figure(number)) == []
    if name == "plot_explain.py":
        # By chance 0.13.
        assert np.mean(found["shares"]) > 0.5
    else:
        # What the text says: the bound is above the largest risk.
        assert found["risk"] < found["LARGEST_RISK"] < found["bound"]
    assert capsys.readouterr().out
