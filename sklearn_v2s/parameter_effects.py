# SPDX-License-Identifier: Apache-2.0
"""Which parameters have an effect in which setting: none is ignored in silence."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from sklearn_v2s.runtime.user_warnings import warn_user

__all__ = [
    "EFFECTS",
    "TRAINING_PARAMETERS",
    "VALIDATION_PARAMETERS",
    "Effect",
    "Setting",
    "idle_parameters",
    "warn_of_idle_parameters",
]

#: Without an effect where nothing is trained by gradient.
TRAINING_PARAMETERS = (
    "dropout",
    "train_gain",
    "batch_size",
    "lr",
    "lr_schedule",
    "l2",
    "fine_tune",
    "early_stopping",
    "callbacks",
)
#: Without an effect where nothing is held out in a training.
VALIDATION_PARAMETERS = ("validation_fraction", "n_iter_no_change")


@dataclass(frozen=True)
class Setting:
    """What decides which parameters of an estimator have an effect.

    Attributes
    ----------
    parameters : dict
        By name.
    views : tuple of str
        Names of the views that are read.
    trains : bool
        Whether a perturbation is trained by gradient.
    mapping : LabelMapping or None
        The label mapping that the parameters mean, not fitted; None without one.
    """

    parameters: dict[str, Any]
    views: tuple[str, ...] = ()
    trains: bool = False
    mapping: Any = None

    def reads(self, *views: str) -> bool:
        """Return whether one of these views is read."""
        return not set(views).isdisjoint(self.views)


@dataclass(frozen=True)
class Effect:
    """When some parameters have an effect.

    Attributes
    ----------
    names : tuple of str
        The parameters.
    acts : callable
        Whether they have one, in a `Setting`.
    why_not : str
        Why they have none elsewhere.
    remedy : str
        What would give them one.
    """

    names: tuple[str, ...]
    acts: Callable[[Setting], bool]
    why_not: str
    remedy: str


def _chooses_among_classes(setting: Setting) -> bool:
    return "mapping_size" in setting.mapping.get_params()


def _is_instance(setting: Setting) -> bool:
    return not isinstance(setting.parameters["label_mapping"], str)


#: The table: parameters that are in no row have an effect always.
EFFECTS = (
    Effect(
        ("source",),
        lambda setting: (
            setting.reads("replicas")
            or (setting.reads("tone") and setting.parameters["tone_source"] is None)
        ),
        "no view reads the source",
        "add 'replicas' to views, or set tone_source=None to read the tone with it",
    ),
    Effect(
        ("tone_source",),
        lambda setting: setting.reads("tone"),
        "the view 'tone' is not read",
        "add 'tone' to views",
    ),
    Effect(
        ("wave_source",),
        lambda setting: setting.reads("wave", "slope"),
        "neither the view 'wave' nor 'slope' is read",
        "add one to views",
    ),
    Effect(
        ("source_output",),
        lambda setting: setting.reads("replicas", "tone"),
        "neither the view 'replicas' nor 'tone' is read",
        "add one to views",
    ),
    Effect(
        ("n_views", "n_segments", "input_gain", "init_scale"),
        lambda setting: setting.reads("replicas"),
        "the view 'replicas', which has the perturbation, is not read",
        "add 'replicas' to views",
    ),
    Effect(
        ("mask",),
        lambda setting: (
            setting.reads("replicas")
            and (setting.trains or setting.parameters["init_scale"] > 0)
        ),
        "there is no perturbation to mask",
        "add 'replicas' to views, and set max_epochs='auto' or init_scale above 0",
    ),
    Effect(
        TRAINING_PARAMETERS,
        lambda setting: setting.trains,
        "nothing is trained by gradient",
        "set max_epochs='auto' or to 1 or more, with 'replicas' among the views",
    ),
    Effect(
        ("cross_fit",),
        lambda setting: (
            setting.trains
            and not setting.parameters["fine_tune"]
            and not getattr(setting.mapping, "reads_logits", False)
        ),
        "no perturbation is trained for a learned label mapping and a frozen source",
        "set label_mapping='linear', fine_tune=False, and max_epochs='auto' or to 1 or "
        "more",
    ),
    Effect(
        VALIDATION_PARAMETERS,
        lambda setting: setting.trains and setting.parameters["early_stopping"],
        "no part of the data is held out in a training",
        "set early_stopping=True, with max_epochs='auto' or 1 or more",
    ),
    Effect(
        ("source_lr",),
        lambda setting: setting.trains and setting.parameters["fine_tune"],
        "the weights of the source are frozen",
        "set fine_tune=True, with max_epochs='auto' or 1 or more",
    ),
    Effect(
        ("mapping_size",),
        lambda setting: not _is_instance(setting),
        "label_mapping is an instance, which has its own parameters",
        "set mapping_size of that instance, or name a label mapping",
    ),
    Effect(
        ("mapping_size",),
        lambda setting: _is_instance(setting) or _chooses_among_classes(setting),
        "label_mapping='bayesian' gives every source class a weight",
        "set label_mapping to 'random', 'contiguous', 'frequency', 'iterative' or "
        "'linear'",
    ),
    Effect(
        ("mapping_size",),
        lambda setting: (
            _is_instance(setting)
            or setting.mapping.reads_logits
            or setting.reads("replicas")
        ),
        "the view 'replicas', whose source outputs it chooses among, is not read",
        "add 'replicas' to views",
    ),
)  # fmt: skip


def idle_parameters(estimator: Any, setting: Setting) -> list[str]:
    """Return what is to be said of parameters without an effect.

    Parameters
    ----------
    estimator : estimator
        Whose parameters.
    setting : Setting
        Where they are used.

    Returns
    -------
    list of str
        One text for each row of `EFFECTS` of which the user has changed a parameter.

    Examples
    --------
    >>> from sklearn_v2s import V2SClassifier
    >>> from sklearn_v2s.parameter_effects import Setting, idle_parameters
    >>> classifier = V2SClassifier(views="level", n_views=2)
    >>> setting = Setting(classifier.get_params(), ("level",))
    >>> idle_parameters(classifier, setting)[0][:21]
    'n_views has no effect'
    """
    defaults = inspect.signature(type(estimator).__init__).parameters
    texts = []
    for effect in EFFECTS:
        changed = [
            name
            for name in effect.names
            if name in setting.parameters
            and not _equal(setting.parameters[name], defaults[name].default)
        ]
        if changed and not effect.acts(setting):
            has, it = ("has", "it") if len(changed) == 1 else ("have", "them")
            # Without the values: a search over them says it once.
            texts.append(
                f"{', '.join(changed)} {has} no effect: {effect.why_not}. To give {it} "
                f"one, {effect.remedy}."
            )
    return texts


def _equal(value: Any, default: Any) -> bool:
    plain = bool | int | float | str | None
    return value is default or (
        isinstance(value, plain) and isinstance(default, plain) and value == default
    )


def warn_of_idle_parameters(estimator: Any, setting: Setting) -> None:
    """Warn of parameters that the user has set and that have no effect.

    Parameters
    ----------
    estimator, setting
        As in `idle_parameters`.
    """
    for text in idle_parameters(estimator, setting):
        said = _SAID.setdefault(_search_around(), set())
        if text not in said:
            warn_user(text)
            said.add(text)


class _Process:
    """Stands for all searches that this worker process fits for."""


class _Call:
    """Stands for a fit outside of any search."""


_PROCESS = _Process()
# What was said in each search, as long as it lasts.
_SAID: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()


def _search_around() -> Any:
    """Return what stands for the search of scikit-learn that is going on, if any.

    A search resets Python's own record of what was said at each of its fits.
    """
    frame = inspect.currentframe()
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("joblib.externals.loky"):
            return _PROCESS
        if (
            module == "sklearn.model_selection._search"
            and frame.f_code.co_name == "fit"
        ):
            # The estimator that it has cloned for this call of `fit`.
            found = frame.f_locals.get("base_estimator")
            return frame.f_locals["self"] if found is None else found
        frame = frame.f_back
    return _Call()
