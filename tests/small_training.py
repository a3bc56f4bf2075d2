# SPDX-License-Identifier: Apache-2.0
"""A training that takes no time, and what tests ask of it."""

from types import SimpleNamespace

import numpy as np
import torch

from sklearn_v2s.label_mapping import (
    ContiguousLabelMapping,
)
from sklearn_v2s.label_mapping.heads import LinearHead, MatrixHead
from sklearn_v2s.perturbation import Perturbation, ReprogrammedSource, collect_outputs
from sklearn_v2s.placement import ReplicaPlacement
from sklearn_v2s.sources.contract import freeze
from sklearn_v2s.training.module import TargetModule
from sklearn_v2s.training.net import TrainingSettings, build_v2s_net
from sklearn_v2s.views.source_views import read_outputs
from tests.tiny_source import TinySource

CPU = torch.device("cpu")


def make_data(n=12, n_classes=3, n_timepoints=30, seed=0):
    """Return series that tell classes apart by their frequency, and the classes."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % n_classes
    time = np.arange(n_timepoints) / n_timepoints
    waves = np.sin(2 * np.pi * (3 * codes[:, None] + 2) * time)
    return (waves + 0.3 * rng.normal(size=waves.shape))[:, None, :], codes


def make_module(
    mapping,
    series,
    codes,
    *,
    source=None,
    seeds=(0,),
    source_output="logits",
    mask=False,
    n_segments=3,
    dtype=torch.float64,
    **parameters,
):
    """Return a module with a mapping fitted to what the source says at the start."""
    source = freeze((source or TinySource()).to(dtype))
    placement = ReplicaPlacement(
        source.input_length, 1, series.shape[2], n_segments=n_segments
    )
    perturbation = Perturbation(
        source.input_length,
        [torch.Generator().manual_seed(seed) for seed in seeds],
        mask=placement.mask() if mask else None,
        **parameters,
    )
    reprogrammed = ReprogrammedSource(source, placement, perturbation.to(dtype))
    outputs = collect_outputs(reprogrammed, series)
    features = read_outputs(outputs, source_output, mapping.reads_logits)
    mapping.fit(features, codes)
    if mapping.reads_logits:
        head = MatrixHead(mapping)
    else:
        head = LinearHead(mapping, features.shape[1], codes.max() + 1)
    return TargetModule(reprogrammed, head.to(dtype), source_output)


def make_net(module, mapping, n_train, validation=None, **parameters):
    if validation is not None:
        validation = as_input(*validation)
    defaults = {
        "n_iter_no_change": 100,
        "max_epochs": 5,
        "batch_size": 4,
        "lr": 0.05,
        "source_lr": 0.01,
        "lr_schedule": "constant",
        "l2": 0.0,
        "shuffle_seed": 0,
        "verbose": 0,
        "callbacks": (),
    }
    settings = TrainingSettings(**(defaults | parameters))
    return build_v2s_net(
        module, mapping, n_train, validation, settings, refits_mapping=True
    )


def as_input(series, codes, weight=None):
    """Return X and y of a net, with weights of mean 1 as the estimator gives them."""
    weight = np.ones(len(codes)) if weight is None else np.asarray(weight, float)
    return {
        "series": series,
        "row": np.arange(len(codes)),
        "sample_weight": weight / weight.mean(),
    }, codes


def train(net, series, codes, weight=None, epochs=None):
    return net.partial_fit(*as_input(series, codes, weight), epochs=epochs)


def tensors(X, y):
    return {name: torch.as_tensor(value) for name, value in X.items()}, torch.as_tensor(
        y
    )


def loss_of(net, series, codes, weight=None, training=False):
    """Return the loss of all rows as the net computes it for one batch."""
    X, y = tensors(*as_input(series, codes, weight))
    net.module_.train(training)
    return net.get_loss(net.infer(X), y, X=X, training=training)


def delta_of(module):
    return module.reprogrammed.perturbation.delta.detach().clone()


def small_training(mapping=None, validation=None, callbacks=None, **parameters):
    """Return everything of a training on the small data that is about to start."""
    series, codes = make_data()
    mapping = mapping or ContiguousLabelMapping()
    own = ("seeds", "source_output", "mask", "dropout", "train_gain", "init_scale")
    of_module = {key: parameters.pop(key) for key in own if key in parameters}
    module = make_module(mapping, series, codes, **of_module)
    net = make_net(
        module, mapping, len(codes), validation, callbacks=callbacks or (), **parameters
    )
    return SimpleNamespace(
        net=net, module=module, mapping=mapping, series=series, codes=codes
    )
