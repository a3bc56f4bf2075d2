# SPDX-License-Identifier: Apache-2.0
"""Options that become parameters of `V2SClassifier`, under their names there."""

import argparse
from collections.abc import Container
from typing import Any

__all__ = ["MODES", "NETS", "add_parameters", "given_parameters"]

#: ``--net`` of the original command line; 2 is VGGish with the classes of AudioSet.
NETS = {0: "attrnn", 1: "vggish", 2: "vggish", 3: "unet-attrnn"}
#: ``--mod`` of the original command line.
MODES: dict[int, dict[str, Any]] = {
    0: {"mapping_size": 1},
    1: {},
    2: {"fine_tune": True},
}

_NONE = "none"
_SWITCH: dict[str, Any] = {"action": argparse.BooleanOptionalAction}


def _source(text: str) -> str:
    if not text.isdecimal():
        return text
    try:
        return NETS[int(text)]
    except KeyError:
        raise argparse.ArgumentTypeError(
            f"{text} is none of the numbers {sorted(NETS)}"
        ) from None


def _rate(text: str) -> float:
    """Read whole numbers as tenths: 4 is 0.4."""
    try:
        return int(text) / 10 if text.isdecimal() else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a whole number of tenths nor a rate"
        ) from None


def _segments(text: str) -> int | str:
    try:
        return text if text == "auto" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a whole number nor 'auto'"
        ) from None


def _number(kind: type, text: str, metavar: str = "N") -> dict[str, Any]:
    return {"type": kind, "metavar": metavar, "help": text}


# Title of a group to its options: names on the command line, and what argparse is to
# know. The first name is that of the parameter unless "dest" says otherwise.
_OPTIONS: dict[str, list[tuple[tuple[str, ...], dict[str, Any]]]] = {
    "views of a series": [
        (
            ("--source", "--net"),
            {
                "type": _source,
                "metavar": "NAME",
                "help": "source model: a name of 'v2s sources list', "
                "'torchaudio:NAME', a .safetensors checkpoint, or a number of the "
                "original command line (0 attrnn, 1 and 2 vggish, 3 unet-attrnn)",
            },
        ),
        (
            ("--source-output",),
            {
                "choices": ["logits", "embedding", "both"],
                "help": "what the label mapping reads",
            },
        ),
        (
            ("--views",),
            {
                "nargs": "+",
                "metavar": "VIEW",
                "help": "views of a series: auto, or some of replicas, tone, wave, "
                "slope, level",
            },
        ),
        (
            ("--wave-source",),
            {
                "metavar": "NAME",
                "help": "source model of the views wave and slope",
            },
        ),
        (("--n-views",), _number(int, "perturbations of the view replicas")),
        (
            ("--segments", "--seg"),
            {
                "dest": "n_segments",
                "type": _segments,
                "metavar": "N",
                "help": "replicas of a series in the second, or 'auto'",
            },
        ),
        (
            ("--normalization",),
            {
                "choices": ["global", "series", _NONE],
                "help": "mean and scale to remove: of the training data, of each "
                "series, or none",
            },
        ),
        (
            ("--missing",),
            {"choices": ["error", "interpolate"], "help": "what to do with NaN"},
        ),
    ],
    "perturbation": [
        (
            ("--mask",),
            _SWITCH | {"help": "keep the perturbation away from the series"},
        ),
        (
            ("--dropout",),
            _number(
                float, "share of the perturbation that is zeroed in a step", "RATE"
            ),
        ),
        (
            ("--dr",),
            {
                "dest": "dropout",
                "type": _rate,
                "metavar": "N",
                "help": "the same in tenths: 4 is 0.4",
            },
        ),
        (
            ("--input-gain",),
            _number(float, "loudness of the series against the perturbation", "GAIN"),
        ),
        (("--train-gain",), _SWITCH | {"help": "learn that loudness too"}),
        (
            ("--init-scale",),
            _number(float, "bound of the initial perturbation", "BOUND"),
        ),
        (("--l2",), _number(float, "weight of its square in the loss", "FACTOR")),
    ],
    "label mapping": [
        (
            ("--label-mapping",),
            {
                "choices": [
                    "random",
                    "contiguous",
                    "frequency",
                    "iterative",
                    "bayesian",
                    "linear",
                ],
                "help": "all but linear read words and take --source-output logits",
            },
        ),
        (
            ("--mapping-size", "--mapping"),
            _number(int, "source words for each class; as many as there are if absent"),
        ),
        (
            ("--class-weight",),
            {
                "choices": ["balanced"],
                "help": "weigh the series so that all classes count the same",
            },
        ),
    ],
    "training": [
        (
            ("--epochs", "--eps"),
            {
                "dest": "max_epochs",
                "type": int,
                "metavar": "N",
                "help": "passes over the data that train the perturbation",
            },
        ),
        (("--batch-size",), _number(int, "series for each step")),
        (
            ("--learning-rate", "--lr"),
            {"dest": "lr", "type": float, "metavar": "RATE", "help": "of Adam"},
        ),
        (
            ("--lr-schedule",),
            {"choices": ["constant", "cosine"], "help": "course of the learning rate"},
        ),
        (("--fine-tune",), _SWITCH | {"help": "train a copy of the source along"}),
        (
            ("--source-lr",),
            _number(float, "learning rate of that copy", "RATE"),
        ),
        (
            ("--early-stopping",),
            _SWITCH
            | {"help": "keep the epoch that is best on a part of the training data"},
        ),
        (
            ("--validation-fraction",),
            _number(float, "share of each class in that part", "SHARE"),
        ),
        (
            ("--patience",),
            {
                "dest": "n_iter_no_change",
                "type": int,
                "metavar": "N",
                "help": "epochs without a better one to stop after",
            },
        ),
        (
            ("--precision",),
            {"choices": ["float32", "float64"], "help": "arithmetic"},
        ),
        (
            ("--device",),
            {"metavar": "NAME", "help": "auto, cpu, cuda, cuda:1, mps, xpu"},
        ),
        (
            ("--seed",),
            {
                "dest": "random_state",
                "type": int,
                "default": 0,
                "metavar": "N",
                "help": "of all randomness (default: %(default)s)",
            },
        ),
    ],
}


def add_parameters(parser: argparse.ArgumentParser) -> None:
    """Add an option for each parameter that a command line can give.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of a command. Its namespaces have only the parameters that were given, and
        ``random_state``.
    """
    for title, options in _OPTIONS.items():
        group = parser.add_argument_group(title)
        for names, settings in options:
            group.add_argument(*names, **({"default": argparse.SUPPRESS} | settings))


def given_parameters(
    options: argparse.Namespace, names: Container[str]
) -> dict[str, Any]:
    """Return the parameters that were given.

    Parameters
    ----------
    options : argparse.Namespace
        With the options of `add_parameters`.
    names : container of str
        Names of all parameters.

    Returns
    -------
    dict of str to Any
        As `V2SClassifier` takes them.

    Examples
    --------
    >>> import argparse
    >>> from sklearn_v2s.cli.parameters import add_parameters, given_parameters
    >>> parser = argparse.ArgumentParser()
    >>> add_parameters(parser)
    >>> options = parser.parse_args(["--dr", "4", "--seg", "3"])
    >>> given_parameters(options, {"dropout", "n_segments", "random_state"})
    {'random_state': 0, 'dropout': 0.4, 'n_segments': 3}
    """
    given = {name: value for name, value in vars(options).items() if name in names}
    if given.get("normalization") == _NONE:
        given["normalization"] = None
    if len(given.get("views", ())) == 1:
        given["views"] = given["views"][0]
    if given.get("label_mapping", "linear") != "linear":
        given.setdefault("source_output", "logits")
    return given
