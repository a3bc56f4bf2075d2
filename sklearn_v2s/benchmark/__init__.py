# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: how settings are chosen and what they reach."""

from sklearn_v2s.benchmark.selection import cross_validate_settings

__all__ = ["cross_validate_settings"]
