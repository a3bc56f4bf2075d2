# SPDX-License-Identifier: Apache-2.0
"""How `V2SClassifier` is fitted: the steps between series and a label mapping."""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch

from sklearn_v2s.base import BaseV2S
from sklearn_v2s.devices import resolve_device, warn_of_sharing
from sklearn_v2s.label_mapping import LinearLabelMapping
from sklearn_v2s.label_mapping.fitting import fit_mapping, new_mapping
from sklearn_v2s.reprogramming import ReprogrammedSource
from sklearn_v2s.series_estimator import epoch_rows
from sklearn_v2s.sources.contract import copy_source, independent_copy
from sklearn_v2s.sources.registry import load_source
from sklearn_v2s.target_module import LinearHead, MatrixHead, SourceOutput, TargetModule
from sklearn_v2s.training import V2SNet, build_net, stratified_validation_rows
from sklearn_v2s.training_callbacks import EpochAccuracy, KeepState

__all__ = ["ReprogrammedFit"]


def _heard(
    series: np.ndarray, fixed: np.ndarray, rows: np.ndarray
) -> dict[str, np.ndarray]:
    """Return what the net takes of some series; views without training may lack."""
    heard = {"series": series[rows], "row": rows}
    return heard | ({"fixed": fixed[rows]} if fixed.shape[1] else {})


class ReprogrammedFit(BaseV2S):
    """The steps of a fit: prepare, train, fit the label mapping again, finish.

    `sklearn_v2s.V2SClassifier` has the parameters and puts the steps together.
    """

    # Parameters of the classifier.
    batch_size: int
    callbacks: list[Any] | None
    device: Any
    dropout: float
    early_stopping: bool
    fine_tune: bool
    l2: float
    label_mapping: Any
    lr: float
    lr_schedule: Literal["constant", "cosine"]
    mapping_size: int | None
    mask: bool
    max_epochs: int
    n_iter_no_change: int
    n_views: int
    source: Any
    source_lr: float
    source_output: SourceOutput
    train_gain: bool
    validation_fraction: float
    verbose: int

    # Set by the fit.
    classes_: np.ndarray
    history_: list[dict[str, float]]
    input_gain_: np.ndarray
    label_mapping_: Any
    n_iter_: int
    net_: V2SNet
    perturbation_: np.ndarray

    def _new_mapping(self, seed: int) -> Any:
        mapping = new_mapping(self.label_mapping, self.mapping_size, seed)
        if getattr(mapping, "reads_logits", False) and self.source_output != "logits":
            raise ValueError(
                f"label_mapping={self.label_mapping!r} reads the words of the source, "
                f"but source_output={self.source_output!r}. Set "
                "source_output='logits', or label_mapping='linear', which reads any "
                "output."
            )
        return mapping

    def _prepare(
        self,
        series: np.ndarray,
        codes: np.ndarray,
        weight: np.ndarray,
        continued: bool,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Build or take over the module and fit the mapping.

        Returns normalised series and the features of the views without training.
        """
        seeds = self._seeds(3 + self.n_views)
        self._shuffle_seed, self._split_seed, mapping_seed = seeds[:3]
        # A mapping of words goes on as it is; others begin anew.
        keeps_mapping = continued and self._reads_logits()
        mapping = (
            self.label_mapping_ if keeps_mapping else self._new_mapping(mapping_seed)
        )
        views = self._resolve_views(getattr(mapping, "reads_logits", False))
        if self.max_epochs > 0 and "replicas" not in views:
            raise ValueError(
                f"max_epochs={self.max_epochs} trains the perturbation of the view "
                f"'replicas', which views={self.views!r} lacks. Add it, or set "
                "max_epochs=0."
            )
        if continued:
            owns = self._reprogrammed().owns_source
            if owns != self.fine_tune:
                raise ValueError(
                    f"warm_start=True goes on from a fit with fine_tune={owns}, but "
                    f"fine_tune={self.fine_tune}. Set warm_start=False to begin anew."
                )
            if views != self.views_:
                raise ValueError(
                    f"warm_start=True needs the views of the previous fit, "
                    f"{list(self.views_)}, but views={self.views!r} now means "
                    f"{list(views)}. Set warm_start=False to begin anew."
                )
            before = self.net_.module_.reprogrammed
            # A copy: if this fit fails, the previous one stays.
            reprogrammed = ReprogrammedSource(
                independent_copy(before.source) if owns else before.source,
                before.placement,
                copy.deepcopy(before.perturbation),
                owns_source=owns,
            )
        else:
            self.views_ = views
            self._fit_normalizer(series, weight)
            shared_source = load_source(self.source, self._dtype)
            self._source_reference = getattr(shared_source, "reference", None)
            reprogrammed = self._new_reprogrammed(shared_source, seeds[3:])
            reprogrammed.placement.warn_if_resampling()
        self._enter_device(reprogrammed)
        given, series = series, self._normalizer.transform(series)
        if not continued:
            self._temperature_limit = np.inf
            self._fit_fixed_views(shared_source, given, series, mapping_seed)
        self.label_mapping_ = mapping
        if keeps_mapping:
            fixed = self._fixed_features(series)
        else:
            fixed = self._fit_mapping(reprogrammed, series, None, codes, weight)
        if not continued:
            self._temperature_limit = self._temperature()
        self._module = self._target_module(reprogrammed)
        return series, fixed

    def _new_reprogrammed(self, source: Any, seeds: list[int]) -> ReprogrammedSource:
        return self._build(
            source,
            seeds,
            mask=self.mask,
            dropout=self.dropout,
            train_gain=self.train_gain,
            fine_tune=self.fine_tune,
        )

    def _enter_device(self, reprogrammed: ReprogrammedSource) -> None:
        """Move a module to the device of the fit; `_leave_device` brings it back."""
        device = resolve_device(self.device)
        warn_of_sharing(device)
        self._cpu_source = reprogrammed.source
        if device.type != "cpu":
            reprogrammed.to(device)
            if not reprogrammed.owns_source:
                reprogrammed.hear_with(copy_source(self._cpu_source).to(device))

    @contextmanager
    def _unchanged_on_failure(self) -> Iterator[None]:
        net = getattr(self, "net_", None)
        if net is None:
            with super()._unchanged_on_failure():
                yield
            return
        # partial_fit trains the net itself.
        module, optimizer = copy.deepcopy(
            (net.module_.state_dict(), net.optimizer_.state_dict())
        )
        n_epochs = len(net.history)
        try:
            with super()._unchanged_on_failure():
                yield
        except BaseException:
            net.module_.load_state_dict(module)
            net.optimizer_.load_state_dict(optimizer)
            del net.history[n_epochs:]
            self._set_callbacks(None)
            raise

    def _leave_device(self) -> None:
        if not hasattr(self, "_module"):
            return
        self._module.to("cpu")
        self._module.reprogrammed.hear_with(self._cpu_source)
        if hasattr(self, "net_"):
            self.net_.hold_optimizer_on("cpu")

    def _reads_logits(self) -> bool:
        return getattr(self.label_mapping_, "reads_logits", False)

    def _fit_mapping(
        self,
        reprogrammed: ReprogrammedSource,
        series: np.ndarray,
        fixed: np.ndarray | None,
        codes: np.ndarray,
        weight: np.ndarray,
    ) -> np.ndarray:
        """Fit the label mapping; return the features of the views without training.

        `fixed` are these features where they are known.
        """
        if fixed is None:
            fixed = self._fixed_features(series)
        features = self._features(reprogrammed, series, fixed, self._reads_logits())
        n_replicas = features.shape[1] - fixed.shape[1]
        # A view, so that nothing is held twice while the mapping needs memory.
        fixed = features[:, n_replicas:]
        if self.label_mapping_.get_params().get("block_sizes", 0) is None:
            self.label_mapping_.set_params(block_sizes=self._block_sizes(n_replicas))
        fit_mapping(self.label_mapping_, features, codes, weight, len(self.classes_))
        if isinstance(self.label_mapping_, LinearLabelMapping):
            # A trained perturbation has seen the labels: its leave-one-out scores are
            # too good and would make probabilities too sure. Those of the random one,
            # before any training, are honest.
            self.label_mapping_.temperature_ = min(
                self._temperature(), self._temperature_limit
            )
        return fixed

    def _temperature(self) -> float:
        return float(getattr(self.label_mapping_, "temperature_", np.inf))

    def _target_module(self, reprogrammed: ReprogrammedSource) -> TargetModule:
        mapping = self.label_mapping_
        head: MatrixHead | LinearHead
        if hasattr(mapping, "weights_") and hasattr(mapping, "aggregation"):
            head = MatrixHead(mapping)
        else:
            source = reprogrammed.source
            sizes = {"logits": len(source.classes), "embedding": source.embedding_size}
            sizes["both"] = sum(sizes.values())
            n_replicas = sizes[self.source_output] * len(
                reprogrammed.perturbation.delta
            )
            n_features = sum(self._block_sizes(n_replicas))
            head = LinearHead(mapping, n_features, len(self.classes_))
        delta = reprogrammed.perturbation.delta
        return TargetModule(
            reprogrammed, head.to(delta), self.source_output, "replicas" in self.views_
        )

    def _start_net(self, n_train: int, validation: Any, schedule: Any) -> None:
        self.net_ = build_net(
            self._module,
            self.label_mapping_,
            n_train,
            validation,
            n_iter_no_change=self.n_iter_no_change,
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            source_lr=self.source_lr,
            lr_schedule=schedule,
            l2=self.l2,
            seed=self._shuffle_seed,
            device=self._module.reprogrammed.perturbation.delta.device,
            verbose=self.verbose,
            callbacks=self.callbacks,
        )

    def _resume_net(self) -> None:
        """Make the net ready to go on with the parameters as they are now."""
        self._module = self.net_.module_
        self._enter_device(self._module.reprogrammed)
        device = resolve_device(self.device)
        self._module.to(device)
        self.net_.hold_optimizer_on(device)
        self.net_.set_params(batch_size=self.batch_size, l2=self.l2)
        self._set_callbacks(
            [
                ("accuracy", EpochAccuracy()),
                ("keep_state", KeepState(None)),
                *(self.callbacks or []),
            ]
        )
        # A cosine schedule of `fit` has left the learning rate at its end.
        source_weights = set(self._module.reprogrammed.source.parameters())
        for group in self.net_.optimizer_.param_groups:
            of_source = not source_weights.isdisjoint(group["params"])
            group["lr"] = self.source_lr if of_source else self.lr

    def _set_callbacks(self, callbacks: list[Any] | None) -> None:
        self.net_.set_params(callbacks=callbacks)
        # skorch takes over the parameter after it has used the one before.
        self.net_.initialize_callbacks()

    def _run(
        self,
        series: np.ndarray,
        fixed: np.ndarray,
        codes: np.ndarray,
        weight: np.ndarray,
        epochs: int,
        rows: np.ndarray,
    ) -> None:
        """Train on some of the rows; the others may be those to validate on."""
        # Weights of mean 1, so that the loss is a mean and lr keeps its meaning.
        X = {
            **_heard(series, fixed, rows),
            "sample_weight": weight[rows] / weight[rows].mean(),
            "count": weight[rows],
        }
        before = len(self.net_.history)
        with self._module.reprogrammed.training_on(series):
            self.net_.partial_fit(X, codes[rows], epochs=epochs)
        if self.net_.interrupted_:
            done = len(self.net_.history) - before
            warnings.warn(
                f"the training was interrupted after {done} complete epochs of "
                f"{epochs}; the estimator keeps the best state so far.",
                UserWarning,
                stacklevel=3,
            )
        self._check_convergence(len(self.net_.history))

    def _check_convergence(self, n_epochs: int) -> None:
        delta = self._module.reprogrammed.perturbation.delta
        if not torch.isfinite(delta).all():
            raise ValueError(
                "the training diverged: the perturbation has NaN or infinity after "
                f"{n_epochs} epochs with lr={self.lr!r}, l2={self.l2!r} "
                f"and precision={self.precision!r}. Use a smaller lr."
            )

    def _split(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the rows to train on and those to validate on, if there are any."""
        everything = np.arange(len(codes))
        if not self.early_stopping:
            return everything, None
        rng = np.random.default_rng(self._split_seed)
        rows = stratified_validation_rows(codes, self.validation_fraction, rng)
        return np.setdiff1d(everything, rows), rows

    def _train(
        self,
        series: np.ndarray,
        fixed: np.ndarray,
        codes: np.ndarray,
        weight: np.ndarray,
    ) -> None:
        train, rows = self._split(codes)
        validation = None
        if rows is not None:
            held_out = weight[rows] / weight[rows].mean()
            validation = (
                _heard(series, fixed, rows) | {"sample_weight": held_out},
                codes[rows],
            )
        self._start_net(len(train), validation, self.lr_schedule)
        self._run(series, fixed, codes, weight, self.max_epochs, train)
        self._fit_mapping_again(series, fixed, codes, weight)

    def _fit_mapping_again(
        self,
        series: np.ndarray,
        fixed: np.ndarray,
        codes: np.ndarray,
        weight: np.ndarray,
    ) -> None:
        """Fit a mapping that was trained along in closed form to all data."""
        if not self._reads_logits():
            self._fit_mapping(self._module.reprogrammed, series, fixed, codes, weight)
            # partial_fit goes on from there.
            head = self._target_module(self._module.reprogrammed).head
            self._module.head.load_state_dict(head.state_dict())

    def _read_head(self) -> None:
        """Make the label mapping what the gradient made of it."""
        head = self._module.head
        if isinstance(head, LinearHead) and isinstance(
            self.label_mapping_, LinearLabelMapping
        ):
            # On the CPU first: not every device has float64.
            coef, intercept = (
                value.detach().cpu().double().numpy().copy()
                for value in (head.weight, head.bias)
            )
            self.label_mapping_.coef_ = coef
            self.label_mapping_.intercept_ = intercept
            self.label_mapping_.temperature_ = 1.0

    def _finish(self) -> None:
        """Bring everything that is kept to the CPU and set the public attributes."""
        if not hasattr(self, "net_") or self.net_.module_ is not self._module:
            self._start_net(1, None, schedule="constant")
        self._leave_device()
        self.net_.forget_training()
        # The callbacks are the user's; the net does not take them into a pickle.
        self._set_callbacks(None)
        # Unpickling would bring the net to the device that is named here.
        self.net_.device = "cpu"
        self.history_ = epoch_rows(self.net_.history)
        self.n_iter_ = len(self.history_)
        del self._module, self._cpu_source
        self.perturbation_ = self._perturbation
        gain = self._reprogrammed().perturbation.gain
        self.input_gain_ = gain.detach().numpy()

    def _reprogrammed(self) -> ReprogrammedSource:
        return self.net_.module_.reprogrammed
