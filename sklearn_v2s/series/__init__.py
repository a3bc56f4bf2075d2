# SPDX-License-Identifier: Apache-2.0
"""Series as the user gives them: checks, normalisation, weights, and estimators."""

from sklearn_v2s.series.checks import check_series, interpolate_missing
from sklearn_v2s.series.normalization import SeriesNormalizer

__all__ = ["SeriesNormalizer", "check_series", "interpolate_missing"]
