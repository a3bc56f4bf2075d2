# SPDX-License-Identifier: Apache-2.0
"""Neural baselines: the source model fine-tuned, and a convolutional net from scratch.

They are what Voice2Series is measured against: whether it pays to change the
weights of the source instead of its input, and whether it pays to have a source at all.
"""

from sklearn_v2s.baselines.fcn import FCNClassifier
from sklearn_v2s.baselines.transfer import TransferClassifier

__all__ = ["FCNClassifier", "TransferClassifier"]
