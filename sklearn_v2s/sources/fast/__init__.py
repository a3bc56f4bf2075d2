# SPDX-License-Identifier: Apache-2.0
"""Fast forms of frozen layers, behind one interface; each has a plain form in torch.

`shared_spectrogram_for` is the front end of placed series without repeated work, and
within `compiled_layers` the layers of `sklearn_v2s.sources.networks` run as compiled
code where `takes_compiled_form` holds.
"""

from sklearn_v2s.sources.fast.compiled import compiled_layers, takes_compiled_form
from sklearn_v2s.sources.fast.shared_spectrogram import (
    SharedSpectrogram,
    shared_spectrogram_for,
)

__all__ = [
    "SharedSpectrogram",
    "compiled_layers",
    "shared_spectrogram_for",
    "takes_compiled_form",
]
