# SPDX-License-Identifier: Apache-2.0
"""The command line: ``python -m sklearn_v2s`` and ``v2s``."""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from sklearn_v2s.benchmark.commands import add_benchmark

__all__ = ["main"]

_KERAS_SUFFIXES = {".h5", ".hdf5"}


def _add_pretrain(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    parser = commands.add_parser(
        "pretrain",
        help="train a source model on a speech corpus",
        description="Train a source model from folders of spoken words and write "
        "checkpoint, model card and history. Settings are chosen with "
        "--train-on train (accuracy on the validation list); the model to ship is "
        "trained with --train-on train+validation and reported on the test list.",
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
    parser.add_argument("--architecture", default="attrnn")
    parser.add_argument("--front-end", default="kapre")
    parser.add_argument(
        "--train-on", choices=["train", "train+validation"], default="train"
    )
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-2)
    parser.add_argument("--label-smoothing", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    from sklearn_v2s.pretraining.augmentation import Augmentation

    strengths = Augmentation()
    for name in (field.name for field in fields(Augmentation)):
        value = getattr(strengths, name)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(value),
            default=value,
            help=f"strength of the augmentation {name} (default: %(default)s)",
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
        if name in {"run", "command", "quiet", "resume", "threads"} or value is None:
            continue
        for item in value if isinstance(value, list) else [value]:
            text = item.name if isinstance(item, Path) else str(item)
            words += [f"--{name.replace('_', '-')}", text]
    return shlex.join(words)


def _add_sources(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    parser = commands.add_parser(
        "sources",
        help="list, evaluate, verify, import and fetch source models",
        description="Source models: the frozen speech recognisers that listen.",
    )
    actions = parser.add_subparsers(dest="action", required=True)

    action = actions.add_parser("list", help="show what is shipped or published")
    action.set_defaults(run=_list_sources)

    action = actions.add_parser(
        "evaluate", help="accuracy of a source model on a folder of spoken words"
    )
    action.add_argument(
        "source", help="a shipped name, a .safetensors checkpoint or a Keras .h5 file"
    )
    action.add_argument("--corpus", type=Path, required=True, metavar="DIR")
    action.add_argument(
        "--split",
        action="append",
        choices=["train", "validation", "test"],
        help="list of the corpus to play, may be given several times; default: all",
    )
    _add_keras_options(action)
    action.set_defaults(run=_evaluate_source)

    action = actions.add_parser(
        "verify", help="check the SHA-256 of shipped and of downloaded files"
    )
    action.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    action.set_defaults(run=_verify_sources)

    action = actions.add_parser(
        "import", help="turn Keras weights of AttRNN into a checkpoint"
    )
    action.add_argument("file", type=Path, metavar="FILE.h5")
    action.add_argument("output", type=Path, metavar="OUTPUT.safetensors")
    action.add_argument("--licence", help="licence of the weights, for the card")
    _add_keras_options(action)
    action.set_defaults(run=_import_source)

    action = actions.add_parser("fetch", help="download published weights, print path")
    action.add_argument("name", metavar="NAME")
    action.add_argument("--cache", type=Path, metavar="DIR", help="where to keep them")
    action.set_defaults(run=_fetch_source)

    action = actions.add_parser(
        "logits", help="keep what a source says about speech, for alignment scores"
    )
    action.add_argument("source", help="a shipped name or a .safetensors checkpoint")
    action.add_argument("--corpus", type=Path, required=True, metavar="DIR")
    action.add_argument("--output", type=Path, required=True, metavar="FILE")
    action.add_argument(
        "--split",
        action="append",
        choices=["train", "validation", "test"],
        help="list of the corpus to play, may be given several times; default: test",
    )
    action.add_argument(
        "--clips", type=int, default=10, help="of each word (default: %(default)s)"
    )
    action.set_defaults(run=_save_logits)


def _add_keras_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="WORD",
        help="names of the outputs of a Keras file, where it has not 36",
    )
    parser.add_argument(
        "--front-end", help="front end of a Keras file of weights that does not say it"
    )


def _shipped_sources() -> dict[str, tuple[Path, str, str]]:
    from sklearn_v2s.sources.registry import list_sources, shipped_checkpoint

    shipped = {}
    for name, description in list_sources().items():
        # What a user registered in this process is no file.
        with contextlib.suppress(KeyError):
            shipped[name] = (*shipped_checkpoint(name), description)
    return shipped


def _list_sources(options: argparse.Namespace) -> int:
    from sklearn_v2s.sources.download import PUBLISHED, cached_file
    from sklearn_v2s.tensor_file import read_tensor_file

    for name, (path, sha256, description) in _shipped_sources().items():
        header = read_tensor_file(path).header
        accuracies = [
            f"{part} {entry['accuracy']:.4f} ({entry['n_clips']} clips)"
            for part, entry in header["card"].get("accuracy", {}).items()
        ]
        print(
            f"{name}: {description}",
            "where: shipped with the package",
            f"licence: {header['card'].get('licence', 'not stated')}",
            f"classes: {len(header['classes'])}",
            f"size: {path.stat().st_size} bytes",
            f"SHA-256: {sha256}",
            f"accuracy: {', '.join(accuracies) or 'not stated'}",
            sep="\n  ",
        )
    for name, weights in PUBLISHED.items():
        path = cached_file(name)
        print(
            f"{name}: {weights.description}",
            f"where: {path if path.is_file() else f'v2s sources fetch {name}'}",
            f"licence: {weights.licence}",
            f"classes: {weights.n_classes}",
            f"size: {weights.size} bytes",
            f"SHA-256: {weights.sha256}",
            "accuracy: not stated",
            sep="\n  ",
        )
    return 0


def _evaluate_source(options: argparse.Namespace) -> int:
    from sklearn_v2s.pretraining.corpora import SPLITS
    from sklearn_v2s.sources.evaluation import evaluate_source
    from sklearn_v2s.sources.keras_h5 import import_keras_h5

    source = options.source
    if Path(source).suffix in _KERAS_SUFFIXES:
        source = import_keras_h5(source, options.classes, options.front_end)
    result = evaluate_source(source, options.corpus, options.split or SPLITS)
    if result.unknown_words:
        done = (
            f"left out, {result.n_left_out} clips"
            if result.unknown_class is None
            else f"counted as {result.unknown_class!r}"
        )
        words = ", ".join(result.unknown_words)
        print(f"words that the source does not know: {words}; {done}")
    print(f"accuracy: {result.accuracy:.4f} ({result.n_right}/{result.n_clips})")
    return 0


def _verify_sources(options: argparse.Namespace) -> int:
    from sklearn_v2s.sources.download import PUBLISHED, cached_file, file_sha256

    files = {name: entry[:2] for name, entry in _shipped_sources().items()}
    for name, weights in PUBLISHED.items():
        path = cached_file(name)
        # Nobody has to download anything; what was asked for by name has to be there.
        if path.is_file() or name in options.names:
            files[name] = (path, weights.sha256)
    unknown = sorted(set(options.names) - files.keys())
    if unknown:
        raise ValueError(
            f"unknown sources {unknown}; choose among "
            f"{sorted({*files, *PUBLISHED})}, or name none to verify all."
        )
    all_intact = True
    for name in options.names or files:
        path, expected = files[name]
        found = file_sha256(path) if path.is_file() else None
        if found == expected:
            print(f"{name}: ok, SHA-256 {found}")
            continue
        all_intact = False
        if found is None:
            print(f"{name}: MISSING, there is no file {path}")
        else:
            print(f"{name}: DAMAGED, {path} has SHA-256 {found}, expected {expected}")
    return 0 if all_intact else 1


def _import_source(options: argparse.Namespace) -> int:
    from sklearn_v2s.sources.checkpoint import save_checkpoint
    from sklearn_v2s.sources.download import PUBLISHED, file_sha256
    from sklearn_v2s.sources.keras_h5 import import_keras_h5

    if options.output.suffix != ".safetensors":
        raise ValueError(
            f"output {str(options.output)!r} must end in .safetensors, the form in "
            "which checkpoints are written and found again."
        )
    source = import_keras_h5(options.file, options.classes, options.front_end)
    sha256 = file_sha256(options.file)
    known = [weights for weights in PUBLISHED.values() if weights.sha256 == sha256]
    licence = options.licence or (known[0].licence if known else "not stated")
    card = {
        "licence": licence,
        "imported_from": {"file": options.file.name, "sha256": sha256},
        "command": shlex.join(
            ["v2s", "sources", "import", options.file.name, options.output.name]
        ),
    }
    digest = save_checkpoint(options.output, source, card)
    print(f"{options.output}: {len(source.classes)} classes, SHA-256 {digest}")
    return 0


def _fetch_source(options: argparse.Namespace) -> int:
    from sklearn_v2s.sources.download import fetch_source

    print(fetch_source(options.name, options.cache))
    return 0


def _save_logits(options: argparse.Namespace) -> int:
    from sklearn_v2s.sources.logits import save_source_logits

    splits = options.split or ["test"]
    words = ["v2s", "sources", "logits", Path(options.source).name]
    words += ["--corpus", options.corpus.name, "--output", options.output.name]
    words += [word for split in splits for word in ("--split", split)]
    words += ["--clips", str(options.clips)]
    kept = save_source_logits(
        options.source,
        options.corpus,
        options.output,
        splits=splits,
        clips_of_each=options.clips,
        command=shlex.join(words),
    )
    print(
        f"{options.output}: {len(kept.logits)} clips of {kept.card['n_speakers']} "
        f"speakers, accuracy {kept.accuracy:.4f}, loss {kept.loss:.4f}"
    )
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, default=None
        Without the program's name; None means those of the process.

    Returns
    -------
    int
        Exit code: 0 on success, 1 for an error that a user can mend, 2 for wrong usage.
    """
    parser = argparse.ArgumentParser(
        prog="v2s", description="Voice2Series: time series classification by speech."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_pretrain(commands)
    _add_sources(commands)
    add_benchmark(commands)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, OSError, ImportError) as error:
        print(f"v2s: {error}", file=sys.stderr)
        return 1
