# SPDX-License-Identifier: Apache-2.0
"""Voice2Series: time series classification by a frozen speech model, for scikit-learn.

`V2SClassifier` learns a sound to add to a series and a way to read what a keyword
recogniser then hears; `V2STransformer` gives the recogniser's outputs as features.
`TransferClassifier` and `FCNClassifier` are neural baselines to compare with.
"""

from importlib.metadata import PackageNotFoundError, version

from sklearn_v2s.baselines import FCNClassifier, TransferClassifier
from sklearn_v2s.classifier import V2SClassifier
from sklearn_v2s.transformer import V2STransformer

try:
    __version__ = version("sklearn-v2s")
except PackageNotFoundError:  # run from a source tree that was not installed
    __version__ = "0+unknown"

__all__ = [
    "FCNClassifier",
    "TransferClassifier",
    "V2SClassifier",
    "V2STransformer",
    "__version__",
]
