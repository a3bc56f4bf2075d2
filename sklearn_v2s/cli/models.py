# SPDX-License-Identifier: Apache-2.0
"""The commands ``v2s predict``, ``v2s evaluate`` and ``v2s explain``."""

import argparse
import csv
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sklearn_v2s.cli.data import (
    DATA_HELP,
    add_data_options,
    add_labels,
    add_quiet,
    progress_bar,
    read_data,
)
from sklearn_v2s.cli.help import HelpFormatter

if TYPE_CHECKING:
    from sklearn_v2s.classifier import V2SClassifier

__all__ = ["fill_evaluate", "fill_explain", "fill_predict", "predict_proba"]

# Series between two steps of the progress bar.
_CHUNK = 256

_PREDICT_EXAMPLES = """\
tables:
  .csv, .tsv and two-dimensional .npy files hold a series in each row and no labels;
  with --labelled their first column is a label, which is left out. Three-dimensional
  .npy files are (series, channels, time points).

examples:
  v2s predict gunpoint.safetensors GunPoint --output predictions.csv
  v2s predict gunpoint.safetensors new_series.csv
  v2s predict gunpoint.safetensors GunPoint_TEST.tsv --labelled --output out.csv
"""

_EVALUATE_EXAMPLES = """\
tables:
  .csv, .tsv and two-dimensional .npy files hold a label and a series in each row, as
  the UCR archive does; with --labels FILE they hold series only.

examples:
  v2s evaluate gunpoint.safetensors GunPoint
  v2s evaluate gunpoint.safetensors 32 --split train --json
  v2s evaluate gunpoint.safetensors X_test.npy --labels y_test.npy
"""

_EXPLAIN_EXAMPLES = """\
tables:
  as for 'v2s predict': tables of series only, or with --labelled a label first.

examples:
  v2s explain gunpoint.safetensors GunPoint --row 3 --output why.png
  v2s explain gunpoint.safetensors GunPoint --layer network.conv2 --output why.pdf
"""


def _fill(parser: argparse.ArgumentParser, description: str, epilog: str) -> None:
    """Give a parser what all commands have that apply a saved classifier to series."""
    parser.description = description
    parser.epilog = epilog
    parser.formatter_class = HelpFormatter
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="file that v2s train wrote"
    )
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    parser.add_argument(
        "--device",
        default="auto",
        metavar="NAME",
        help="where to compute: auto, cpu, cuda, cuda:1, mps, xpu (default: auto)",
    )
    add_quiet(parser)
    add_data_options(parser, "test")


def _add_labelled(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--labelled",
        action="store_true",
        help="the first column of a table is a label, to be left out",
    )


def fill_predict(parser: argparse.ArgumentParser) -> None:
    """Give the parser of ``v2s predict`` its options.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of the command.
    """
    _fill(
        parser,
        "Predict the classes of series with a saved classifier: a line for each series "
        "with its row (from 0), the predicted class and the probability of each class.",
        _PREDICT_EXAMPLES,
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE.csv", help="default: standard output"
    )
    _add_labelled(parser)
    parser.set_defaults(run=_predict)


def fill_evaluate(parser: argparse.ArgumentParser) -> None:
    """Give the parser of ``v2s evaluate`` its options.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of the command.
    """
    _fill(parser, "Score a saved classifier on labelled series.", _EVALUATE_EXAMPLES)
    add_labels(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON document")
    parser.set_defaults(run=_evaluate)


def fill_explain(parser: argparse.ArgumentParser) -> None:
    """Give the parser of ``v2s explain`` its options.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of the command.
    """
    _fill(
        parser,
        "Draw the input of the source model for a series and which of its time points "
        "matter for the prediction.",
        _EXPLAIN_EXAMPLES,
    )
    parser.add_argument(
        "--row", type=int, default=0, metavar="I", help="series, from 0 (default: 0)"
    )
    parser.add_argument(
        "--target",
        metavar="CLASS",
        help="class to explain (default: the predicted one)",
    )
    parser.add_argument(
        "--layer", metavar="NAME", help="layer of the source whose activation is drawn"
    )
    parser.add_argument(
        "--view", choices=["replicas", "tone"], help="the view to explain"
    )
    parser.add_argument(
        "--method",
        choices=["occlusion", "gradient"],
        default="occlusion",
        help="how time points are weighed (default: %(default)s)",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FIGURE.png", help="or .pdf, .svg"
    )
    _add_labelled(parser)
    parser.set_defaults(run=_explain)


def _load(options: argparse.Namespace) -> "V2SClassifier":
    from sklearn_v2s.classifier import V2SClassifier

    if not options.model.is_file():
        raise FileNotFoundError(
            f"MODEL {str(options.model)!r} is not there, or is no file; 'v2s train "
            "--output' writes one."
        )
    return V2SClassifier.load(options.model).set_params(device=options.device)


def _unlabelled(options: argparse.Namespace, classifier: "V2SClassifier") -> Any:
    """Return the series to predict, or raise if a label seems to stand among them."""
    X, _ = read_data(options.data, options, labelled=options.labelled)
    expected = classifier.n_timepoints_in_
    if not isinstance(X, list) and X.ndim == 2 and classifier.n_channels_in_ == 1:
        extra = X.shape[1] - expected
        advice = {
            1: "If its first column is a label, add --labelled.",
            -1: "If its first column is no label, leave out --labelled.",
        }
        if extra in advice and (extra == 1) != options.labelled:
            raise ValueError(
                f"{options.data} has series of {X.shape[1]} values, and "
                f"{options.model} takes series of {expected}. {advice[extra]}"
            )
    return X


def predict_proba(classifier: "V2SClassifier", X: Any, quiet: bool) -> np.ndarray:
    """Return probabilities as the classifier does, with a progress bar.

    Parameters
    ----------
    classifier : V2SClassifier
        Fitted.
    X : array-like of shape (n, n_timepoints) or (n, n_channels, n_timepoints)
        Series, or a list of series of unequal length.
    quiet : bool
        No bar.

    Returns
    -------
    ndarray of shape (n, n_classes)
        In the order of ``classes_``.
    """
    parts = []
    with progress_bar(len(X), "series", quiet) as bar:
        for start in range(0, len(X), _CHUNK):
            chunk = X[start : start + _CHUNK]
            parts.append(classifier.predict_proba(chunk))
            bar.update(len(chunk))
    # Without any series the classifier raises an error with the reason.
    return np.concatenate(parts) if parts else classifier.predict_proba(X)


def _predict(options: argparse.Namespace) -> int:
    from sklearn_v2s.runtime.tensor_file import write_bytes

    classifier = _load(options)
    proba = predict_proba(classifier, _unlabelled(options, classifier), options.quiet)
    predicted = classifier.classes_[proba.argmax(axis=1)].tolist()
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = [f"probability_{label}" for label in classifier.classes_.tolist()]
    writer.writerow(["row", "prediction", *columns])
    for row, (label, shares) in enumerate(zip(predicted, proba.tolist(), strict=True)):
        writer.writerow([row, label, *shares])
    if options.output is None:
        sys.stdout.write(stream.getvalue())
    else:
        write_bytes(options.output, stream.getvalue().encode())
        if not options.quiet:
            print(f"{options.output}: {len(predicted)} predictions")
    return 0


def _known_labels(y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return labels in the kind of the classes: .ts files write numbers as text."""
    from sklearn_v2s.datasets.files import plain_labels

    if y.dtype.kind == classes.dtype.kind:
        return y
    if classes.dtype.kind in "iu":
        numbers = plain_labels(y.astype(str))
        if numbers.dtype.kind in "iu":
            return numbers
    elif classes.dtype.kind == "U":
        return y.astype(str)
    raise ValueError(
        f"the labels {np.unique(y)[:5].tolist()} are of another kind than the classes "
        f"of the model, {classes[:5].tolist()}."
    )


def _evaluate(options: argparse.Namespace) -> int:
    from sklearn.metrics import confusion_matrix

    from sklearn_v2s.benchmark.metrics import score_predictions

    classifier = _load(options)
    X, y = read_data(options.data, options, labelled=True, labels=options.labels)
    classes = classifier.classes_
    assert y is not None
    y = _known_labels(y, classes)
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(
            f"{options.data} has the labels {unknown[:10].tolist()}, which "
            f"{options.model} does not know; its classes are {classes.tolist()}."
        )
    proba = predict_proba(classifier, X, options.quiet)
    predicted = classes[proba.argmax(axis=1)]
    scores = score_predictions(y, proba, predicted, classes)
    counts = confusion_matrix(y, predicted, labels=classes)
    document = {
        "model": options.model.name,
        "data": Path(options.data).name,
        "n_series": len(y),
        **scores,
        "classes": classes.tolist(),
        "confusion_matrix": counts.tolist(),
    }
    if options.json:
        print(json.dumps(document, indent=2))
        return 0
    print(f"series: {len(y)}")
    for name, score in scores.items():
        title = "ECE" if name == "ece" else name.replace("_", " ")
        print(f"{title}: {score:.4f}")
    print("confusion matrix, a row for each true class:")
    table = [["", *map(str, classes.tolist())]]
    table += [
        [str(label), *map(str, row)]
        for label, row in zip(classes.tolist(), counts.tolist(), strict=True)
    ]
    width = max(len(cell) for line in table for cell in line) + 2
    for line in table:
        print("".join(cell.rjust(width) for cell in line))
    return 0


def _explain(options: argparse.Namespace) -> int:
    try:
        import matplotlib.figure
    except ImportError as error:
        raise ImportError(
            'figures need matplotlib: pip install "sklearn-v2s[plot]"'
        ) from error
    # A command has no window.
    matplotlib.use("Agg")
    from sklearn_v2s.plotting import V2SExplanationDisplay
    from sklearn_v2s.runtime.tensor_file import write_bytes

    classifier = _load(options)
    X = _unlabelled(options, classifier)
    if not 0 <= options.row < len(X):
        raise ValueError(
            f"--row {options.row}: {options.data} has the rows 0 to {len(X) - 1}."
        )
    target = options.target
    if target is not None:
        names = {str(label): label for label in classifier.classes_.tolist()}
        if target not in names:
            raise ValueError(f"--target {target!r}: the classes are {[*names]}.")
        target = names[target]
    kind = options.output.suffix.removeprefix(".")
    allowed = sorted(matplotlib.figure.Figure().canvas.get_supported_filetypes())
    if kind not in allowed:
        raise ValueError(
            f"--output {options.output}: the name must end in one of "
            f"{', '.join(f'.{name}' for name in allowed)}."
        )
    display = V2SExplanationDisplay.from_estimator(
        classifier,
        X[options.row],
        target=target,
        layer=options.layer,
        view=options.view,
        method=options.method,
    )
    content = io.BytesIO()
    display.figure_.savefig(content, format=kind, dpi=150)
    write_bytes(options.output, content.getvalue())
    if not options.quiet:
        print(options.output)
    return 0
