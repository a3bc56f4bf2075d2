# SPDX-License-Identifier: Apache-2.0
"""No parameter is ignored in silence: the table, row by row and in both ways."""

import inspect
import warnings

import numpy as np
import pytest
from skorch.callbacks import Callback

from sklearn_v2s import V2SClassifier, V2SClassifierCV, V2STransformer
from sklearn_v2s.label_mapping import LinearLabelMapping
from sklearn_v2s.parameter_effects import EFFECTS
from tests.small import make_series

X, Y = make_series(n=12)

LEVEL = {"views": "level"}
TONE = {"views": "tone"}
WAVE = {"views": "wave"}
QUICK = {"views": "replicas", "max_epochs": 0}
TRAINED = {"views": "replicas", "max_epochs": 1}
WORDS = {"source_output": "logits", "label_mapping": "frequency", "max_epochs": 0}
BAYESIAN = WORDS | {"label_mapping": "bayesian"}
ONCE = TRAINED | {"cross_fit": 1}
STOPPED = ONCE | {"early_stopping": True}
FINE_TUNED = TRAINED | {"fine_tune": True}
INSTANCE = QUICK | {"label_mapping": LinearLabelMapping()}


class Counter(Callback):
    n_epochs = 0

    def on_epoch_end(self, net, **kwargs):
        self.n_epochs += 1


def row_of(name, beginning=""):
    """Return the only row of the table that has a parameter, and this reason."""
    (row,) = [
        row
        for row, effect in enumerate(EFFECTS)
        if name in effect.names and effect.why_not.startswith(beginning)
    ]
    return row


#: Row of the table, parameter, a value of it, where it is idle, and where it acts.
TABLE = [
    *(
        (row_of(name), name, value, idle, acts)
        for name, value, idle, acts in [
            ("source", "attrnn", LEVEL, QUICK),
            ("source", "attrnn", TONE, TONE | {"tone_source": None}),
            ("source", "attrnn", WAVE, QUICK | {"views": ["replicas", "level"]}),
            ("tone_source", None, QUICK, TONE),
            ("wave_source", "wavebank:untrained", QUICK, WAVE),
            ("wave_source", "wavebank:untrained", TONE, {"views": "slope"}),
            ("source_output", "embedding", LEVEL, QUICK),
            ("source_output", "logits", WAVE, TONE),
            ("n_views", 2, LEVEL, QUICK),
            ("n_segments", 2, TONE, QUICK),
            ("input_gain", 0.5, WAVE, QUICK),
            ("init_scale", 0.2, LEVEL, QUICK),
            ("mask", True, LEVEL, QUICK),
            ("mask", True, QUICK | {"init_scale": 0.0}, TRAINED | {"init_scale": 0.0}),
            ("dropout", 0.4, QUICK, TRAINED),
            ("dropout", 0.0, LEVEL, TRAINED),
            ("train_gain", True, QUICK, TRAINED),
            ("batch_size", 8, QUICK, ONCE),
            ("lr", 0.05, QUICK, TRAINED),
            ("lr_schedule", "constant", QUICK, TRAINED | {"max_epochs": 2}),
            ("l2", 0.1, QUICK, TRAINED),
            ("fine_tune", True, LEVEL, TRAINED),
            ("early_stopping", True, QUICK, TRAINED),
            ("callbacks", [Counter()], QUICK, ONCE),
            ("cross_fit", 3, QUICK, TRAINED),
            ("cross_fit", 1, FINE_TUNED, TRAINED),
            ("cross_fit", 1, WORDS | {"max_epochs": 1}, TRAINED),
            ("validation_fraction", 0.3, TRAINED, STOPPED),
            ("validation_fraction", 0.3, QUICK, STOPPED),
            ("n_iter_no_change", 3, TRAINED, STOPPED),
            ("source_lr", 0.01, TRAINED, FINE_TUNED),
        ]
    ),
    (row_of("mapping_size", "label_mapping is"), "mapping_size", 2, INSTANCE, QUICK),
    (row_of("mapping_size", "label_mapping='b"), "mapping_size", 2, BAYESIAN, WORDS),
    (row_of("mapping_size", "the view"), "mapping_size", 2, LEVEL, QUICK),
]
#: Parameters that act in every setting.
ALWAYS = {
    "views", "label_mapping", "max_epochs", "class_weight", "warm_start",
    "normalization", "missing", "precision", "device", "memory", "random_state",
    "verbose",
}  # fmt: skip

each_row = pytest.mark.parametrize(("row", "name", "value", "idle", "acts"), TABLE)


def said(estimator, *data):
    """Return what `fit` says of parameters without an effect."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        estimator.fit(*data)
    assert {warning.category for warning in seen} <= {UserWarning}
    return [str(each.message) for each in seen if " no effect: " in str(each.message)]


@each_row
def test_an_idle_parameter_is_named_once_with_the_remedy(row, name, value, idle, acts):
    setting = {"random_state": 0} | idle
    assert said(V2SClassifier(**setting), X, Y) == []
    (text,) = said(V2SClassifier(**setting | {name: value}), X, Y)
    effect = EFFECTS[row]
    assert text.startswith(f"{name} has no effect: {effect.why_not}. ")
    assert text.endswith(f"To give it one, {effect.remedy}.")
    # The warning tells the truth.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain, other = (
            V2SClassifier(**setting | changed).fit(X, Y).predict_proba(X)
            for changed in ({}, {name: value})
        )
    np.testing.assert_array_equal(plain, other)


@each_row
def test_a_parameter_that_acts_is_not_warned_of(row, name, value, idle, acts):
    setting = {"random_state": 0} | acts
    assert said(V2SClassifier(**setting | {name: value}), X, Y) == []
    plain, other = (
        V2SClassifier(**setting | changed).fit(X, Y) for changed in ({}, {name: value})
    )
    if name == "callbacks":
        assert value[0].n_epochs == 2  # of two fits
    elif name != "n_iter_no_change":
        # Which one epoch cannot show; test_training_course.py does.
        assert not np.array_equal(plain.predict_proba(X), other.predict_proba(X))


def test_every_row_is_tested():
    of_table = {
        (row, name) for row, effect in enumerate(EFFECTS) for name in effect.names
    }
    assert {(row, name) for row, name, *_ in TABLE} == of_table


def test_every_parameter_is_in_the_table_or_acts_always():
    in_table = {name for effect in EFFECTS for name in effect.names}
    assert not in_table & ALWAYS
    assert in_table | ALWAYS == set(V2SClassifier().get_params())
    assert set(V2STransformer().get_params()) <= in_table | ALWAYS


def test_the_defaults_say_nothing():
    assert said(V2SClassifier(max_epochs=0, random_state=0), X, Y) == []
    assert said(V2STransformer(random_state=0), X) == []


def test_several_of_one_row_are_one_warning():
    setting = QUICK | {"lr": 0.3, "dropout": 0.1, "validation_fraction": 0.2}
    first, second = said(V2SClassifier(**setting), X, Y)
    assert first.startswith("dropout, lr have no effect: ")
    assert "To give them one, set max_epochs=" in first
    assert second.startswith("validation_fraction has no effect: ")


def test_a_default_that_is_written_out_says_nothing():
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(V2SClassifier).parameters.items()
    }
    assert said(V2SClassifier(**defaults | LEVEL), X, Y) == []


OF_TRANSFORMER = [
    case
    for case in TABLE
    if case[1] in V2STransformer().get_params() and case[3] is not QUICK
]


@pytest.mark.parametrize(("row", "name", "value", "idle", "acts"), OF_TRANSFORMER)
def test_the_transformer_says_it_too(row, name, value, idle, acts):
    known = V2STransformer().get_params()
    idle, acts = (
        {key: setting[key] for key in setting if key in known}
        for setting in (idle, acts)
    )
    (text,) = said(V2STransformer(**idle | {name: value}), X)
    assert text.startswith(f"{name} has no effect: {EFFECTS[row].why_not}. ")
    assert said(V2STransformer(**acts | {name: value}), X) == []


# --- searches ------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["grid search", "own search"])
def test_a_search_says_it_once(how):
    from sklearn.model_selection import GridSearchCV

    classifier = V2SClassifier(**QUICK, random_state=0)
    search = (
        GridSearchCV(classifier, {"dropout": [0.1, 0.3]}, cv=2)
        if how == "grid search"
        else V2SClassifierCV(classifier, dropout=[0.1, 0.3], cv=2)
    )
    (text,) = said(search, X, Y)
    assert text.startswith("dropout has no effect: nothing is trained")
    # And once more in the next search.
    assert said(search, X, Y) == [text]


# --- parameters that act always ------------------------------------------------------


def scores(**parameters):
    setting = QUICK | {"random_state": 0} | parameters
    return V2SClassifier(**setting).fit(X, Y).predict_proba(X)


@pytest.mark.parametrize(
    "changed",
    [
        {"views": "level"},
        {"label_mapping": LinearLabelMapping(alphas=1e6)},
        {"max_epochs": 1},
        {"class_weight": {0: 1, 1: 5}},
        {"normalization": "series"},
        {"precision": "float64"},
        {"random_state": 1},
    ],
    ids=str,
)
def test_it_changes_the_scores(changed):
    assert not np.array_equal(scores(), scores(**changed))


def test_it_lets_values_be_missing():
    missing = X.copy()
    missing[0, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        V2SClassifier(**LEVEL).fit(missing, Y)
    V2SClassifier(**LEVEL, missing="interpolate").fit(missing, Y)


def test_it_goes_on_from_the_previous_fit():
    anew, goes_on = (
        V2SClassifier(**TRAINED, random_state=0, warm_start=warm).fit(X, Y).fit(X, Y)
        for warm in (False, True)
    )
    assert not np.array_equal(anew.perturbation_, goes_on.perturbation_)


def test_it_keeps_source_outputs(tmp_path):
    V2SClassifier(**QUICK, memory=str(tmp_path)).fit(X, Y)
    assert list(tmp_path.rglob("*.pkl"))


def test_it_shows_a_bar(capsys):
    V2SClassifier(**TRAINED, verbose=1).fit(X, Y)
    assert capsys.readouterr().err


def test_it_computes_where_it_is_told():
    with pytest.raises(ValueError, match="device"):
        V2SClassifier(**LEVEL, device="cuda:99").fit(X, Y)
