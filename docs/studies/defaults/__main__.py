# SPDX-License-Identifier: Apache-2.0
"""Which settings should be the defaults?

Cross-validates the settings that the defaults of `V2SClassifier` were chosen among, on
the training parts of datasets in UCR layout; test parts are not opened. ::

    python -m docs.studies.defaults --data ../shared/ucr

Writes `defaults.csv`, row by row; rows that are there already are kept.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from sklearn_v2s.benchmark.selection import cross_validate_settings, summarise

#: By name; everything else is as by default.
CANDIDATES: dict[str, dict[str, Any]] = {
    "default": {},
    "quick mode": {"max_epochs": 0},
    "0.1.0": {
        "source": "attrnn",
        "source_output": "embedding",
        "max_epochs": 0,
    },
    "no cross-fitting": {"cross_fit": 1},
    "no cross-fitting, lr 0.003": {"cross_fit": 1, "lr": 0.003},
    "4 parts": {"cross_fit": 4},
    "attrnn, quick mode": {"source": "attrnn", "max_epochs": 0},
    "embedding, quick mode": {"source_output": "embedding", "max_epochs": 0},
    "attrnn": {"source": "attrnn"},
    "embedding": {"source_output": "embedding"},
    "no dropout": {"dropout": 0.0},
    "dropout 0.5": {"dropout": 0.5},
    "lr 0.003": {"lr": 0.003},
    "lr 0.03": {"lr": 0.03},
    "2 perturbations": {"n_views": 2},
    "4 perturbations": {"n_views": 4},
    "2 perturbations, quick mode": {"n_views": 2, "max_epochs": 0},
    "4 perturbations, quick mode": {"n_views": 4, "max_epochs": 0},
    "replicas": {"views": "replicas"},
    "replicas, quick mode": {"views": "replicas", "max_epochs": 0},
    "replicas, embedding": {"views": "replicas", "source_output": "embedding"},
    "replicas, embedding, quick mode": {
        "views": "replicas",
        "source_output": "embedding",
        "max_epochs": 0,
    },
    "replicas, logits": {"views": "replicas", "source_output": "logits"},
    "replicas, logits, quick mode": {
        "views": "replicas",
        "source_output": "logits",
        "max_epochs": 0,
    },
    "replicas, logits, untrained source": {
        "source": "tc-resnet:untrained",
        "views": "replicas",
        "source_output": "logits",
    },
    "replicas, embedding, untrained source": {
        "source": "tc-resnet:untrained",
        "views": "replicas",
        "source_output": "embedding",
    },
    "tone": {"views": "tone"},
    "replicas, tone": {"views": ["replicas", "tone"]},
    "wave": {"views": "wave"},
    "wave, slope": {"views": ["wave", "slope"]},
    "no replicas": {"views": ["tone", "wave", "slope", "level"]},
    "no tone": {"views": ["replicas", "wave", "slope", "level"]},
    "perturbation zero": {"init_scale": 0.0},
    "untrained tc-resnet": {"source": "tc-resnet:untrained"},
    "untrained wavebank": {"wave_source": "wavebank:untrained"},
    "untrained sources": {
        "source": "tc-resnet:untrained",
        "tone_source": "attrnn:untrained",
        "wave_source": "wavebank:untrained",
    },
    # The method of the paper: one perturbation, logits, a mapping of source classes.
    **{
        f"{mapping} mapping, {source}, lr {lr}, dropout {dropout}": {
            "source": source,
            "source_output": "logits",
            "label_mapping": mapping,
            "lr": lr,
            "dropout": dropout,
        }
        for source in ("attrnn", "tc-resnet")
        for mapping in ("random", "frequency")
        for lr in (0.01, 0.03)
        for dropout in (0.0, 0.2)
    },
}


def main(arguments: list[str] | None = None) -> int:
    """Run the study."""
    parser = argparse.ArgumentParser("python -m docs.studies.defaults")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).with_name("defaults.csv"),
        metavar="FILE.csv",
    )
    parser.add_argument("--datasets", nargs="+", default=[], metavar="NAME")
    parser.add_argument(
        "--settings", nargs="+", default=list(CANDIDATES), choices=list(CANDIDATES)
    )
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="threads of torch")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    rows = cross_validate_settings(
        {name: CANDIDATES[name] for name in options.settings},
        options.data,
        options.output,
        datasets=options.datasets,
        n_folds=options.folds,
        seed=options.seed,
    )
    print(summarise(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
