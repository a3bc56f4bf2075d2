# SPDX-License-Identifier: Apache-2.0
"""The command ``v2s train``."""

import argparse
import inspect
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn_v2s.cli.data import (
    DATA_HELP,
    add_data_options,
    add_labels,
    add_quiet,
    read_data,
)
from sklearn_v2s.cli.help import HelpFormatter
from sklearn_v2s.cli.models import predict_proba
from sklearn_v2s.cli.parameters import (
    MODES,
    NETS,
    add_parameters,
    given_parameters,
)

if TYPE_CHECKING:
    from sklearn_v2s.classifier import V2SClassifier

__all__ = ["fill_train"]

# Parameters without any effect where no gradient is taken.
_OF_TRAINING = (
    "dropout",
    "l2",
    "train_gain",
    "batch_size",
    "lr",
    "lr_schedule",
    "fine_tune",
    "source_lr",
    "early_stopping",
    "validation_fraction",
    "n_iter_no_change",
)

_EPILOG = """\
tables:
  .csv, .tsv and two-dimensional .npy files hold a label and a series in each row, as
  the UCR archive does; with --labels FILE they hold series only. Three-dimensional
  .npy files (series, channels, time points) need --labels.

checkpoints:
  With --checkpoint-every N the classifier is written after each N epochs, together with
  NAME.state.safetensors, from which the same command with --resume continues: it gives
  the same numbers as a training that was never interrupted.

the original command line:
  --dataset, --net, --mapping, --seg, --eps, --per and --dr (in tenths) mean what they
  meant there. --mod implies the preset 'paper' unless --preset is given: 0 one
  source class for each target class, 1 many, 2 many, and a copy of the source is
  fine-tuned.

examples:
  v2s train --dataset GunPoint --output gunpoint.safetensors
  v2s train --dataset 18 --preset paper --epochs 20 --output coffee.safetensors
  v2s train --dataset my_series.csv --epochs 10 --checkpoint-every 5 \\
      --output mine.safetensors
  v2s train --dataset my_series.csv --epochs 10 --resume --output mine.safetensors
  v2s train --dataset 0 --mod 1 --mapping 5 --dr 2 --seg 3 --eps 50 \\
      --output forda.safetensors
"""


def fill_train(parser: argparse.ArgumentParser) -> None:
    """Give the parser of ``v2s train`` its options.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of the command.
    """
    parser.description = (
        "Train a V2SClassifier on labelled series and write it to a file. Options that "
        "are not given take the values of the preset."
    )
    parser.epilog = _EPILOG
    parser.formatter_class = HelpFormatter
    parser.add_argument("--dataset", required=True, metavar="DATA", help=DATA_HELP)
    parser.add_argument(
        "--output", type=Path, required=True, metavar="MODEL.safetensors"
    )
    add_labels(parser)
    add_quiet(parser)
    add_data_options(parser, "train")
    group = parser.add_argument_group("settings")
    group.add_argument(
        "--preset",
        choices=["default", "paper"],
        help="the package's defaults, or Algorithm 1 of the paper (default: default)",
    )
    group.add_argument(
        "--mod",
        type=int,
        choices=sorted(MODES),
        help="0 one-to-one mapping, 1 many-to-one, 2 many-to-one with fine-tuning",
    )
    add_parameters(parser)
    group = parser.add_argument_group("checkpoints")
    group.add_argument(
        "--checkpoint-every",
        "--per",
        type=int,
        default=0,
        metavar="N",
        help="epochs from one checkpoint to the next (default: 0, none)",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint; without one, start at the beginning",
    )
    # What only shows when all options are known is wrong usage still.
    parser.set_defaults(run=_train, usage_error=parser.error)


def _parameters(options: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters that the options name, or end with wrong usage."""
    from sklearn_v2s.classifier import V2SClassifier

    given = given_parameters(options, inspect.signature(V2SClassifier).parameters)
    if options.mod is not None:
        for name, value in MODES[options.mod].items():
            if given.setdefault(name, value) != value:
                options.usage_error(
                    f"--mod {options.mod} means {name}={value!r}, not {given[name]!r}"
                )
    return given


def _new_classifier(options: argparse.Namespace) -> "V2SClassifier":
    from sklearn_v2s.classifier import V2SClassifier

    given = _parameters(options)
    preset = options.preset or ("default" if options.mod is None else "paper")
    make = V2SClassifier if preset == "default" else V2SClassifier.from_paper
    classifier = make(verbose=0 if options.quiet else 1, **given)
    idle = [name for name in _OF_TRAINING if name in given]
    if idle and classifier.max_epochs == 0:
        options.usage_error(
            f"{', '.join(idle)} given, but nothing is trained by gradient; add "
            "--epochs, or --preset paper"
        )
    if "mapping_size" in given and classifier.label_mapping == "bayesian":
        options.usage_error(
            f"--mapping-size has no effect on the label mapping "
            f"{classifier.label_mapping!r}; add --preset paper or --label-mapping "
            "random"
        )
    return classifier


def _check_source(source: str) -> None:
    """Raise before the data are read if a source of --net is not shipped."""
    from sklearn_v2s.sources.registry import list_sources

    if source in NETS.values() and source not in list_sources():
        raise ValueError(
            f"the source {source!r} is not shipped with this version. Train one with "
            f"'v2s pretrain --architecture {source}' and name its checkpoint: --source "
            "FILE.safetensors; 'v2s sources list' shows what is shipped."
        )


def _train(options: argparse.Namespace) -> int:
    from sklearn_v2s.training.resume import fit_with_checkpoints, state_path

    if options.output.suffix != ".safetensors":
        options.usage_error(f"--output {options.output}: must end in .safetensors")
    classifier = _new_classifier(options)
    state = state_path(options.output)
    going_on = options.resume and state.is_file()
    every = options.checkpoint_every
    if every < 0:
        options.usage_error(f"--checkpoint-every {every}: must be 0 or more")
    if (every or going_on) and classifier.max_epochs == 0:
        options.usage_error(
            "--checkpoint-every and --resume: nothing is trained by gradient; add "
            "--epochs"
        )
    if state.is_file() and not options.resume:
        raise FileExistsError(
            f"{state} is the checkpoint of an unfinished training. Add --resume to go "
            "on with it, or remove it to begin anew."
        )
    if options.resume and not going_on and options.output.is_file():
        print(f"{options.output}: the training is complete, nothing to go on with")
        return 0
    _check_source(classifier.source)
    X, y = read_data(options.dataset, options, labelled=True, labels=options.labels)
    start = time.perf_counter()
    if every or going_on:
        if "cross_fit" not in _parameters(options):
            # A checkpoint is of one training.
            classifier.set_params(cross_fit=1)
        fit_with_checkpoints(
            classifier, X, y, options.output, every=every or None, resume=options.resume
        )
    else:
        classifier.fit(X, y)
        classifier.save(options.output)
    seconds = time.perf_counter() - start
    if not options.quiet:
        _report(classifier, options, X, y, seconds)
    net = getattr(classifier, "net_", None)
    if getattr(net, "interrupted_", False):
        advice = (
            "; the same command with --resume goes on from the last checkpoint"
            if state.is_file()
            else ""
        )
        raise KeyboardInterrupt(
            f"interrupted after {classifier.n_iter_} epochs; {options.output} holds "
            f"the best state so far{advice}"
        )
    return 0


def _report(
    classifier: "V2SClassifier",
    options: argparse.Namespace,
    X: Any,
    y: Any,
    seconds: float,
) -> None:
    """Print what was trained, how well it fits, and where it is."""
    print(
        f"series: {len(X)}, classes: {len(classifier.classes_)}, "
        f"time points: {classifier.n_timepoints_in_}, "
        f"channels: {classifier.n_channels_in_}"
    )
    # With a validation part the best epoch, else the last; 0 if none was complete.
    net = getattr(classifier, "net_", None)
    kept = getattr(net, "kept_epoch_", 0)
    if kept:
        row = classifier.history_[kept - 1]
        shown = [
            f"{name.replace('_', ' ')} {row[name]:.4f}"
            for name in ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
            if name in row
        ]
        print(f"epochs: {classifier.n_iter_}, epoch {kept}: {', '.join(shown)}")
    proba = predict_proba(classifier, X, options.quiet)
    fitted = classifier.classes_[proba.argmax(axis=1)]
    print(f"accuracy on the training series: {(fitted == y).mean():.4f}")
    size = options.output.stat().st_size
    print(f"{options.output}: {size} bytes, {seconds:.1f} s")
