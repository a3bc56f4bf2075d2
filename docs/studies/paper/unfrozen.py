# SPDX-License-Identifier: Apache-2.0
"""Is the source frozen? Ours is; that of the release of July 2021 was not."""

import hashlib
from typing import Any

import numpy as np
import torch
from torch import nn

from docs.studies.paper.finding import Finding, Table
from sklearn_v2s.classifier import V2SClassifier
from sklearn_v2s.sources.networks.attrnn import AttRNN, count_parameters
from sklearn_v2s.sources.registry import load_source

__all__ = ["examine_freezing", "source_digest"]

# "Trainable params" in the log of 19 July 2021.
_LOGGED = 217_225
_N_RELEASED_CLASSES = 36
_N_SERIES = 24
_N_TIMEPOINTS = 50


def source_digest(source: nn.Module) -> str:
    """Return the SHA-256 of all weights and statistics of a source, bit by bit.

    Parameters
    ----------
    source : nn.Module
        Source model.

    Returns
    -------
    str
        Hexadecimal.
    """
    digest = hashlib.sha256()
    for name, value in sorted(source.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value.detach().cpu().numpy()).tobytes())
    return digest.hexdigest()


def _n_trained(classifier: V2SClassifier) -> int:
    parameters = classifier.net_.get_all_learnable_params()
    return sum(parameter.numel() for _, parameter in parameters)


def examine_freezing(source: Any = "attrnn", epochs: int = 2, seed: int = 0) -> Finding:
    """Fit the paper preset and look at the source before and after.

    Parameters
    ----------
    source : str, path-like or nn.Module, default="attrnn"
        Source model.
    epochs : int, default=2
        Passes over 24 made-up series.
    seed : int, default=0
        Of series and classifier.

    Returns
    -------
    Finding
        Digests of the source, and numbers of trained parameters.
    """
    rng = np.random.default_rng(seed)
    codes = np.arange(_N_SERIES) % 2
    X = rng.normal(size=(_N_SERIES, _N_TIMEPOINTS)) + codes[:, None]
    before = source_digest(load_source(source))
    fitted = {
        n_views: V2SClassifier.from_paper(
            source=source, n_views=n_views, max_epochs=epochs, random_state=seed
        ).fit(X, codes)
        for n_views in (1, 2)
    }
    after = source_digest(fitted[1].model_.reprogrammed.source)
    # Its initial weights must not move torch's global generator.
    with torch.random.fork_rng(devices=[]):
        network = AttRNN(_N_RELEASED_CLASSES)
    n_network = count_parameters(network, single_bias=True)
    n_perturbation = _n_trained(fitted[1])
    return Finding(
        "unfrozen",
        [
            Table(
                f"The source around a fit of {epochs} epochs",
                ["", "SHA-256 of its weights and statistics"],
                [
                    ["before", before],
                    ["after", after],
                    ["bit-identical", "yes" if before == after else "no"],
                ],
            ),
            Table(
                "Trained parameters",
                ["", "perturbation", "network", "sum"],
                [
                    [
                        f"sklearn-v2s, {n_views} perturbation{'s' * (n_views > 1)}",
                        f"{_n_trained(classifier):,}",
                        "0",
                        f"{_n_trained(classifier):,}",
                    ]
                    for n_views, classifier in fitted.items()
                ]
                + [
                    [
                        "release of July 2021, counted",
                        f"{n_perturbation:,}",
                        f"{n_network:,}",
                        f"{n_perturbation + n_network:,}",
                    ],
                    ["release of July 2021, its log", "–", "–", f"{_LOGGED:,}"],
                ],
            ),
        ],
    )
