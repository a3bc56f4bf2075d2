# SPDX-License-Identifier: Apache-2.0
"""What a measurement depends on: versions, processor, date."""

import datetime
import os
import platform
from importlib.metadata import version

import torch

__all__ = ["describe_environment"]

_PACKAGES = ("torch", "numpy", "scikit-learn", "skorch")


def describe_environment() -> dict[str, str | int]:
    """Return versions, kind of machine, threads and date, for result files and cards.

    Returns
    -------
    dict of str to str or int
        Plain values without any name of a machine or folder.

    Examples
    --------
    >>> from sklearn_v2s.runtime.environment import describe_environment
    >>> sorted(describe_environment())[:3]
    ['cores', 'date', 'machine']
    """
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
    }
