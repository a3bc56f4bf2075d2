# SPDX-License-Identifier: Apache-2.0
"""Options that become parameters of `V2SClassifier`.

Type and choices of an option are those of the parameter's constraints, its help is the
text of the docstring; here stand the groups, the shorter names, and what the original
command line writes otherwise.
"""

import argparse
import re
from collections.abc import Callable, Container
from numbers import Integral, Real
from typing import Any

from sklearn_v2s.classifier import V2SClassifier
from sklearn_v2s.runtime.sklearn_compat import Interval, StrOptions

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

_GROUPS = {
    "views of a series": """source source_output views tone_source wave_source n_views
        n_segments normalization missing""",
    "perturbation": "mask dropout input_gain train_gain init_scale l2",
    "label mapping": "label_mapping mapping_size class_weight",
    "training": """cross_fit max_epochs batch_size lr lr_schedule fine_tune source_lr
        early_stopping validation_fraction n_iter_no_change precision device
        random_state""",
}

# Where they are not the name of the parameter.
_OPTION_NAMES = {
    "source": ("--source", "--net"),
    "n_segments": ("--segments", "--seg"),
    "mapping_size": ("--mapping-size", "--mapping"),
    "max_epochs": ("--epochs", "--eps"),
    "lr": ("--learning-rate", "--lr"),
    "n_iter_no_change": ("--patience",),
    "random_state": ("--seed",),
}


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


def _number_or_word(number: type, words: Container[str]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return text if text in words else number(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is neither a number nor one of {words}"
            ) from None

    return read


# Settings of argparse that do not follow from the constraints.
_SETTINGS: dict[str, dict[str, Any]] = {
    "source": {"type": _source, "metavar": "NAME"},
    "tone_source": {"metavar": "NAME"},
    "wave_source": {"metavar": "NAME"},
    "device": {"metavar": "NAME"},
    "views": {"nargs": "+", "metavar": "VIEW", "choices": None},
    "random_state": {"type": int, "metavar": "N", "default": 0},
}


def _parameter_texts() -> dict[str, str]:
    """Return the docstring's description of each parameter of the classifier."""
    docstring = V2SClassifier.__doc__ or ""  # python -OO takes docstrings out
    section = re.split(r"\n    (?:Parameters|Attributes)\n    -+\n", docstring)
    entries = re.findall(r"^    (\w+) : .*\n((?:        .*\n)+)", section[1], re.M)
    return {name: re.sub(r"`+", "", " ".join(text.split())) for name, text in entries}


def _settings_of(name: str) -> dict[str, Any]:
    """Return the settings of argparse for the option of a parameter."""
    constraints = V2SClassifier._parameter_constraints[name]
    if constraints == ["boolean"]:
        return {"action": argparse.BooleanOptionalAction}
    intervals = [entry for entry in constraints if isinstance(entry, Interval)]
    words = sorted(
        word
        for entry in constraints
        if isinstance(entry, StrOptions)
        for word in entry.options
    )
    settings: dict[str, Any] = {}
    if intervals:
        number = {Integral: int, Real: float}[intervals[0].type]
        settings["type"] = _number_or_word(number, words) if words else number
        settings["metavar"] = "N" if number is int else "X"
    elif words:
        # None is the default of class weights; only normalization has it as a choice.
        may_be_none = name == "normalization"
        settings["choices"] = [*words, _NONE] if may_be_none else words
    return settings | _SETTINGS.get(name, {})


def add_parameters(parser: argparse.ArgumentParser) -> None:
    """Add an option for each parameter that a command line can give.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of a command. Its namespaces have only the parameters that were given, and
        ``random_state``.
    """
    texts = _parameter_texts()
    for title, names in _GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names.split():
            options = _OPTION_NAMES.get(name, (f"--{name.replace('_', '-')}",))
            group.add_argument(
                *options,
                dest=name,
                help=texts[name].replace("%", "%%"),
                **({"default": argparse.SUPPRESS} | _settings_of(name)),
            )
            if name == "dropout":
                group.add_argument(
                    "--dr",
                    dest=name,
                    type=_rate,
                    metavar="N",
                    default=argparse.SUPPRESS,
                    help="The same in tenths: 4 is 0.4.",
                )


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
