# SPDX-License-Identifier: Apache-2.0
"""Views: the ways in which source models read a series.

The view ``"replicas"`` is the paper's: replicas of the series and a perturbation that
gradient training may change. The others need no training.
"""
