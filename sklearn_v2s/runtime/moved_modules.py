# SPDX-License-Identifier: Apache-2.0
"""Public modules of 0.1.0 that have moved: importable for one more release."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["MOVED", "install"]

#: Old name to new name.
MOVED = {
    "sklearn_v2s.checkpointing": "sklearn_v2s.training.resume",
    "sklearn_v2s.classifier_cv": "sklearn_v2s.search",
    "sklearn_v2s.devices": "sklearn_v2s.runtime.devices",
    "sklearn_v2s.reprogramming": "sklearn_v2s.perturbation",
    "sklearn_v2s.tensor_file": "sklearn_v2s.runtime.tensor_file",
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
