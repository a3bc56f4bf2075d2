# SPDX-License-Identifier: Apache-2.0
"""The command ``v2s pretrain``."""

import argparse
import shlex
from dataclasses import fields
from pathlib import Path

__all__ = ["fill_pretrain"]


def fill_pretrain(parser: argparse.ArgumentParser) -> None:
    """Give the parser of ``v2s pretrain`` its options.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of the command.
    """
    from sklearn_v2s.pretraining.augmentation import Augmentation
    from sklearn_v2s.sources.checkpoint import ARCHITECTURES
    from sklearn_v2s.sources.front_end import FRONT_ENDS

    parser.description = (
        "Train a source model from folders of spoken words and write checkpoint, model "
        "card and history. Settings are chosen with --train-on train (accuracy on the "
        "validation list); the model to ship is trained with --train-on "
        "train+validation and reported on the test list."
    )
    parser.add_argument(
        "--corpus",
        type=Path,
        action="append",
        required=True,
        metavar="DIR",
        help="the Arabic Speech Commands repository, a Google Speech Commands folder "
        "or the root folder of torchaudio's SPEECHCOMMANDS; may be given several times",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--architecture",
        default="attrnn",
        metavar="NAME",
        help=f"{', '.join(ARCHITECTURES)} (default: %(default)s)",
    )
    parser.add_argument(
        "--front-end",
        default="kapre",
        metavar="NAME",
        help=f"{', '.join(FRONT_ENDS)}; kernel-bank for wavebank (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--train-on", choices=["train", "train+validation"], default="train"
    )
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-2)
    parser.add_argument("--label-smoothing", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    strengths = Augmentation()
    for name in (field.name for field in fields(Augmentation)):
        value = getattr(strengths, name)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(value),
            default=value,
            help=f"strength of the augmentation {name} (default: %(default)s)",
        )
    parser.add_argument(
        "--device", default="auto", help='as for V2SClassifier (default: "auto")'
    )
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last complete epoch"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=_pretrain)


def _pretrain(options: argparse.Namespace) -> int:
    import torch

    from sklearn_v2s.pretraining import (
        PretrainingSettings,
        join_corpora,
        pretrain,
        read_corpus,
    )
    from sklearn_v2s.pretraining.augmentation import Augmentation

    if options.threads:
        torch.set_num_threads(options.threads)
    given = vars(options)
    names = {field.name for field in fields(PretrainingSettings)}
    settings = PretrainingSettings(
        augmentation=Augmentation(
            **{field.name: given[field.name] for field in fields(Augmentation)}
        ),
        **{name: given[name] for name in names & given.keys()},
    )
    corpus = join_corpora([read_corpus(folder) for folder in options.corpus])
    card = pretrain(
        corpus,
        options.output,
        settings,
        device=options.device,
        resume=options.resume,
        command=_described_command(options),
        progress=not options.quiet,
    )
    for name, entry in card["accuracy"].items():
        print(f"{name}: accuracy {entry['accuracy']:.4f} ({entry['n_clips']} clips)")
    return 0


def _described_command(options: argparse.Namespace) -> str:
    # Folders are a matter of the machine; a card names them by their last part only.
    words = ["python", "-m", "sklearn_v2s", options.command]
    for name, value in vars(options).items():
        if (
            name in {"run", "command", "device", "quiet", "resume", "threads"}
            or value is None
        ):
            continue
        for item in value if isinstance(value, list) else [value]:
            text = item.name if isinstance(item, Path) else str(item)
            words += [f"--{name.replace('_', '-')}", text]
    return shlex.join(words)
