# SPDX-License-Identifier: Apache-2.0
"""Placement: how a series becomes a waveform of the source's length."""

from sklearn_v2s.placement.base import Placement
from sklearn_v2s.placement.replicas import ReplicaPlacement
from sklearn_v2s.placement.tone import TonePlacement

__all__ = ["Placement", "ReplicaPlacement", "TonePlacement"]
