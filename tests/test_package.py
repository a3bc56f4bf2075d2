# SPDX-License-Identifier: Apache-2.0
"""The package as a whole: imports, optional extras, what the README says."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sklearn_v2s import V2SClassifier

ROOT = Path(__file__).parent.parent

# Everything that only an extra brings, and what is heavy or opens connections.
OPTIONAL = (
    "torchaudio",
    "h5py",
    "filelock",
    "pooch",
    "matplotlib",
    "aeon",
    "pandas",
    "dask",
)


def run_python(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_import_fit_and_predict_work_without_any_extra():
    run_python(
        f"""
import sys, socket
for name in {OPTIONAL!r}:
    sys.modules[name] = None          # makes `import name` fail
def refuse(*args, **kwargs):
    raise AssertionError("a connection was opened")
socket.socket.connect = refuse
import numpy as np
import sklearn_v2s
X = np.random.default_rng(0).normal(size=(6, 30))
classifier = sklearn_v2s.V2SClassifier(max_epochs=0, n_views=1, random_state=0)
classifier.fit(X, [0, 1, 0, 1, 0, 1]).predict(X)
"""
    )


def test_import_loads_nothing_of_the_extras():
    loaded = run_python(
        "import sys; from sklearn_v2s import V2SClassifier;print(' '.join(sys.modules))"
    ).split()
    # scikit-learn itself imports pandas where it is installed.
    assert not (set(OPTIONAL) - {"pandas"}) & set(loaded)


def test_the_package_loads_its_parts_when_they_are_asked_for():
    printed = run_python(
        "import sys, sklearn_v2s; early = 'torch' in sys.modules;"
        "names = [n for n in sklearn_v2s.__all__ if not hasattr(sklearn_v2s, n)];"
        "parts = [sklearn_v2s.sources, sklearn_v2s.datasets, sklearn_v2s.explain];"
        "print(early, names, set(sklearn_v2s.__all__) <= set(dir(sklearn_v2s)))"
    )
    assert printed.strip() == "False [] True"


def test_import_leaves_the_random_state_of_torch_alone():
    printed = run_python(
        "import torch; torch.manual_seed(3); before = torch.get_rng_state();"
        "from sklearn_v2s import V2SClassifier;"
        "print(torch.equal(before, torch.get_rng_state()))"
    )
    assert printed.strip() == "True"


def test_type_information_is_shipped():
    assert (ROOT / "sklearn_v2s" / "py.typed").is_file()


def test_readme_states_the_defaults_of_the_classifier():
    rows = re.findall(
        r"^\| (`[a-z_0-9`, ]+) \| ([^|]+) \|",
        (ROOT / "README.md").read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    stated = {}
    for names, values in rows:
        names = re.findall(r"`(\w+)`", names)
        values = [value.strip(" `") for value in values.split(",")]
        if len(names) == len(values):
            stated.update(zip(names, values, strict=True))
    signature = inspect.signature(V2SClassifier).parameters
    defaults = {
        name: repr(parameter.default).replace("'", '"')
        for name, parameter in signature.items()
    }
    assert stated == defaults


def test_every_parameter_is_documented():
    documented = re.findall(r"^    (\w+(?:, \w+)*) : ", V2SClassifier.__doc__, re.M)
    names = {name for row in documented for name in row.split(", ")}
    assert set(inspect.signature(V2SClassifier).parameters) <= names


DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md"))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_have_no_gaps_and_no_dead_links(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\bTODO\b|\b[A-Z]+_TABLE\b|\bPARAM:", text)
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_readme_states_the_measured_results():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    results = json.loads((ROOT / "docs/results/demo.json").read_text(encoding="utf-8"))
    for row in results["results"]:
        line = (
            f"| {row['dataset']} | {row['classifier']} | {row['accuracy']:.3f} "
            f"| {row['log_loss']:.3f} |"
        )
        assert line in text
