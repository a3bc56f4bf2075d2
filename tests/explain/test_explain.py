# SPDX-License-Identifier: Apache-2.0
"""Explanations: attribution to time points, activation maps, representations."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from torch import nn

from sklearn_v2s import FCNClassifier, TransferClassifier, V2SClassifier
from sklearn_v2s.explain import (
    attribute_series,
    explain_source,
    explainable_layers,
    represent_series,
)
from sklearn_v2s.sources import SourceOutputs, load_source
from sklearn_v2s.sources.checkpoint import ARCHITECTURES
from sklearn_v2s.sources.front_end import FRONT_ENDS
from sklearn_v2s.sources.inspection import (
    default_layer,
    record_activations,
    unfrozen_copy,
)
from tests.small import WORDS, make_classifier, make_series
from tests.small import normalised as normalised_series


class Bump(ClassifierMixin, BaseEstimator):
    """Log-odds of class "bump": the sum of the time points 10 to 14 of channel 0."""

    def fit(self, X=None, y=None):
        self.classes_ = np.array(["bump", "none"])
        return self

    def predict_proba(self, X):
        rows = X if np.ndim(X) == 2 else X[:, 0]
        odds = 1 / (1 + np.exp(-np.nansum(rows[:, 10:15], axis=1)))
        return np.column_stack([odds, 1 - odds])


def with_event(n=40, n_timepoints=60, seed=0):
    """Return series of noise, half of them with a bump at the time points 20 to 31."""
    rng = np.random.default_rng(seed)
    X = rng.normal(scale=0.3, size=(n, n_timepoints))
    y = np.repeat(["bump", "none"], n // 2)
    X[: n // 2, 20:32] += 2 * np.hanning(12)
    return X, y


# Occlusion


@pytest.mark.parametrize("scale", ["log-odds", "log-probability"])
def test_occlusion_is_the_fall_where_the_bump_is_hidden(scale):
    series = np.zeros(30)
    series[10:15] = 1.0
    found = attribute_series(Bump().fit(), series, window=5, stride=5, scale=scale)
    before, after = (np.log(1 / (1 + np.exp(-total))) for total in (5.0, 0.0))
    expected = np.zeros((1, 30))
    expected[0, 10:15] = 5.0 if scale == "log-odds" else before - after
    assert_allclose(found.values, expected, atol=1e-12)
    assert found.target == "bump"
    assert_allclose(found.probability, np.exp(before))
    assert found.method == "occlusion"


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (4, 3), (7, 2), (30, 30)])
@pytest.mark.parametrize("n_channels", [None, 3])
def test_occlusion_averages_over_the_windows_that_hide_a_point(
    window, stride, n_channels
):
    rng = np.random.default_rng(0)
    shape = (30,) if n_channels is None else (n_channels, 30)
    series = rng.normal(size=shape)
    classifier = Bump().fit()
    found = attribute_series(
        classifier, series, target="none", window=window, stride=stride
    )
    rows = np.atleast_2d(series)
    starts = sorted({*range(0, 31 - window, stride), 30 - window})
    falls = [[[] for _ in range(30)] for _ in rows]
    for channel, values in enumerate(rows):
        for start in starts:
            end = start + window
            changed = rows.copy()
            for time in range(start, end):
                left = values[start - 1] if start > 0 else None
                right = values[end] if end < 30 else None
                if left is None and right is None:
                    changed[channel, time] = values.mean()
                elif left is None or right is None:
                    changed[channel, time] = right if left is None else left
                else:
                    share = (time - start + 1) / (window + 1)
                    changed[channel, time] = left + share * (right - left)
            both = np.stack([rows, changed])
            proba = classifier.predict_proba(both)
            log = np.log(proba[:, 1] / proba[:, 0])
            for time in range(start, end):
                falls[channel][time].append(log[0] - log[1])
    expected = [[np.mean(point) for point in channel] for channel in falls]
    assert_allclose(found.values, expected, atol=1e-10)


def test_the_default_classifier_looks_at_the_event():
    X, y = with_event()
    classifier = V2SClassifier(max_epochs=0, random_state=0).fit(X, y)
    X_new, _ = with_event(seed=1)
    shares = []
    for series in X_new[:5]:
        values = np.maximum(attribute_series(classifier, series).values[0], 0)
        shares.append(values[20:32].sum() / values.sum())
    # By chance a fifth.
    assert np.mean(shares) > 0.6


def test_occlusion_works_for_other_classifiers():
    X, y = with_event()
    for classifier in (
        FCNClassifier(max_epochs=1, random_state=0),
        LogisticRegression(),
    ):
        found = attribute_series(classifier.fit(X, y), X[0], window=6)
        assert found.values.shape == (1, 60)
        assert np.isfinite(found.values).all()
    values = found.values[0]
    assert 20 <= values.argmax() < 32


def test_missing_values_and_shorter_series():
    X, y = with_event()
    series = X[0].copy()
    series[:5] = np.nan
    classifier = V2SClassifier(
        views="level", missing="interpolate", max_epochs=0, random_state=0
    )
    found = attribute_series(classifier.fit(X, y), series)
    assert np.isfinite(found.values).all()
    assert np.isnan(found.series[0, :5]).all()
    ragged = [row[: 60 - number % 3] for number, row in enumerate(X)]
    unequal = V2SClassifier(views=["tone", "level"], max_epochs=0, random_state=0).fit(
        ragged, y
    )
    for method in ("occlusion", "gradient"):
        found = attribute_series(unequal, X[0, :50], method=method)
        assert found.values.shape == (1, 50)


# Gradient


def check_gradient(classifier, series, target, rtol=1e-3):
    """Compare the gradient with differences of the probabilities."""
    found = attribute_series(
        classifier, series, target=target, method="gradient", window=1
    )
    n_timepoints = len(series)
    step = 1e-6 * np.eye(n_timepoints)
    proba = classifier.predict_proba(np.concatenate([series + step, series - step]))
    odds = np.log(proba[:, target]) - np.log1p(-proba[:, target])
    slope = (odds[:n_timepoints] - odds[n_timepoints:]) / 2e-6
    expected = slope * (series - series.mean())
    assert np.abs(expected).max() > 0
    tolerance = rtol * np.abs(expected).max()
    assert_allclose(found.values[0], expected, rtol=rtol, atol=tolerance)
    assert found.held == ()


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"source_output": "both"},
        WORDS,
        WORDS | {"label_mapping": "bayesian"},
        {"views": "tone"},
        {"views": ["replicas", "tone"], "source_output": "logits"},
        {"normalization": None},
    ],
    ids=str,
)
def test_the_gradient_is_that_of_the_log_odds(tiny_source, parameters):
    X, y = make_series(n_classes=3)
    classifier = make_classifier(
        tiny_source, max_epochs=0, precision="float64", **parameters
    ).fit(X, y)
    check_gradient(classifier, X[1], target=2)


@pytest.mark.parametrize("views", ["replicas", ["replicas", "tone"]], ids=str)
def test_the_gradient_goes_through_a_spectrogram(views):
    X, y = make_series(n=12)
    classifier = V2SClassifier(
        views=views, precision="float64", max_epochs=0, random_state=0
    ).fit(X, y)
    # The phase of a tone adds up the values: differences are not as exact.
    check_gradient(classifier, X[0], target=1, rtol=5e-3)


def test_the_gradient_of_the_log_probability(tiny_source):
    X, y = make_series()
    classifier = make_classifier(tiny_source, max_epochs=0).fit(X, y)
    odds = attribute_series(classifier, X[0], method="gradient")
    log = attribute_series(classifier, X[0], method="gradient", scale="log-probability")
    # d log P = (1 - P) d log-odds
    assert_allclose(log.values, (1 - odds.probability) * odds.values, rtol=1e-4)


def test_the_gradient_is_averaged_over_a_window(tiny_source):
    X, y = make_series()
    classifier = make_classifier(tiny_source, max_epochs=0).fit(X, y)
    raw = attribute_series(classifier, X[0], method="gradient", window=1).values[0]
    smooth = attribute_series(classifier, X[0], method="gradient", window=5).values[0]
    assert_allclose(smooth[10], raw[8:13].mean(), rtol=1e-5)


def test_views_without_gradient_are_named():
    X, y = with_event()
    classifier = V2SClassifier(max_epochs=0, random_state=0).fit(X, y)
    found = attribute_series(classifier, X[0], method="gradient")
    assert found.held == ("wave", "slope", "level")
    assert np.abs(found.values).max() > 0
    deaf = V2SClassifier(views=["wave", "level"], max_epochs=0, random_state=0).fit(
        X, y
    )
    with pytest.raises(ValueError, match="no gradient goes through the views"):
        attribute_series(deaf, X[0], method="gradient")
    with pytest.raises(
        ValueError,
        match="an input of the source is there for 'replicas' and 'tone' only",
    ):
        explain_source(deaf, X[0])


def test_a_label_mapping_of_the_user_has_no_gradient(tiny_source):
    X, y = make_series()
    classifier = make_classifier(
        tiny_source, max_epochs=0, label_mapping=ProbaMapping()
    ).fit(X, y)
    assert attribute_series(classifier, X[0]).values.shape == (1, 24)
    with pytest.raises(ValueError, match="not one of the package's own"):
        attribute_series(classifier, X[0], method="gradient")


class ProbaMapping(BaseEstimator):
    """A label mapping that the package does not know."""

    def fit(self, X, y, sample_weight=None):
        self.inner_ = LogisticRegression().fit(X, y, sample_weight)
        return self

    def transform(self, X):
        return self.inner_.predict_proba(X)


# What the source attends to


def test_waveform_and_segments_are_the_input_of_the_source(tiny_source):
    X, y = make_series(n_channels=2)
    classifier = make_classifier(tiny_source, max_epochs=0).fit(X, y)
    found = explain_source(classifier, X[3], perturbation=1)
    assert_array_equal(found.waveform, classifier.reprogram(X[3:4])[0, 1])
    assert_array_equal(found.perturbation, classifier.perturbation_[1])
    assert len(found.segments) == 3 * 2
    placed = found.waveform - found.perturbation
    normalised = 0.5 * normalised_series(classifier, X[3:4])[0]
    for number, (start, stop) in enumerate(found.segments):
        assert_allclose(
            placed[start:stop], normalised[number // 3], rtol=1e-4, atol=1e-5
        )
    proba = classifier.predict_proba(X[3:4])[0]
    assert found.target == classifier.classes_[proba.argmax()]
    assert_allclose(found.probability, proba.max())
    assert found.attention is None


def map_by_hand(classifier, waveform, code, cam):
    """Return the map of TinySource.conv, computed layer by layer."""
    source = classifier.model_.reprogrammed.source
    with torch.no_grad():
        maps = source.conv(torch.from_numpy(waveform).float()[None, None])
    maps.requires_grad_()
    states, _ = source.lstm(torch.tanh(source.norm(maps)).transpose(1, 2))
    log_proba = classifier.model_.target_module().head(states.mean(1))[0]
    others = [log_proba[k] for k in range(len(log_proba)) if k != code]
    score = log_proba[code] - torch.stack(others).logsumexp(0)
    (slope,) = torch.autograd.grad(score, maps)
    total = np.zeros(maps.shape[2])
    for k in range(maps.shape[1]):
        weight = slope[0, k] if cam == "hires-cam" else slope[0, k].mean()
        total += (weight * maps[0, k]).detach().numpy()
    return np.maximum(total, 0) / total.max()


@pytest.mark.parametrize("cam", ["grad-cam", "hires-cam"])
def test_the_activation_map_is_that_of_the_formula(tiny_source, cam):
    X, y = make_series(n_classes=3)
    classifier = make_classifier(tiny_source, n_views=1, max_epochs=0).fit(X, y)
    n_seen = 0
    for series in X[:6]:
        found = explain_source(classifier, series, target=1, cam=cam, layer="conv")
        if found.activation_map.any():
            expected = map_by_hand(classifier, found.waveform, 1, cam)
            assert_allclose(found.activation_map, expected, rtol=1e-3, atol=1e-4)
            n_seen += 1
    assert n_seen > 2


def test_each_perturbation_has_a_map_of_its_own(tiny_source):
    X, y = make_series(n_classes=3)
    classifier = make_classifier(tiny_source, max_epochs=0).fit(X, y)
    maps = [
        explain_source(
            classifier, X[0], target=1, cam="hires-cam", perturbation=number
        ).activation_map
        for number in (0, 1)
    ]
    assert all(each.max() == 1.0 for each in maps)
    assert np.abs(maps[0] - maps[1]).max() > 0.01


def test_layers_that_a_frozen_source_skips_are_offered():
    layers = explainable_layers(load_source("attrnn"))
    expected = ["conv1", "norm1", "conv2", "norm2", "lstm1", "lstm2"]
    assert list(layers) == [f"network.{name}" for name in expected]


def test_a_confident_classifier_still_has_a_map():
    X, y = with_event()
    classifier = V2SClassifier(views="replicas", max_epochs=0, random_state=0).fit(X, y)
    classifier.label_mapping_.temperature_ *= 1e3
    found = explain_source(classifier, X[0], cam="hires-cam")
    assert found.probability > 1 - 1e-12
    assert found.activation_map.max() == 1.0


def test_attention_and_spectrogram_are_those_of_the_source():
    X, y = with_event()
    classifier = V2SClassifier("attrnn", max_epochs=0, random_state=0).fit(X, y)
    found = explain_source(classifier, X[0])
    source = load_source("attrnn")
    waveform = torch.from_numpy(found.waveform).float()[None]
    with torch.no_grad():
        features = source.front_end(waveform)
        network = source.network
        states, _ = network.lstm2(network.lstm1(network.convolve(features))[0])
        scores = (states @ network.query(states[:, -1]).unsqueeze(2))[0, :, 0]
    assert_allclose(found.spectrogram, features[0].numpy(), atol=1e-5)
    expected = torch.softmax(scores, 0).numpy()
    assert_allclose(found.attention, expected, rtol=1e-3, atol=1e-6)
    assert (np.diff(found.frequencies) >= 0).all()
    assert 40 <= found.frequencies[0] < found.frequencies[-1] <= 8000


def test_the_tone_is_explained_too():
    X, y = with_event()
    classifier = V2SClassifier(max_epochs=0, random_state=0).fit(X, y)
    found = explain_source(classifier, X[0], view="tone")
    assert found.segments == []
    assert not found.perturbation.any()
    assert_allclose(np.abs(found.waveform).max(), 0.3, atol=1e-3)


def test_the_shared_source_is_left_alone():
    X, y = with_event()
    classifier = V2SClassifier(max_epochs=0, random_state=0).fit(X, y)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    explain_source(classifier, X[0])
    attribute_series(classifier, X[0], method="gradient")
    source = load_source("attrnn")
    assert not any(each.requires_grad for each in source.parameters())
    assert not any(module._forward_hooks for module in source.modules())
    assert torch.equal(before, torch.get_rng_state())
    assert classifier.model_.reprogrammed.perturbation.delta.grad is None


# Layers


@pytest.mark.parametrize("name", ["attrnn", "unet-attrnn", "tc-resnet", "wavebank"])
def test_every_layer_that_is_offered_can_be_mapped(name):
    X, y = with_event(n=8)
    source = load_source(name)
    classifier = V2SClassifier(
        name, views="replicas", max_epochs=0, random_state=0
    ).fit(X, y)
    layers = explainable_layers(source)
    assert default_layer(source) in layers
    names = dict(source.named_modules())
    for layer, shape in layers.items():
        assert layer in names
        found = explain_source(classifier, X[0], layer=layer)
        assert found.activation_map.shape == shape[1:]
        assert found.layer == layer
    assert layers[default_layer(source)][0] > 1


def test_an_unfrozen_copy_has_the_same_outputs():
    waveforms = torch.linspace(-1, 1, 16000).sin().repeat(2, 1)
    for name in ("attrnn", "unet-attrnn", "tc-resnet", "wavebank"):
        source = load_source(name)
        outputs = record_activations(unfrozen_copy(source), waveforms).outputs
        for mine, theirs in zip(outputs, source(waveforms), strict=True):
            assert_allclose(
                mine.detach().numpy(), theirs.detach().numpy(), rtol=1e-3, atol=1e-3
            )


class TransformerSource(nn.Module):
    """A source whose layers have their maps last."""

    def __init__(self):
        super().__init__()
        self.sample_rate, self.input_length = 8000, 400
        self.classes, self.embedding_size = ("a", "b", "c"), 8
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.embed = nn.Linear(20, 8)
            self.layer = nn.TransformerEncoderLayer(
                8, 2, 16, dropout=0.0, batch_first=True
            )
            self.output = nn.Linear(8, 3)

    def forward(self, waveform):
        states = self.layer(self.embed(waveform.unflatten(1, (20, 20))))
        return SourceOutputs(self.output(states.mean(1)), states.mean(1))


def test_a_source_without_convolutions():
    X, y = make_series()
    source = TransformerSource()
    layers = explainable_layers(source)
    assert layers["embed"] == (8, 20)
    assert layers["layer"] == (8, 20)
    assert "output" not in layers
    classifier = make_classifier(source, max_epochs=0).fit(X, y)
    found = explain_source(classifier, X[0])
    assert found.layer == "layer"
    assert found.activation_map.shape == (20,)
    assert found.frequencies.max() <= 4000


class DenseSource(nn.Module):
    """A source that has no layer with a time axis."""

    def __init__(self):
        super().__init__()
        self.sample_rate, self.input_length = 8000, 400
        self.classes, self.embedding_size = ("a", "b", "c"), 8
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.hidden = nn.Linear(400, 8)
            self.output = nn.Linear(8, 3)

    def forward(self, waveform):
        embedding = torch.tanh(self.hidden(waveform))
        return SourceOutputs(self.output(embedding), embedding)


def test_a_source_without_time_has_no_map():
    X, y = make_series()
    classifier = make_classifier(DenseSource(), max_epochs=0).fit(X, y)
    found = explain_source(classifier, X[0])
    assert found.activation_map is None and found.layer is None
    with pytest.raises(ValueError, match="no activation that can be mapped"):
        explain_source(classifier, X[0], layer="hidden")


class EarlyEmbedding(TransformerSource):
    """Its embedding is read before its last layers; the words are read after them."""

    def forward(self, waveform):
        early = self.embed(waveform.unflatten(1, (20, 20)))
        states = self.layer(early)
        return SourceOutputs(self.output(states.mean(1)), early.mean(1))


def test_the_layer_that_is_mapped_has_a_part_in_the_class():
    X, y = make_series()
    classifier = make_classifier(EarlyEmbedding(), max_epochs=0).fit(X, y)
    found = explain_source(classifier, X[0])
    assert default_layer(EarlyEmbedding()) == "layer"
    assert found.layer == "embed"
    assert found.activation_map.max() == 1.0
    assert not explain_source(classifier, X[0], layer="layer").activation_map.any()


@pytest.fixture(scope="module")
def yamnet():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ARCHITECTURES["yamnet"].build(FRONT_ENDS["yamnet"], ["a", "b", "c"])


def test_patches_are_joined_over_all_frames(yamnet):
    # Two clips, two patches of 96 frames each, in 48 and in 3 steps; hop: 48 frames.
    fine = torch.arange(4 * 48.0).reshape(4, 48)
    joined = yamnet.network.join_patches(fine, 2)
    assert joined.shape == (2, 144)
    assert_array_equal(joined[1, :48], fine[2, :24].repeat_interleave(2))
    both = (fine[2, 24:] + fine[3, :24]) / 2
    assert_array_equal(joined[1, 48:96], both.repeat_interleave(2))
    assert_array_equal(joined[1, 96:], fine[3, 24:].repeat_interleave(2))
    assert yamnet.network.join_patches(torch.ones(2, 3, 5), 1).shape == (1, 144, 5)


def test_padding_of_the_front_end_does_not_shift_what_is_drawn(yamnet):
    X, y = make_series(n_timepoints=200)
    X[0] = 0.0
    X[0, 100] = 9.0
    classifier = V2SClassifier(
        yamnet,
        views="replicas",
        n_segments=1,
        init_scale=1e-4,
        max_epochs=0,
        random_state=0,
    ).fit(X, y)
    found = explain_source(classifier, X[0])
    start, end = found.spectrogram_span
    assert_allclose((start, end), (0.011, 1.451))
    assert found.map_span == found.spectrogram_span
    assert len(found.activation_map) == 144
    sounding = np.abs(found.waveform).argmax() / found.sample_rate
    frames = found.spectrogram.mean(1)
    loudest = start + (frames.argmax() + 0.5) * (end - start) / len(frames)
    assert_allclose(loudest, sounding, atol=0.013)


# Representations


def test_representations_are_those_of_the_estimators(tiny_source):
    X, y = make_series()
    classifier = make_classifier(tiny_source, train_gain=True).fit(X, y)
    transfer = TransferClassifier(tiny_source, max_epochs=2, random_state=0).fit(X, y)
    before, tuned, after = represent_series(classifier, X, transfer=transfer)
    assert [each.name for each in (before, tuned, after)] == [
        "before reprogramming",
        "fine-tuned source",
        "after reprogramming",
    ]
    assert_allclose(
        after.points, classifier.source_outputs(X).embedding.reshape(36, -1)
    )
    module = classifier.model_.reprogrammed
    with torch.no_grad():
        series = torch.from_numpy(normalised_series(classifier, X)).float()
        placed = module.placement.place(series)
        gain = module.perturbation.gain[1]
        expected = module.source(gain * placed).embedding
    assert_allclose(before.points[:, 10:], expected.numpy(), atol=1e-5)
    with torch.no_grad():
        logits = transfer.module_.head(torch.from_numpy(tuned.points))
    assert_allclose(logits.softmax(1), transfer.predict_proba(X), atol=1e-5)
    logits = represent_series(classifier, X, output="logits")[-1]
    assert_allclose(logits.points, classifier.source_outputs(X).logits.reshape(36, -1))
    # The classifier itself keeps its perturbation.
    assert np.abs(classifier.perturbation_).max() > 0


def test_representations_are_of_the_kinds_that_they_say(tiny_source):
    X, y = make_series()
    classifier = make_classifier(tiny_source, max_epochs=0).fit(X, y)
    transfer = TransferClassifier(tiny_source, max_epochs=1, random_state=0).fit(X, y)
    with pytest.raises(TypeError, match=r"got TransferClassifier.*as transfer"):
        represent_series(transfer, X)
    with pytest.raises(TypeError, match=r"transfer must be .*, got V2SClassifier"):
        represent_series(classifier, X, transfer=classifier)


# Bad input


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"target": 7}, "target=7 is not a class"),
        ({"method": "lime"}, "method='lime' is not allowed"),
        ({"window": 0}, "window=0 must be a positive int or 'auto'"),
        ({"window": "all"}, "window='all' must be a positive int or 'auto'"),
        ({"stride": 1.5}, "stride=1.5 must be a positive int or 'auto'"),
        ({"window": 3, "stride": 4}, "stride=4 is larger than window=3"),
        ({"scale": "odds"}, "scale='odds' is not allowed: give 'log-odds' or"),
    ],
)
def test_bad_parameters_of_an_attribution(tiny_source, parameters, message):
    X, y = make_series()
    classifier = make_classifier(tiny_source, max_epochs=0).fit(X, y)
    with pytest.raises(ValueError, match=message):
        attribute_series(classifier, X[0], **parameters)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"layer": "nowhere"}, r"layer='nowhere' .* \['conv', 'norm', 'lstm'\]"),
        ({"layer": "output"}, "layer='output' has no activation"),
        ({"perturbation": 2}, "perturbation=2 is not there: .* has 2"),
        ({"perturbation": -1}, "perturbation=-1 is not there"),
        ({"view": "wave"}, "view='wave' cannot be explained"),
        ({"cam": "lime"}, "cam='lime' is not allowed"),
        ({"target": "x"}, "target='x' is not a class"),
    ],
)
def test_bad_parameters_of_an_explanation(tiny_source, parameters, message):
    X, y = make_series()
    classifier = make_classifier(tiny_source, max_epochs=0).fit(X, y)
    with pytest.raises(ValueError, match=message):
        explain_source(classifier, X[0], **parameters)


def test_bad_series_and_estimators(tiny_source):
    X, y = make_series()
    classifier = make_classifier(tiny_source, max_epochs=0).fit(X, y)
    with pytest.raises(ValueError, match=r"series has shape \(3, 1, 24\)"):
        attribute_series(classifier, X[:3, None])
    with pytest.raises(TypeError, match="need a V2SClassifier, got Bump"):
        attribute_series(Bump().fit(), X[0], method="gradient")
    with pytest.raises(TypeError, match="need a V2SClassifier, got Bump"):
        explain_source(Bump().fit(), X[0])
    with pytest.raises(ValueError, match="output='words' is not allowed"):
        represent_series(classifier, X, output="words")
    deaf = V2SClassifier(views="level", max_epochs=0, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="only 'replicas' is reprogrammed"):
        represent_series(deaf, X)
