# SPDX-License-Identifier: Apache-2.0
"""The speed benchmark: what things cost, beside what they would cost otherwise.

Each family of measures is a module with a function ``measures(setting)``. Both sides
of a comparison run in the same process, in turns, after a warm-up; a row has the
medians.
"""

from sklearn_v2s.benchmark.speed.command import FAMILIES, run_speed
from sklearn_v2s.benchmark.speed.measure import COLUMNS

__all__ = ["COLUMNS", "FAMILIES", "run_speed"]
