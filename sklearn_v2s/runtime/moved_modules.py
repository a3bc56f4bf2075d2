# SPDX-License-Identifier: Apache-2.0
"""Public modules and names of 0.1.0 that have moved: there for one more release."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["MOVED", "MOVED_NAMES", "install", "moved_name"]

#: Old module to new module.
MOVED = {
    "sklearn_v2s.checkpointing": "sklearn_v2s.training.resume",
    "sklearn_v2s.classifier_cv": "sklearn_v2s.search",
    "sklearn_v2s.devices": "sklearn_v2s.runtime.devices",
    "sklearn_v2s.label_mapping.groups": "sklearn_v2s.label_mapping",
    "sklearn_v2s.reprogramming": "sklearn_v2s.perturbation",
    "sklearn_v2s.tensor_file": "sklearn_v2s.runtime.tensor_file",
}
#: Module and old name to module and new name, where the module itself stays.
MOVED_NAMES = {
    ("sklearn_v2s.label_mapping", "BaseWordMapping"): (
        "sklearn_v2s.label_mapping",
        "BaseSourceClassMapping",
    ),
    ("sklearn_v2s.label_mapping.base", "BaseWordMapping"): (
        "sklearn_v2s.label_mapping",
        "BaseSourceClassMapping",
    ),
    ("sklearn_v2s.sources.logits", "save_source_logits"): (
        "sklearn_v2s.pretraining.source_logits",
        "save_source_logits",
    ),
}


class _MovedModules(MetaPathFinder, Loader):
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = MOVED[spec.name]
        warnings.warn(
            f"{spec.name} has moved to {new}; the old name goes with release 0.3.",
            FutureWarning,
            stacklevel=2,
        )
        old = ModuleType(spec.name, f"Moved to `{new}`.")
        vars(old).update(
            (name, value)
            for name, value in vars(importlib.import_module(new)).items()
            if not name.startswith("__")
        )
        return old

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the names are there."""


def install() -> None:
    """Make the old names importable."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())


def moved_name(module: str, name: str) -> Any:
    """Return what `name` of a module was: the module's ``__getattr__``.

    Parameters
    ----------
    module, name : str
        Full name of the module, and the attribute that it lacks.

    Returns
    -------
    object
        The attribute under its new name; a FutureWarning says which that is.

    Raises
    ------
    AttributeError
        If the module never had it.

    Examples
    --------
    >>> from sklearn_v2s.runtime.moved_modules import moved_name
    >>> moved_name("sklearn_v2s.label_mapping", "NoMapping")
    Traceback (most recent call last):
        ...
    AttributeError: module 'sklearn_v2s.label_mapping' has no attribute 'NoMapping'
    """
    if (module, name) not in MOVED_NAMES:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    new_module, new_name = MOVED_NAMES[module, name]
    warnings.warn(
        f"{name} of {module} is now {new_module}.{new_name}; the old name goes with "
        "release 0.3.",
        FutureWarning,
        stacklevel=3,
    )
    return getattr(importlib.import_module(new_module), new_name)
