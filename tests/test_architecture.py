# SPDX-License-Identifier: Apache-2.0
"""The house: imports run downwards only, and no files import each other in a circle."""

import ast
import importlib
import warnings
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import sklearn_v2s
from sklearn_v2s.runtime.moved_modules import MOVED, MOVED_NAMES

ROOT = Path(sklearn_v2s.__file__).parent
#: Rooms from the lowest floor to the highest; those of one line are level.
FLOORS = (
    ("runtime",),
    ("series",),
    ("placement", "datasets"),
    ("sources",),
    ("perturbation",),
    ("views",),
    ("label_mapping",),
    ("training",),
    ("model",),
    ("base", "parameter_effects"),
    ("classifier", "transformer", "baselines", "black_box", "pretraining"),
    ("search",),
    ("explain", "alignment"),
    ("plotting",),
    ("benchmark",),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in ROOT.rglob("*.py")}


def imports_of(path: Path) -> set[str]:
    """Return the modules of the package that a file imports, wherever it does so.

    What only type checkers import is no arrow.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    checked_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in checked_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
    return found & MODULES.keys()


GRAPH = {name: imports_of(path) for name, path in MODULES.items()}


def room_of(name: str) -> str:
    return name.split(".")[1]


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(name) for name in MODULES if "." in name}
    assert rooms == FLOOR.keys()
    assert len(list(ROOT.glob("*.py"))) <= 9


def test_imports_run_downwards() -> None:
    upwards = [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        for other in others
        if "." in name
        and "." in other
        and room_of(name) != room_of(other)
        and FLOOR[room_of(other)] >= FLOOR[room_of(name)]
    ]
    assert not upwards


def test_no_files_import_each_other_in_a_circle() -> None:
    # The package itself holds a version and imports nothing that is not lazy.
    graph = {name: others - {"sklearn_v2s", name} for name, others in GRAPH.items()}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("old", MOVED)
def test_modules_that_moved_are_still_there(old: str) -> None:
    new = importlib.import_module(MOVED[old])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FutureWarning, match=f"{old} has moved to {MOVED[old]}"):
            importlib.import_module(old)
    with pytest.warns(FutureWarning, match="goes with release 0.3"):
        moved = importlib.import_module(old)
    for name in new.__all__:
        assert getattr(moved, name) is getattr(new, name)


@pytest.mark.parametrize(("module", "name"), MOVED_NAMES)
def test_names_that_moved_are_still_there(module: str, name: str) -> None:
    new_module, new_name = MOVED_NAMES[module, name]
    with pytest.warns(FutureWarning, match=f"{name} .*is now {new_module}.{new_name}"):
        moved = getattr(importlib.import_module(module), name)
    assert moved is getattr(importlib.import_module(new_module), new_name)
    with pytest.raises(AttributeError, match="no attribute 'NeverThere'"):
        importlib.import_module(module).NeverThere  # noqa: B018 the access is the test
