# SPDX-License-Identifier: Apache-2.0
"""Files that earlier releases wrote are read, and predict as they did."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sklearn_v2s import V2SClassifier
from tests.old_files import CLASSIFIERS, DATA, checkpointed, outputs_of, series
from tests.test_stored_predictions import TOLERANCE_DOUBLE, TOLERANCE_SINGLE

RELEASES = sorted(path.name for path in DATA.iterdir() if path.is_dir())


@pytest.fixture(params=RELEASES)
def release(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Go to the folder of a release; return what its files predicted."""
    # A source of a relative name is looked for here.
    monkeypatch.chdir(DATA / request.param)
    return json.loads(Path("expected.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_saved_classifier_predicts_as_it_did(
    release: dict[str, Any], name: str
) -> None:
    classifier = V2SClassifier.load(f"{name}.safetensors")
    _, data = CLASSIFIERS[name]
    X_new = data()[2]
    double = classifier.precision == "float64"
    np.testing.assert_allclose(
        classifier.predict_proba(X_new),
        release[name],
        rtol=0,
        atol=TOLERANCE_DOUBLE if double else TOLERANCE_SINGLE,
    )


@pytest.mark.parametrize("name", ["default", "trained", "fine-tuned"])
def test_a_saved_classifier_is_saved_again(
    release: dict[str, Any], name: str, tmp_path: Path
) -> None:
    classifier = V2SClassifier.load(f"{name}.safetensors")
    classifier.save(tmp_path / "again.safetensors")
    again = V2SClassifier.load(tmp_path / "again.safetensors")
    X_new = series()[2]
    np.testing.assert_array_equal(
        again.predict_proba(X_new), classifier.predict_proba(X_new)
    )
    assert again.history_ == classifier.history_


def test_a_training_is_taken_up_again(release: dict[str, Any], tmp_path: Path) -> None:
    from sklearn_v2s.training.resume import fit_with_checkpoints

    for name in ("training.safetensors", "training.state.safetensors"):
        shutil.copy(name, tmp_path)
    X, y, X_new = series()
    path = tmp_path / "training.safetensors"
    resumed = fit_with_checkpoints(checkpointed(), X, y, path, resume=True)
    assert resumed.n_iter_ == 4
    np.testing.assert_allclose(
        resumed.predict_proba(X_new),
        release["training"],
        rtol=0,
        atol=TOLERANCE_DOUBLE,
    )


def test_a_source_checkpoint_is_read(release: dict[str, Any]) -> None:
    logits = outputs_of(Path("source.safetensors"))
    np.testing.assert_allclose(logits, release["source"], rtol=1e-9)


def test_a_pickle_is_read_in_another_process(tmp_path: Path) -> None:
    # A promise within one version only: no pickle of an earlier one is kept.
    X, y, X_new = series()
    make, _ = CLASSIFIERS["trained"]
    classifier = make().fit(X, y)
    files = {name: tmp_path / name for name in ("pickle", "X", "predicted")}
    files["pickle"].write_bytes(pickle.dumps(classifier))
    np.save(files["X"].open("wb"), X_new)
    code = (
        "import pickle, sys, numpy as np\n"
        "classifier = pickle.load(open(sys.argv[1], 'rb'))\n"
        "X = np.load(open(sys.argv[2], 'rb'))\n"
        "np.save(open(sys.argv[3], 'wb'), classifier.predict_proba(X))\n"
    )
    subprocess.run([sys.executable, "-c", code, *map(str, files.values())], check=True)
    np.testing.assert_array_equal(
        np.load(files["predicted"].open("rb")), classifier.predict_proba(X_new)
    )
