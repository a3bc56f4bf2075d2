# SPDX-License-Identifier: Apache-2.0
"""Labelled series: files, folders in UCR layout, aeon's archive, and generators."""

from sklearn_v2s.datasets.files import load_file, load_labels
from sklearn_v2s.datasets.folders import list_datasets, load_dataset
from sklearn_v2s.datasets.generators import (
    make_control_charts,
    make_cylinder_bell_funnel,
)
from sklearn_v2s.datasets.ucr import UCRDataset, find_ucr, list_ucr, load_ucr

__all__ = [
    "UCRDataset",
    "find_ucr",
    "list_datasets",
    "list_ucr",
    "load_dataset",
    "load_file",
    "load_labels",
    "load_ucr",
    "make_control_charts",
    "make_cylinder_bell_funnel",
]
