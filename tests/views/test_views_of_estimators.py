# SPDX-License-Identifier: Apache-2.0
"""Classifier and transformer with all views."""

import copy
import pickle
from itertools import permutations

import joblib
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from sklearn_v2s import V2SClassifier, V2STransformer
from sklearn_v2s.label_mapping import LinearLabelMapping
from sklearn_v2s.runtime.tensor_file import (
    TensorFileError,
    read_tensor_file,
    write_tensor_file,
)
from sklearn_v2s.series import interpolate_missing
from sklearn_v2s.sources import (
    FrontEndConfig,
    KernelBankConfig,
    load_source,
    save_checkpoint,
)
from sklearn_v2s.sources.networks.attrnn import build_attrnn
from sklearn_v2s.sources.networks.wavebank import build_wavebank
from sklearn_v2s.views.build import VIEWS
from tests import small
from tests.small import fixed_features, make_series, normalised
from tests.tiny_source import TinySource

ALL = list(VIEWS)
FIXED = ["tone", "wave", "slope", "level"]
WORDS = {"source_output": "logits", "label_mapping": "random"}

each_fixed = pytest.mark.parametrize("view", FIXED)


def build_bank(seed=0):
    """Return a source that takes 512 samples with 14 kernels."""
    config = KernelBankConfig(
        input_length=512, n_kernels=14, n_octaves=3, hop_length=32
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_wavebank(config, ["yes", "no"])


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Return paths of a small AttRNN and of a small WaveBank."""
    folder = tmp_path_factory.mktemp("sources")
    front_end = FrontEndConfig(
        input_length=512, n_fft=64, hop_length=32, pad_left=16, pad_right=16, n_mels=8
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        source = build_attrnn(front_end, [f"word{number}" for number in range(12)])
    paths = folder / "attrnn.safetensors", folder / "bank.safetensors"
    save_checkpoint(paths[0], source, {})
    save_checkpoint(paths[1], build_bank(), {})
    return tuple(map(str, paths))


def make_classifier(**parameters):
    """Return a classifier on tiny sources with all views."""
    setting = {"views": "auto", "max_epochs": 0, "wave_source": build_bank()}
    setting |= parameters
    return small.make_classifier(setting.pop("source", None) or TinySource(), **setting)


def make_transformer(**parameters):
    setting = {
        "tone_source": None,
        "wave_source": build_bank(),
        "random_state": 0,
        "device": "cpu",
    }
    return V2STransformer(TinySource(), **(setting | parameters))


def make_levels(n=30, seed=0):
    """Return series that differ in loudness by class, and in nothing else."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % 2
    return rng.normal(size=(n, 24)) * (1 + 2 * codes)[:, None], codes


# --- which views ---------------------------------------------------------------------


@pytest.mark.parametrize("transforms", [False, True])
@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, VIEWS),
        ({"source_output": "embedding"}, VIEWS),
        ({"source_output": "logits"}, ("replicas",)),
        ({"source_output": "both"}, tuple(ALL)),
        ({"views": ALL, "source_output": "both"}, VIEWS),
        ({"views": "wave"}, ("wave",)),
        ({"views": ("level", "replicas")}, ("replicas", "level")),
    ],
    ids=str,
)
def test_auto_means_all_views_unless_logits_alone_are_read(
    transforms, parameters, expected
):
    X, y = make_series(n=8)
    if transforms:
        fitted = make_transformer(**parameters).fit(X)
    else:
        fitted = make_classifier(**parameters).fit(X, y)
    assert fitted.views_ == expected
    assert fitted.views == parameters.get("views", "auto")


@pytest.mark.parametrize(
    "mapping", ["random", "contiguous", "frequency", "iterative", "bayesian"]
)
@pytest.mark.parametrize("views", ["auto", "replicas", ["replicas"]])
def test_logits_are_read_of_the_replicas_only(mapping, views):
    X, y = make_series()
    fitted = make_classifier(
        label_mapping=mapping, source_output="logits", views=views
    ).fit(X, y)
    assert fitted.views_ == ("replicas",)
    assert fitted.label_mapping_.n_features_in_ == 12


def test_the_order_of_the_list_changes_nothing():
    X, y = make_series()
    expected = make_classifier(views=["replicas", "wave", "level"]).fit(X, y)
    for views in permutations(["level", "replicas", "wave"]):
        for kind in (list, tuple):
            fitted = make_classifier(views=kind(views)).fit(X, y)
            assert fitted.views_ == ("replicas", "wave", "level")
            assert_array_equal(fitted.predict_proba(X), expected.predict_proba(X))
    one = make_classifier(views="wave").fit(X, y).predict_proba(X)
    assert_array_equal(make_classifier(views=["wave"]).fit(X, y).predict_proba(X), one)
    every = make_classifier(views=ALL[::-1]).fit(X, y).predict_proba(X)
    assert_array_equal(make_classifier().fit(X, y).predict_proba(X), every)


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ("loud", r"'views' parameter .*'tone'.*'loud'"),
        (7, r"'views' parameter .*Got 7"),
        (["wave", "loud"], r"views=\['wave', 'loud'\] is not allowed.*'slope'"),
        (["auto"], r"views=\['auto'\] is not allowed"),
        ([], r"views=\[\] is not allowed"),
        ((), r"views=\(\) is not allowed"),
        (["wave", "wave"], r"views=\['wave', 'wave'\] .* different ones"),
        ([3], r"views=\[3\] is not allowed"),
        ([["wave"]], r"views=\[\['wave'\]\] is not allowed"),
    ],
    ids=str,
)
def test_views_that_do_not_exist_are_named(views, message):
    X, y = make_series(n=8)
    for estimator in (make_classifier(views=views), make_transformer(views=views)):
        with pytest.raises(ValueError, match=message):
            estimator.fit(X, y)


@pytest.mark.parametrize("views", ["tone", ["replicas", "level"], ALL])
def test_words_cannot_be_read_of_other_views(views):
    X, y = make_series(n=8)
    classifier = make_classifier(views=views, **WORDS)
    with pytest.raises(
        ValueError, match=r"views=.*label mapping of source classes.*'linear'"
    ):
        classifier.fit(X, y)
    assert not hasattr(classifier, "views_")


def test_training_needs_the_replicas():
    X, y = make_series(n=8)
    for views in ("tone", FIXED):
        with pytest.raises(ValueError, match=r"max_epochs=2 .*views=.* lacks"):
            make_classifier(views=views, max_epochs=2).fit(X, y)


@pytest.mark.parametrize(
    ("source", "name"), [("attrnn", "LogMelFrontEnd"), (TinySource(), "TinySource")]
)
@pytest.mark.parametrize("views", ["auto", "wave", "slope"])
def test_the_wave_source_needs_a_kernel_bank(source, name, views):
    X, y = make_series(n=8)
    classifier = make_classifier(wave_source=source, views=views)
    with pytest.raises(ValueError, match=rf"wave_source .*{name}.*'wavebank'"):
        classifier.fit(X, y)


def test_an_unknown_wave_source_is_an_error_where_it_is_used():
    X, y = make_series(n=8)
    classifier = make_classifier(wave_source="waves")
    with pytest.raises(ValueError, match="unknown source 'waves'"):
        classifier.fit(X, y)
    classifier.set_params(views=["replicas", "tone", "level"]).fit(X, y)
    assert classifier.views_ == ("replicas", "tone", "level")


def test_more_channels_than_the_wave_source_has_samples():
    X = np.random.default_rng(0).normal(size=(4, 600, 2))
    classifier = make_classifier(source="attrnn", views="wave", n_views=1, n_segments=1)
    with pytest.raises(ValueError, match=r"600 channels.*wave_source.*512 samples"):
        classifier.fit(X, [0, 1, 0, 1])


def test_a_failed_fit_leaves_everything_as_it_was():
    X, y = make_series()
    classifier = make_classifier().fit(X, y)
    expected = classifier.predict_proba(X)
    classifier.set_params(views=["wave", "loud"])
    with pytest.raises(ValueError, match="loud"):
        classifier.fit(X, y)
    assert classifier.views_ == VIEWS
    assert_array_equal(classifier.predict_proba(X), expected)


# --- inputs of the source ------------------------------------------------------------


@each_fixed
def test_a_single_view_is_enough(view):
    X, y = make_levels() if view == "level" else make_series()
    # The tiny source is too short for a tone to have a course.
    source = "attrnn" if view == "tone" else None
    fitted = make_classifier(source=source, views=view).fit(X, y)
    fresh, truth = make_levels(seed=1) if view == "level" else make_series(seed=1)
    assert fitted.score(fresh, truth) > 0.7
    assert_allclose(fitted.predict_proba(X).sum(axis=1), 1)
    sizes = fitted.label_mapping_.block_sizes
    assert sum(sizes) == fitted.label_mapping_.n_features_in_
    assert len(sizes) == (4 if view in ("wave", "slope") else 1)


@pytest.mark.parametrize("views", [FIXED, ["replicas", "slope"], ["tone", "wave"]])
def test_some_views_are_enough(views):
    X, y = make_series(n_classes=3)
    fitted = make_classifier(views=views).fit(X, y)
    assert fitted.score(*make_series(n_classes=3, seed=1)) > 0.7


def test_each_view_has_blocks_of_its_own():
    X, y = make_series(n_channels=2)
    fitted = make_classifier().fit(X, y)
    sizes = fitted.label_mapping_.block_sizes
    # Two perturbations, the tone, four kinds of pooled responses twice, the levels.
    assert sizes[:2] == [20, 10]
    assert len(sizes) == 11
    assert sizes[2:6] == sizes[6:10]
    assert sizes[10] == 4


@pytest.mark.parametrize("n_channels", [None, 3])
@pytest.mark.parametrize(
    ("views", "output"),
    [
        ("auto", "embedding"),
        ("auto", "both"),
        (ALL, "both"),
        (ALL, "logits"),
        (FIXED, "embedding"),
        (["level", "replicas"], "embedding"),
        ("slope", "embedding"),
    ],
)
def test_columns_are_as_many_as_their_names(n_channels, views, output):
    X, _ = make_series(n=6, n_channels=n_channels)
    fitted = make_transformer(views=views, source_output=output, n_views=2).fit(X)
    features = fitted.transform(X)
    names = fitted.get_feature_names_out()
    assert features.shape == (6, len(names))
    assert len(set(names)) == len(names)
    assert np.isfinite(features).all()
    # View by view, in the order of views_.
    kinds = [
        "replicas" if name.startswith("view") else name.rstrip("0123456789")
        for name in names
    ]
    assert list(dict.fromkeys(kinds)) == list(fitted.views_)


def test_columns_of_a_view_do_not_depend_on_the_other_views():
    X, _ = make_series(n=6)
    together = make_transformer().fit(X)
    names = together.get_feature_names_out()
    features = together.transform(X)
    for view in VIEWS:
        of_view = make_transformer(views=view).fit(X)
        columns = np.isin(names, of_view.get_feature_names_out())
        assert columns.sum() > 0
        assert_array_equal(features[:, columns], of_view.transform(X))


def test_features_of_a_series_do_not_depend_on_its_batch():
    X, y = make_series()
    fitted = make_classifier(views=["wave", "slope", "level"]).fit(X, y)
    together = fitted.predict_proba(X)
    for rows in ([3], [7, 2, 30], np.arange(36)[::-1]):
        assert_allclose(fitted.predict_proba(X[rows]), together[rows], atol=1e-12)


def test_the_sources_are_bit_identical_after_use(checkpoints):
    X, y = make_series()
    sources = [load_source(path) for path in checkpoints]
    before = [copy.deepcopy(dict(source.state_dict())) for source in sources]
    make_classifier(
        source=checkpoints[0], wave_source=checkpoints[1], max_epochs=1
    ).fit(X, y).predict(X)
    for source, state in zip(sources, before, strict=True):
        for name, tensor in source.state_dict().items():
            assert torch.equal(tensor, state[name]), name


# --- chance --------------------------------------------------------------------------


@pytest.mark.parametrize("views", ["auto", ["wave"], ["slope", "level"]])
@pytest.mark.parametrize("max_epochs", [0, 1])
def test_the_random_state_decides(views, max_epochs):
    if max_epochs and views != "auto":
        max_epochs = 0
    X, y = make_series()
    state = torch.random.get_rng_state()

    def probabilities(seed):
        classifier = make_classifier(
            views=views, max_epochs=max_epochs, random_state=seed
        )
        return classifier.fit(X, y).predict_proba(X)

    assert_array_equal(probabilities(0), probabilities(0))
    assert not np.allclose(probabilities(0), probabilities(1), atol=1e-6)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_random_state_decides_the_features():
    X, _ = make_series()
    features = [
        make_transformer(views="wave", random_state=seed).fit_transform(X)
        for seed in (0, 0, 1)
    ]
    assert_array_equal(features[0], features[1])
    assert (features[0] != features[2]).mean() > 0.1


# --- weights -------------------------------------------------------------------------


@pytest.mark.parametrize("normalization", ["global", "series", None])
@pytest.mark.parametrize("n_channels", [None, 2])
def test_an_integer_weight_is_a_repetition_in_all_views(normalization, n_channels):
    X, y = make_series(n=20, n_channels=n_channels)
    X = X * np.linspace(0.5, 2, 20).reshape(-1, *[1] * (X.ndim - 1))
    weight = np.random.default_rng(0).integers(0, 4, size=20)
    classifier = make_classifier(precision="float64", normalization=normalization)
    weighted = clone(classifier).fit(X, y, sample_weight=weight)
    rows = np.random.default_rng(1).permutation(np.repeat(np.arange(20), weight))
    repeated = clone(classifier).fit(X[rows], y[rows])
    assert weighted.views_ == VIEWS
    for view in ("wave", "slope"):
        assert_allclose(
            weighted.model_.views[view].thresholds,
            repeated.model_.views[view].thresholds,
            atol=1e-12,
        )
    expected = repeated.predict_proba(X)
    assert_allclose(weighted.predict_proba(X), expected, rtol=0, atol=1e-9)
    assert np.ptp(expected, axis=0).min() > 0.1


def test_the_order_of_the_training_series_does_not_matter():
    X, y = make_series()
    order = np.random.default_rng(0).permutation(len(X))
    expected = make_classifier(precision="float64").fit(X, y).predict_proba(X)
    found = make_classifier(precision="float64").fit(X[order], y[order])
    assert_allclose(found.predict_proba(X), expected, rtol=0, atol=1e-9)


# --- files and pickles ---------------------------------------------------------------


def make_kind(kind):
    """Return training data of one kind, with strings as labels."""
    X, y = make_series(n_channels=2 if kind == "channels" else None)
    if kind == "unequal":
        X = [series[: 24 - number % 7] for number, series in enumerate(X)]
    return X, np.array(["down", "up"])[y]


each_kind = pytest.mark.parametrize("kind", ["table", "channels", "unequal"])


@pytest.fixture(scope="module")
def fitted(checkpoints):
    """Return classifiers that must not be changed, by kind of their data."""
    return {
        kind: make_classifier(
            source=checkpoints[0], wave_source=checkpoints[1], max_epochs=epochs
        ).fit(*make_kind(kind))
        for kind, epochs in (("table", 1), ("channels", 0), ("unequal", 0))
    }


def by_joblib(model, folder):
    joblib.dump(model, folder / "model.joblib")
    return joblib.load(folder / "model.joblib")


def by_file(model, folder):
    model.save(folder / "model.safetensors")
    return V2SClassifier.load(folder / "model.safetensors")


@each_kind
@pytest.mark.parametrize(
    "copied",
    [
        by_file,
        by_joblib,
        pytest.param(
            lambda model, folder: pickle.loads(pickle.dumps(model)), id="pickle"
        ),
        pytest.param(lambda model, folder: copy.deepcopy(model), id="deepcopy"),
    ],
)
def test_a_copy_predicts_the_same_bits_in_all_views(fitted, tmp_path, copied, kind):
    X, y = make_kind(kind)
    classifier = fitted[kind]
    restored = copied(classifier, tmp_path)
    assert restored.views_ == VIEWS
    assert_array_equal(restored.classes_, ["down", "up"])
    assert_array_equal(restored.predict_proba(X), classifier.predict_proba(X))
    # Each part of it, not only what the mapping makes of them.
    assert_array_equal(fixed_features(restored, X), fixed_features(classifier, X))
    again = clone(restored).fit(X, y).predict_proba(X)
    assert_array_equal(again, classifier.predict_proba(X))


@pytest.mark.parametrize("views", [["wave"], ["tone", "level"], ["slope", "replicas"]])
def test_a_file_keeps_some_views(checkpoints, tmp_path, views):
    X, y = make_series()
    classifier = make_classifier(
        source=checkpoints[0], wave_source=checkpoints[1], views=views
    ).fit(X, y)
    restored = by_file(classifier, tmp_path)
    assert restored.views == views
    assert restored.views_ == classifier.views_
    assert_array_equal(restored.predict_proba(X), classifier.predict_proba(X))


def test_a_transformer_survives_a_pickle():
    X, _ = make_series(n=8)
    transformer = make_transformer().fit(X)
    restored = pickle.loads(pickle.dumps(transformer))
    assert_array_equal(restored.transform(X), transformer.transform(X))


def test_a_loaded_classifier_can_be_trained_further(fitted, tmp_path):
    X, y = make_kind("table")
    restored = by_file(fitted["table"], tmp_path)
    before = restored.perturbation_.copy()
    restored.partial_fit(X, y)
    assert (restored.perturbation_ != before).any()
    assert restored.score(X, y) > 0.7


def test_a_loaded_classifier_can_be_fitted_to_series_of_another_kind(
    checkpoints, tmp_path
):
    X, y = make_series()
    classifier = make_classifier(
        source=checkpoints[0],
        wave_source=checkpoints[1],
        label_mapping=LinearLabelMapping(alphas=[1.0, 10.0]),
    ).fit(X, y)
    restored = by_file(classifier, tmp_path)
    assert restored.label_mapping.block_sizes is None
    assert restored.label_mapping.alphas == [1.0, 10.0]
    assert_array_equal(restored.predict_proba(X), classifier.predict_proba(X))
    # Longer series, more features.
    X, y = make_series(n_timepoints=60)
    expected = classifier.fit(X, y).predict_proba(X)
    assert_array_equal(restored.fit(X, y).predict_proba(X), expected)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda t: t.pop("view/wave/thresholds"), id="no thresholds"),
        pytest.param(lambda t: t.pop("view/level/differs"), id="no levels"),
        pytest.param(
            lambda t: t.update(
                {"view/slope/thresholds": t["view/slope/thresholds"][:, :1]}
            ),
            id="a dilation is missing",
        ),
        pytest.param(
            lambda t: t.update(
                {"view/wave/thresholds": t["view/wave/thresholds"][..., :1]}
            ),
            id="kernels are missing",
        ),
        pytest.param(
            lambda t: t.update({"view/level/differs": np.ones(4, dtype=bool)}),
            id="levels of more channels",
        ),
        pytest.param(
            lambda t: t.update({"view/smell/nose": np.ones(4)}), id="unknown view"
        ),
    ],
)
def test_a_file_whose_views_do_not_fit_is_a_clear_error(fitted, tmp_path, change):
    path = tmp_path / "model.safetensors"
    fitted["table"].save(path)
    tensors, header, _ = read_tensor_file(path)
    assert "view/wave/thresholds" in tensors
    change(tensors)
    write_tensor_file(path, tensors, header)
    with pytest.raises(TensorFileError, match=r"this version of sklearn-v2s cannot"):
        V2SClassifier.load(path)


def test_a_changed_byte_of_the_thresholds_is_an_error(fitted, tmp_path):
    path = tmp_path / "model.safetensors"
    fitted["table"].save(path)
    tensors, _, _ = read_tensor_file(path)
    content = bytearray(path.read_bytes())
    position = content.find(tensors["view/wave/thresholds"].tobytes())
    assert position > 0
    content[position + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(TensorFileError, match="is not an intact"):
        V2SClassifier.load(path)


def test_a_pickle_holds_nothing_of_either_source(fitted, checkpoints):
    content = pickle.dumps(fitted["table"])
    for path in checkpoints:
        for name, tensor in load_source(path).state_dict().items():
            weights = tensor.numpy().tobytes()
            # Shorter ones are zeros and ones as they are found anywhere.
            if tensor.is_floating_point() and tensor.unique().numel() > 20:
                assert weights[:64] not in content, name


def test_a_wave_source_without_a_checkpoint_cannot_be_saved(checkpoints, tmp_path):
    X, y = make_series()
    classifier = make_classifier(source=checkpoints[0]).fit(X, y)
    with pytest.raises(ValueError, match="did not come from a checkpoint"):
        classifier.save(tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


# --- training ------------------------------------------------------------------------


def test_training_makes_the_loss_smaller_and_uses_all_views():
    X, y = make_series(n=60)
    fitted = make_classifier(max_epochs=2, lr=0.01, dropout=0.0).fit(X, y)
    assert fitted.history_[-1]["train_loss"] < fitted.history_[0]["train_loss"]
    untrained = make_classifier().fit(X, y)
    assert (fitted.perturbation_ != untrained.perturbation_).any()
    # What needs no training is what it was.
    series, features = normalised(fitted, X), fixed_features(fitted, X)
    assert_array_equal(features, fixed_features(untrained, X))
    assert fitted.label_mapping_.n_features_in_ == 20 + features.shape[1]
    # Without what they say, the answers are others.
    module = fitted.model_.target_module()
    replicas, fixed = torch.from_numpy(series).float(), torch.from_numpy(features)
    with torch.no_grad():
        probabilities = module(replicas, fixed).exp()
        silenced = module(replicas, torch.zeros_like(fixed)).exp()
    assert_allclose(probabilities, fitted.predict_proba(X), rtol=0, atol=1e-4)
    assert (probabilities - silenced).abs().max() > 0.05


@pytest.mark.parametrize("views", ["auto", FIXED, "level"])
def test_partial_fit_goes_on_by_gradient(views):
    X, y = make_levels()
    classifier = make_classifier(views=views, lr=0.05, batch_size=8)
    classifier.partial_fit(X[:20], y[:20])
    thresholds = {name: view.arrays() for name, view in classifier.model_.views.items()}
    assert classifier.score(X, y) > 0.8
    # From now on all is the other way round.
    for _ in range(25):
        classifier.partial_fit(X, 1 - y)
    losses = [row["train_loss"] for row in classifier.history_]
    assert len(losses) == 26
    assert losses[-1] < losses[1] / 4
    assert classifier.score(X, 1 - y) > 0.8
    for name, view in classifier.model_.views.items():
        for key, value in view.arrays().items():
            assert_array_equal(value, thresholds[name][key])
    # Prediction says what the trained module says.
    series = normalised(classifier, X)
    fixed = torch.from_numpy(fixed_features(classifier, X))
    with torch.no_grad():
        found = classifier.model_.target_module()(
            torch.from_numpy(series).float(), fixed
        )
    assert_allclose(found.exp(), classifier.predict_proba(X), rtol=0, atol=1e-5)


def test_early_stopping_uses_all_views():
    X, y = make_series(n=40)
    fitted = make_classifier(max_epochs=3, early_stopping=True).fit(X, y)
    assert all("valid_loss" in row for row in fitted.history_)
    assert fitted.score(X, y) > 0.8


def test_a_warm_start_keeps_the_views_and_goes_on_from_the_perturbation():
    X, y = make_series(n=40)
    classifier = make_classifier(warm_start=True, max_epochs=1).fit(X[:20], y[:20])
    first = classifier.perturbation_
    views = classifier.model_.views
    expected = {name: view.arrays() for name, view in views.items()}
    classifier.set_params(max_epochs=0).fit(X, y)
    assert_array_equal(classifier.perturbation_, first)
    assert classifier.views_ == VIEWS
    for name, view in classifier.model_.views.items():
        for key, value in view.arrays().items():
            assert_array_equal(value, expected[name][key])
    assert classifier.score(X, y) > 0.8
    classifier.set_params(max_epochs=1).fit(X, y)
    assert (classifier.perturbation_ != first).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views": ["replicas", "tone"]}, r"warm_start=True .*'slope'.* now means"),
        ({"views": "auto"} | WORDS, r"warm_start=True .*views='auto' now means"),
        ({"views": ALL} | WORDS, r"views=.* label mapping of source classes"),
    ],
    ids=["fewer", "words", "all, but words"],
)
def test_a_warm_start_cannot_change_the_views(changes, message):
    X, y = make_series()
    classifier = make_classifier(warm_start=True).fit(X, y)
    expected = classifier.predict_proba(X)
    before = classifier.get_params()
    classifier.set_params(**changes)
    with pytest.raises(ValueError, match=message):
        classifier.fit(X, y)
    classifier.set_params(**{name: before[name] for name in changes})
    assert_array_equal(classifier.predict_proba(X), expected)
    # The same views, said otherwise, are no change.
    same = make_classifier(warm_start=True).fit(X, y)
    same.set_params(views=ALL[::-1]).fit(X, y)
    assert same.views_ == VIEWS


# --- scikit-learn --------------------------------------------------------------------


@pytest.mark.slow  # two processes import torch
def test_a_grid_over_views_gives_the_same_in_several_processes():
    X, y = make_series(n=24)
    grid = {"views": [["wave"], "auto", "replicas"]}
    searches = [
        GridSearchCV(
            make_classifier(), grid, cv=2, n_jobs=n_jobs, scoring="neg_log_loss"
        ).fit(X, y)
        for n_jobs in (1, 2)
    ]
    one, two = searches
    assert_array_equal(
        two.cv_results_["mean_test_score"], one.cv_results_["mean_test_score"]
    )
    assert len(set(one.cv_results_["mean_test_score"])) == 3
    assert two.best_params_ == one.best_params_
    assert_array_equal(two.predict_proba(X), one.predict_proba(X))


def test_views_survive_clone_and_stay_what_the_user_gave():
    views = ["slope", "replicas"]
    classifier = make_classifier(views=views)
    copied = clone(classifier)
    assert copied.views == ["slope", "replicas"]
    copied.fit(*make_series())
    assert copied.get_params()["views"] == ["slope", "replicas"]
    assert views == ["slope", "replicas"]


# --- data at the edge ----------------------------------------------------------------


def test_a_class_may_have_one_sample():
    X, y = make_series(n=21)
    y[7] = 2
    fitted = make_classifier().fit(X, y)
    probabilities = fitted.predict_proba(X)
    assert probabilities.shape == (21, 3)
    assert np.isfinite(probabilities).all()
    assert_array_equal(fitted.classes_, [0, 1, 2])


def test_two_series_are_enough():
    X, _ = make_series(n=2)
    fitted = make_classifier().fit(X, ["a", "b"])
    assert np.isfinite(fitted.predict_proba(X)).all()


@pytest.mark.parametrize("n_timepoints", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("n_channels", [None, 2])
def test_short_series(n_timepoints, n_channels):
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    shape = (40, n_timepoints) if n_channels is None else (40, 2, n_timepoints)
    X = rng.normal(size=shape)
    X[..., 0] += 3.0 * y.reshape(-1, *[1] * (X.ndim - 2))
    fitted = make_classifier(n_segments="auto").fit(X, y)
    assert fitted.score(X, y) > 0.7
    assert fixed_features(fitted, X).shape[0] == 40


def test_very_long_series_are_resampled_with_a_warning():
    rng = np.random.default_rng(0)
    y = np.arange(12) % 2
    time = np.linspace(0, 1, 20_000)
    X = np.sin((4 + 5 * y)[:, None] * 2 * np.pi * time)
    X += 0.3 * rng.normal(size=X.shape)
    with pytest.warns(UserWarning, match="20000 time points.* resampled to 400"):
        fitted = make_classifier(n_segments="auto").fit(X, y)
    assert_array_equal(fitted.predict(X), y)


def test_constant_series_among_others():
    X, y = make_series()
    X[:6] = np.array([0.0, 0.1, -3.0, 1e3, 1 / 3, 7.0])[:, None]
    fitted = make_classifier(normalization="series").fit(X, y)
    probabilities = fitted.predict_proba(X)
    assert np.isfinite(probabilities).all()
    # Series by series, all constants are the same.
    assert_allclose(probabilities[:6], probabilities[[0] * 6], rtol=0, atol=1e-6)
    assert fitted.score(X[6:], y[6:]) > 0.7


def test_nothing_but_constant_series_say_nothing():
    X = np.full((10, 24), 0.1)
    probabilities = make_classifier().fit(X, np.arange(10) % 2).predict_proba(X)
    assert_allclose(probabilities, 0.5, rtol=0, atol=1e-3)


def test_levels_of_constant_series_are_features():
    rng = np.random.default_rng(0)
    y = np.arange(20) % 2
    X = np.repeat(y[:, None] + 0.1 * rng.normal(size=(20, 1)), 24, axis=1)
    assert make_classifier().fit(X, y).score(X, y) == 1
    assert make_classifier(views="level").fit(X, y).score(X, y) == 1
    flat = make_classifier(views="slope").fit(X, y).predict_proba(X)
    assert_allclose(flat, 0.5, rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", ["channels", "unequal"])
def test_channels_and_unequal_lengths_in_all_views(kind):
    X, y = make_kind(kind)
    fitted = make_classifier().fit(X, y)
    assert fitted.views_ == VIEWS
    assert fitted.score(X, y) > 0.8
    assert fitted.unequal_length_ == (kind == "unequal")
    if kind == "unequal":
        # One by one, with nothing to be padded to.
        one_by_one = [fitted.predict_proba([series])[0] for series in X[:5]]
        assert_allclose(one_by_one, fitted.predict_proba(X)[:5], rtol=0, atol=1e-6)


def test_missing_values_are_interpolated_in_all_views():
    X, y = make_series()
    holes = X.copy()
    holes[::3, 5] = np.nan
    filled = interpolate_missing(holes[:, None])[:, 0]
    assert not np.isnan(filled).any()
    expected = make_classifier(precision="float64").fit(filled, y).predict_proba(filled)
    found = make_classifier(missing="interpolate", precision="float64").fit(holes, y)
    assert_allclose(found.predict_proba(holes), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("view", ["wave", "level"])
def test_values_that_no_view_can_represent_are_an_error(view):
    X, y = make_series()
    fitted = make_classifier(views=view, normalization=None).fit(X, y)
    with pytest.raises(ValueError, match=f"the view '{view}' gave NaN or infinity"):
        fitted.predict(np.full_like(X, 1e39))


def test_features_of_the_transformer_feed_another_classifier():
    X, y = make_series(n=40)
    features = make_transformer().fit(X[:20]).transform(X)
    features = (features - features[:20].mean(0)) / (features[:20].std(0) + 1e-9)
    model = LogisticRegression(max_iter=500).fit(features[:20], y[:20])
    assert model.score(features[20:], y[20:]) > 0.8
