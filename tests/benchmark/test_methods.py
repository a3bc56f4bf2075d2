# SPDX-License-Identifier: Apache-2.0
"""Names of methods and what they stand for."""

import sys

import pytest

from sklearn_v2s import V2SClassifier
from sklearn_v2s.benchmark.methods import METHODS, V2S_SETTINGS, resolve_method


@pytest.mark.parametrize("name", V2S_SETTINGS)
def test_v2s_methods_are_the_classifier_with_settings(name: str):
    made = resolve_method(name).make(7, 1)
    expected = V2SClassifier(random_state=7).set_params(**V2S_SETTINGS[name])
    assert made.get_params() == expected.get_params()


def test_paper():
    made = resolve_method("v2s-paper").make(7, 1)
    assert made.get_params() == V2SClassifier.from_paper(random_state=7).get_params()


@pytest.mark.parametrize(
    ("name", "kind", "min_length"),
    [
        ("minirocket", "MiniRocketClassifier", 9),
        ("rocket", "RocketClassifier", 1),
        ("multirocket-hydra", "MultiRocketHydraClassifier", 10),
        ("1nn-dtw", "KNeighborsTimeSeriesClassifier", 1),
    ],
)
def test_peers_have_aeons_defaults(name: str, kind: str, min_length: int):
    pytest.importorskip("aeon", reason="the peers are aeon's")
    method = resolve_method(name)
    made = method.make(7, 2)
    assert type(made).__name__ == kind
    changed = {
        key: value
        for key, value in made.get_params().items()
        if value != type(made)().get_params()[key]
    }
    expected = {"n_jobs": 2, "random_state": 7}
    if name == "1nn-dtw":
        expected = {"n_jobs": 2, "distance_params": {"window": 0.1}}
    assert changed == expected
    assert made.get_params().get("n_neighbors", 1) == 1
    assert method.min_length == min_length
    assert method.uses_seed == (name != "1nn-dtw")


def test_peers_without_aeon(monkeypatch: pytest.MonkeyPatch):
    for name in ("aeon", *(name for name in sys.modules if name.startswith("aeon."))):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'pip install "sklearn-v2s\[benchmark\]"'):
        resolve_method("minirocket").make(0, 1)


def test_a_class_of_the_user():
    made = resolve_method("sklearn.linear_model:LogisticRegression").make(7, 2)
    assert made.random_state == 7
    text = 'sklearn.neighbors:KNeighborsClassifier{"n_neighbors": 3}'
    method = resolve_method(text)
    assert method.name == text
    made = method.make(7, 2)
    assert (made.n_neighbors, made.n_jobs) == (3, 2)
    given = resolve_method('sklearn.dummy:DummyClassifier{"random_state": 1}')
    assert given.make(7, 2).random_state == 1


def test_parameters_of_a_registered_method():
    made = resolve_method('v2s{"max_epochs": 0}').make(7, 1)
    assert (made.max_epochs, made.random_state) == (0, 7)
    with pytest.raises(ValueError, match="Invalid parameter"):
        resolve_method('v2s{"nothing": 0}').make(7, 1)


def test_shuffled_labels():
    for text in ("majority:shuffled-labels", "a:B:shuffled-labels"):
        method = resolve_method(text)
        assert method.name == text
        assert method.shuffled_labels and method.uses_seed
    assert not METHODS["majority"].shuffled_labels
    assert not METHODS["majority"].uses_seed
    assert resolve_method('a:B{"c": 1}:shuffled-labels').shuffled_labels


@pytest.mark.parametrize("text", ["v3s", "", "v2s-", "shuffled-labels"])
def test_unknown_names(text: str):
    with pytest.raises(ValueError, match=r"is unknown; choose among \['1nn-dtw'"):
        resolve_method(text)


@pytest.mark.parametrize("text", ["v2s{", 'v2s{"a": }', "a:B{1}", 'v2s{"a": 1} x'])
def test_parameters_that_are_no_json(text: str):
    with pytest.raises(ValueError, match="are not a JSON object"):
        resolve_method(text)
