# SPDX-License-Identifier: Apache-2.0
"""The learned perturbation, and the source model that it reprograms."""

from sklearn_v2s.perturbation.perturbation import Perturbation
from sklearn_v2s.perturbation.reprogrammed_source import (
    ReprogrammedSource,
    collect_outputs,
)

__all__ = ["Perturbation", "ReprogrammedSource", "collect_outputs"]
