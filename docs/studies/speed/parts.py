# SPDX-License-Identifier: Apache-2.0
"""Single parts of the work, against the way in which libraries do them.

Where `docs.studies.speed.step` looks at a whole training step, these measures
say what each of the changes behind it is worth.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from torch import Tensor
from torch.nn import functional

from docs.studies.speed.measure import (
    MOST_RUNS,
    Found,
    Measure,
    Setting,
    Target,
    Unavailable,
    make_waves,
    time_in_turns,
)
from docs.studies.speed.step import PlainLayers
from sklearn_v2s.label_mapping import LinearLabelMapping
from sklearn_v2s.sources.fast.compiled import compiled_layers
from sklearn_v2s.sources.registry import load_source, source_on
from sklearn_v2s.views.wave import WaveView

__all__ = ["measures", "plain_kernels"]

_BATCH, _SERIES, _LENGTH = 32, 200, 500
_ROWS, _FEATURES, _SQUARE = 1000, 6000, 1024


def _source(name: str, device: torch.device) -> Any:
    return source_on(load_source(name), device)


def _compare(
    setting: Setting,
    sides: tuple[Callable[[], Any], Callable[[], Any]],
    difference: float,
    tolerance: float,
    **conditions: Any,
) -> Found:
    (mine, theirs), runs = time_in_turns(
        sides, setting.device, most_runs=setting.sized(MOST_RUNS, 1)
    )
    conditions |= {
        "runs": runs,
        "threads": setting.threads,
        "largest_difference": difference,
    }
    return Found(mine, theirs, conditions=conditions, valid=difference <= tolerance)


def _features(setting: Setting) -> Tensor:
    """Return a batch as AttRNN gets it."""
    generator = torch.Generator().manual_seed(setting.seed)
    return torch.randn((_BATCH, 125, 80), generator=generator).to(setting.device)


def _there_and_back(
    setting: Setting,
    ours: Callable[[Tensor], Tensor],
    other: Callable[[Tensor], Tensor],
) -> Found:
    """Compare two forms of layers of AttRNN on features of a batch."""
    features = _features(setting).requires_grad_()

    def gradient(layers: Callable[[Tensor], Tensor]) -> Tensor:
        (found,) = torch.autograd.grad(layers(features).square().sum(), features)
        return found

    def our_gradient() -> Tensor:
        with compiled_layers():
            return gradient(ours)

    mine, theirs = our_gradient(), gradient(other)
    return _compare(
        setting,
        (our_gradient, lambda: gradient(other)),
        float((mine - theirs).abs().max() / theirs.abs().max()),
        1e-3,
        batch=_BATCH,
        other="the same layers by torch",
    )


def _convolutions(setting: Setting) -> Found:
    network = _source("attrnn", setting.device).network
    return _there_and_back(setting, network.convolve, PlainLayers(network).convolve)


def _recurrent_operations(network: Any) -> int:
    """Return how many operations the recurrent layers take for a batch, one way."""
    weights = sum(
        weight.numel()
        for layer in (network.lstm1, network.lstm2)
        for name, weight in layer.named_parameters()
        if name.startswith("weight")
    )
    return 2 * _BATCH * 125 * weights


def _recurrent(setting: Setting) -> Found:
    network = _source("attrnn", setting.device).network
    plain = PlainLayers(network)
    found = _there_and_back(
        setting,
        lambda maps: network.classify(maps).embedding,
        lambda maps: plain.classify(maps).embedding,
    )
    # There and back to the input: as much each.
    operations = 2 * _recurrent_operations(network)
    for side, seconds in (("ours", found.ours), ("torch", found.other)):
        assert seconds is not None
        rate = operations / seconds / 1e9
        found.conditions[f"GFLOP/s that count, {side}"] = round(rate, 1)
    return found


def _bfloat16(setting: Setting) -> Found:
    """Measure what passes of lower precision would gain, and what they would cost."""
    network = _source("attrnn", setting.device).network
    features = _features(setting)

    @torch.inference_mode()
    def exact() -> Tensor:
        return network(features).embedding

    def rounded() -> Tensor:
        with torch.autocast(setting.device.type, torch.bfloat16):
            return exact()

    expected = exact()
    try:
        one = rounded()
    except RuntimeError as error:  # oneDNN has such layers for newer processors alone
        raise Unavailable(f"no recurrent layer in bfloat16 here: {error}") from error
    difference = float((one - expected).norm() / expected.norm())
    (mine, theirs), runs = time_in_turns(
        [rounded, exact], setting.device, most_runs=setting.sized(MOST_RUNS, 1)
    )
    conditions = {
        "batch": _BATCH,
        "other": "the same in float32, which passes without gradients take",
        "runs": runs,
        "threads": setting.threads,
        "relative_difference": difference,
        "GFLOP/s of recurrent layers in a pass, float32": round(
            _recurrent_operations(network) / theirs / 1e9, 1
        ),
    }
    return Found(mine, theirs, conditions=conditions)


def _limit(setting: Setting) -> Found:
    """Measure what products of matrices reach: no layer computes quicker."""
    size = setting.sized(_SQUARE, 64)
    square = torch.ones((size, size), device=setting.device)
    (seconds,), runs = time_in_turns(
        [lambda: square @ square],
        setting.device,
        most_runs=setting.sized(MOST_RUNS, 1),
    )
    conditions = {"size": size, "runs": runs, "threads": setting.threads}
    rate = 2 * size**3 / seconds / 1e9
    return Found(rate, unit="GFLOP/s", conditions=conditions)


def plain_kernels(view: WaveView, front_end: Any, series: Tensor) -> Tensor:
    """Pool the responses as one would write it down, layer by layer."""
    kinds: list[list[Tensor]] = [[], [], [], []]
    for index, dilation in enumerate(view.dilations):
        kernels = front_end.kernels[view.chosen[0].to(series.device), None]
        reach = (kernels.shape[2] - 1) * dilation // 2
        found = functional.conv1d(
            series[:, None], kernels, padding=reach, dilation=dilation
        )
        thresholds = view.thresholds[0, index].to(series.device)
        above = found[:, None] > thresholds[:, :, None]
        first = above[:, 0].to(found.dtype)
        groups = found.unflatten(1, (-1, 7))
        wins = [
            (groups == best).to(found.dtype).mean(3).flatten(1).sqrt()
            for best in (groups.amax(2, keepdim=True), groups.amin(2, keepdim=True))
        ]
        kinds[0].append(above.to(found.dtype).mean(3).flatten(1))
        kinds[1].append(functional.adaptive_avg_pool1d(first, 4).flatten(1))
        kinds[2].append(torch.cat(wins, dim=1))
        kinds[3].append(torch.cat([found.amax(2), found.amin(2)], dim=1))
    return torch.cat([torch.cat(kind, dim=1) for kind in kinds], dim=1)


def _kernel_bank(setting: Setting) -> Found:
    source = load_source("wavebank")
    n = setting.sized(_SERIES, 8)
    X, _ = make_waves(n, _LENGTH, setting.seed)
    series = X[:, None].astype(np.float32)
    view = WaveView(source, False, 1, _LENGTH, setting.seed)
    view.fit(series, np.arange(n))
    front_end = _source("wavebank", setting.device).front_end

    def ours() -> np.ndarray:
        return view.features(series, setting.device)

    def theirs() -> np.ndarray:
        parts = torch.from_numpy(series[:, 0]).split(_BATCH)
        with torch.inference_mode():
            return np.concatenate(
                [
                    plain_kernels(view, front_end, part.to(setting.device))
                    .cpu()
                    .numpy()
                    for part in parts
                ]
            )

    # A response at a threshold may fall on either side of it by rounding.
    difference = float(np.abs(ours() - theirs()).mean())
    return _compare(
        setting,
        (ours, theirs),
        difference,
        1e-4,
        n=n,
        length=_LENGTH,
        other="torch: conv1d, comparisons and means, in batches of 32",
    )


def _ridge(setting: Setting) -> Found:
    n, d = setting.sized(_ROWS, 30), setting.sized(_FEATURES, 60)
    rng = np.random.default_rng(setting.seed)
    y = np.arange(n) % 4
    X = rng.normal(size=(n, d)) + 0.1 * rng.normal(size=(4, d))[y]
    X -= X.mean(axis=0)
    X /= X.std(axis=0)
    alphas = np.logspace(-7, -2, 21) * n * d
    targets = 2.0 * np.eye(4)[y] - 1
    ours = LinearLabelMapping(alphas=alphas)
    other = RidgeCV(alphas=alphas)
    mine = ours.fit(X, y).decision_scores(X)
    theirs = other.fit(X, targets).predict(X)
    return _compare(
        setting,
        (lambda: ours.fit(X, y), lambda: other.fit(X, targets)),
        float(np.abs(mine - theirs).max()),
        1e-4,
        n=n,
        features=d,
        other="scikit-learn's RidgeCV, the same 21 penalties, no temperature",
    )


def measures(setting: Setting) -> list[Measure]:
    """Return the measures of single parts."""
    found = [Measure("products of matrices", lambda rows: _limit(setting))]
    parts = {
        "AttRNN's convolutions and back": _convolutions,
        "AttRNN's recurrent layers and back": _recurrent,
        "kernel bank, pooled": _kernel_bank,
        "ridge with leave-one-out": _ridge,
    }
    for name, part in parts.items():

        def run(
            rows: dict[str, dict[str, str]], part: Callable[..., Found] = part
        ) -> Found:
            return part(setting)

        found.append(Measure(name, run, Target("ratio", 1.0, at_least=True)))
    rounded = Measure("AttRNN in bfloat16, not used", lambda rows: _bfloat16(setting))
    return [*found, rounded]
