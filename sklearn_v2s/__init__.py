# SPDX-License-Identifier: Apache-2.0
"""Voice2Series: time series classification by a frozen speech model, for scikit-learn.

`V2SClassifier` learns a perturbation of the series and a label mapping of what a frozen
keyword recogniser outputs for them; `V2STransformer` gives these outputs as features.
`BlackBoxV2SClassifier` does the first for a recogniser that is only a function.
`TransferClassifier` and `FCNClassifier` are neural baselines to compare with. The
Displays draw figures; `sklearn_v2s.explain` and `sklearn_v2s.alignment` compute them.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from sklearn_v2s.runtime import moved_modules

if TYPE_CHECKING:
    from sklearn_v2s.baselines import FCNClassifier, TransferClassifier
    from sklearn_v2s.black_box import BlackBoxV2SClassifier
    from sklearn_v2s.classifier import V2SClassifier
    from sklearn_v2s.plotting import (
        LabelMappingDisplay,
        SourceEmbeddingDisplay,
        TrainingHistoryDisplay,
        V2SExplanationDisplay,
    )
    from sklearn_v2s.search import V2SClassifierCV
    from sklearn_v2s.transformer import V2STransformer

try:
    __version__ = version("sklearn-v2s")
except PackageNotFoundError:  # run from a source tree that was not installed
    __version__ = "0+unknown"

__all__ = [
    "BlackBoxV2SClassifier",
    "FCNClassifier",
    "LabelMappingDisplay",
    "SourceEmbeddingDisplay",
    "TrainingHistoryDisplay",
    "TransferClassifier",
    "V2SClassifier",
    "V2SClassifierCV",
    "V2SExplanationDisplay",
    "V2STransformer",
    "__version__",
]

# Imported on first use: torch is slow to import, and a command line that lists
# datasets, or a program that draws nothing, need not wait for it.
_MODULES = {
    "BlackBoxV2SClassifier": "black_box",
    "FCNClassifier": "baselines",
    "LabelMappingDisplay": "plotting",
    "SourceEmbeddingDisplay": "plotting",
    "TrainingHistoryDisplay": "plotting",
    "TransferClassifier": "baselines",
    "V2SClassifier": "classifier",
    "V2SClassifierCV": "search",
    "V2SExplanationDisplay": "plotting",
    "V2STransformer": "transformer",
}
_SUBMODULES = {
    "alignment",
    "baselines",
    "benchmark",
    "datasets",
    "explain",
    "label_mapping",
    "plotting",
    "pretraining",
    "sources",
}


moved_modules.install()


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_SUBMODULES})
