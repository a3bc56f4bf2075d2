# SPDX-License-Identifier: Apache-2.0
"""The commands ``v2s sources``."""

import argparse
import contextlib
import shlex
from pathlib import Path

__all__ = ["fill_sources"]

_KERAS_SUFFIXES = {".h5", ".hdf5"}


def fill_sources(parser: argparse.ArgumentParser) -> None:
    """Give the parser of ``v2s sources`` its actions and their options.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of the command.
    """
    parser.description = "Source models: the frozen speech recognisers."
    actions = parser.add_subparsers(dest="action", required=True)

    action = actions.add_parser(
        "list",
        help="show what is shipped or published, licence, size and accuracy",
        description="Show the source models that are shipped or published: where they "
        "are, licence, classes, size, SHA-256, and accuracy on the words of unseen "
        "speakers.",
    )
    action.add_argument(
        "--torchaudio",
        action="store_true",
        help="show the speech models of torchaudio instead, and their licences",
    )
    action.set_defaults(run=_list_sources)

    action = actions.add_parser(
        "evaluate", help="accuracy of a source model on a folder of spoken words"
    )
    action.add_argument(
        "source", help="a shipped name, a .safetensors checkpoint or a Keras .h5 file"
    )
    _add_corpus_options(action, default="all")
    _add_keras_options(action)
    action.set_defaults(run=_evaluate_source)

    action = actions.add_parser(
        "verify", help="check the SHA-256 of shipped and of downloaded files"
    )
    action.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    action.set_defaults(run=_verify_sources)

    action = actions.add_parser(
        "import",
        help="turn Keras weights of AttRNN, U-Net AttRNN or YAMNet into a checkpoint",
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
        "logits", help="keep the logits of a source for speech, for alignment scores"
    )
    action.add_argument("source", help="a shipped name or a .safetensors checkpoint")
    _add_corpus_options(action, default="test")
    action.add_argument("--output", type=Path, required=True, metavar="FILE")
    action.add_argument(
        "--clips", type=int, default=10, help="of each word (default: %(default)s)"
    )
    action.set_defaults(run=_save_logits)


def _add_corpus_options(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--corpus", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--split",
        action="append",
        choices=["train", "validation", "test"],
        help="list of the corpus to run the source on, may be given several times; "
        f"default: {default}",
    )


def _add_keras_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="WORD",
        help="names of the outputs of a Keras file, where it has neither 36 (AttRNN) "
        "nor 521 (YAMNet)",
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
    from sklearn_v2s.runtime.tensor_file import read_tensor_file
    from sklearn_v2s.sources.download import PUBLISHED, cached_file
    from sklearn_v2s.sources.torchaudio_bundle import list_bundles

    if options.torchaudio:
        for name, licence in list_bundles().items():
            print(f"{name}: {licence}")
        return 0
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
    print("torchaudio:NAME[:LAYER]: see 'v2s sources list --torchaudio'")
    return 0


def _evaluate_source(options: argparse.Namespace) -> int:
    from sklearn_v2s.pretraining.corpora import SPLITS
    from sklearn_v2s.pretraining.evaluation import evaluate_source
    from sklearn_v2s.sources.importers.keras_h5 import import_keras_h5

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
        print(f"words that are no source classes: {words}; {done}")
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
    from sklearn_v2s.sources.importers.keras_h5 import import_keras_h5

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
    from sklearn_v2s.pretraining.source_logits import save_source_logits

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
