# SPDX-License-Identifier: Apache-2.0
"""A training step, against the way in which one would write the paper down.

The straightforward side is what a reader of the paper would write with torchaudio: the
spectrogram of each placed series plus perturbation inside autograd, and the network as
plain layers.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from docs.studies.speed.measure import (
    MOST_RUNS,
    Found,
    Measure,
    Setting,
    Target,
    Unavailable,
    make_waves,
    shares_of_operators,
    time_in_turns,
)
from sklearn_v2s.label_mapping import RandomLabelMapping
from sklearn_v2s.label_mapping.heads import MatrixHead
from sklearn_v2s.perturbation import Perturbation, ReprogrammedSource
from sklearn_v2s.placement import ReplicaPlacement
from sklearn_v2s.sources.contract import SourceOutputs
from sklearn_v2s.sources.fast.compiled import compiled_layers
from sklearn_v2s.sources.networks.attrnn import AttRNN
from sklearn_v2s.sources.registry import load_source, source_on
from sklearn_v2s.training.module import TargetModule
from sklearn_v2s.training.net import (
    RowsOnDevice,
    TrainingSettings,
    V2SNet,
    build_v2s_net,
)

__all__ = ["PlainLayers", "measures"]

_BATCH, _LENGTH, _SEGMENTS, _CLASSES = 32, 500, 3, 2
_L2, _LR = 0.04, 0.05
# What a step spends its time in, by the names that torch gives it on a CPU.
_OPERATORS = {
    "recurrent layers, forward": ("aten::mkldnn_rnn_layer", "_CompiledLSTM"),
    "recurrent layers, backward": (
        "aten::mkldnn_rnn_layer_backward",
        "_CompiledLSTMBackward",
    ),
    "convolutions": ("_CompiledConvolutions", "_CompiledConvolutionsBackward"),
    "products of matrices": ("aten::mm", "aten::bmm", "aten::baddbmm", "aten::addmm"),
    "transforms": ("aten::_fft_r2c", "aten::_fft_c2r"),
}
# Series of which each step takes a batch.
_SERIES = 128


class PlainLayers(nn.Module):
    """AttRNN as its layers stand in the paper, in the layouts that torch starts with.

    Parameters
    ----------
    network : AttRNN
        Whose layers to take.
    """

    def __init__(self, network: AttRNN) -> None:
        super().__init__()
        self.layers = network

    def forward(self, features: Tensor) -> SourceOutputs:
        """Return the source outputs of features."""
        return self.classify(self.convolve(features))

    def convolve(self, features: Tensor) -> Tensor:
        """Return features after both convolutions."""
        layers = self.layers
        maps = layers.norm1(torch.relu(layers.conv1(features.unsqueeze(1))))
        return layers.norm2(torch.relu(layers.conv2(maps))).squeeze(1)

    def classify(self, features: Tensor) -> SourceOutputs:
        """Return the source outputs of what comes out of the convolutions."""
        layers = self.layers
        states1, _ = layers.lstm1(features)
        states2, _ = layers.lstm2(states1)
        query = layers.query(states2[:, -1]).unsqueeze(-1)
        attention = torch.softmax((states2 @ query).squeeze(-1), dim=1)
        context = (attention.unsqueeze(1) @ states2).squeeze(1)
        hidden = layers.dense2(torch.relu(layers.dense1(context)))
        pooled = [
            states
            for two in (states1, states2)
            for states in (two.mean(1), two.amax(1))
        ]
        return SourceOutputs(layers.output(hidden), torch.cat(pooled, dim=1))


class _Straightforward(nn.Module):
    """Placed series plus perturbation, through torchaudio, to target-class scores.

    Parameters
    ----------
    source : SourceModel
        AttRNN with the front end "kapre".
    network : nn.Module
        Its network, or another form of it.
    perturbation : Perturbation
        Where to start from.
    weights : Tensor of shape (n_source_classes, n_classes)
        Of the label mapping.
    """

    mask: Tensor
    weights: Tensor

    def __init__(
        self,
        source: Any,
        network: nn.Module,
        perturbation: Perturbation,
        weights: Tensor,
    ) -> None:
        super().__init__()
        try:
            from torchaudio.transforms import MelSpectrogram
        except (ImportError, OSError) as error:
            raise Unavailable(f"torchaudio is needed: {error}") from error
        config = source.front_end.config
        self.padding = config.pad_left, config.pad_right
        self.mel = MelSpectrogram(
            config.sample_rate,
            n_fft=config.n_fft,
            hop_length=config.hop_length,
            f_min=config.f_min,
            f_max=config.f_max,
            n_mels=config.n_mels,
            center=False,
            norm=config.mel_norm,
            mel_scale=config.mel_scale,
        )
        self.network = network
        self.delta = nn.Parameter(perturbation.delta.detach().clone())
        self.register_buffer("mask", perturbation.mask)
        self.register_buffer("weights", weights)

    def bands(self, placed: Tensor) -> Tensor:
        """Return mel bands of shape (batch, n_mels, n_frames)."""
        waveforms = placed + self.mask * self.delta
        return self.mel(nn.functional.pad(waveforms, self.padding))

    def forward(self, placed: Tensor) -> Tensor:
        """Return logarithms of the scores of the target classes."""
        level = 5 * torch.log10(self.bands(placed).clamp_min(1e-20))
        level = (level - level.amax((-2, -1), keepdim=True)).clamp_min(-80.0)
        mean = level.mean((-2, -1), keepdim=True)
        std = level.std((-2, -1), unbiased=False, keepdim=True)
        features = ((level - mean) / (std + 1e-10)).transpose(-1, -2)
        probabilities = torch.softmax(self.network(features).logits, dim=1)
        return torch.log(probabilities @ self.weights)


class _Problem:
    """A batch, and both sides ready to make a step on it."""

    def __init__(self, setting: Setting) -> None:
        device = setting.device
        X, y = make_waves(_SERIES, _LENGTH, setting.seed, _CLASSES)
        series = X[:, None].astype(np.float32)
        source = source_on(load_source("attrnn"), device)
        self.source, self.series = source, series
        placement = ReplicaPlacement(
            source.input_length,
            n_channels=1,
            n_timepoints=_LENGTH,
            n_segments=_SEGMENTS,
        )
        perturbation = Perturbation(
            source.input_length,
            [torch.Generator().manual_seed(setting.seed)],
            mask=placement.mask(),
        ).to(device)
        mapping = RandomLabelMapping(random_state=setting.seed)
        mapping.fit(np.zeros((_CLASSES, len(source.classes))), np.arange(_CLASSES))
        self.ours = ReprogrammedSource(source, placement, perturbation)
        head = MatrixHead(mapping).to(perturbation.delta)
        self.module = TargetModule(self.ours, head, "logits")
        self.mapping = mapping
        self.weights = head.weights.clone()
        self.initial = perturbation.delta.detach().clone()
        rng = np.random.default_rng(setting.seed)
        rows = rng.choice(_SERIES, _BATCH, replace=False)
        data = {
            "series": series,
            "row": np.arange(_SERIES),
            "sample_weight": np.ones(_SERIES),
        }
        # As the net gets it in a fit: on the device.
        on_device = RowsOnDevice(data, y, perturbation.delta)
        self.batch, self.target = on_device.__getitems__(rows.tolist())
        self.placed = placement.place(self.batch["series"])

    def straightforward(self, network: nn.Module) -> _Straightforward:
        """Return the other side, at the same start."""
        perturbation = self.ours.perturbation
        other = _Straightforward(self.source, network, perturbation, self.weights)
        return other.to(self.placed.device)

    def net(self) -> V2SNet:
        """Return what `V2SClassifier` trains with."""
        return build_v2s_net(
            self.module,
            self.mapping,
            _SERIES,
            None,
            TrainingSettings(
                max_epochs=1,
                batch_size=_BATCH,
                lr=_LR,
                source_lr=_LR,
                lr_schedule="constant",
                l2=_L2,
                n_iter_no_change=1,
                shuffle_seed=0,
            ),
            refits_mapping=False,
        )


def _conditions(setting: Setting, runs: int, **more: Any) -> dict[str, Any]:
    shape = {"batch": _BATCH, "length": _LENGTH, "n_segments": _SEGMENTS}
    return {**shape, "runs": runs, "threads": setting.threads, **more}


def _step(setting: Setting, plain_layers: bool) -> Found:
    problem = _Problem(setting)
    net = problem.net()
    network = problem.source.network
    other = problem.straightforward(PlainLayers(network) if plain_layers else network)
    optimizer = torch.optim.Adam([other.delta], lr=_LR)

    def our_step() -> None:
        net.train_step((problem.batch, problem.target))

    def their_step() -> None:
        optimizer.zero_grad()
        loss = nn.functional.nll_loss(other(problem.placed), problem.target)
        loss = loss + _L2 * (other.mask * other.delta).square().sum()
        loss.backward()
        optimizer.step()

    our_step()
    their_step()
    ours = problem.ours.perturbation.delta.grad
    theirs = other.delta.grad
    assert ours is not None and theirs is not None
    difference = float((ours - theirs).norm() / theirs.norm())
    with problem.ours.training_on(problem.series):
        (mine, plain), runs = time_in_turns(
            [our_step, their_step],
            setting.device,
            most_runs=setting.sized(MOST_RUNS, 1),
        )
    layers = "plain torch layers" if plain_layers else "the network of this package"
    conditions = _conditions(
        setting,
        runs,
        other=f"torchaudio MelSpectrogram inside autograd, {layers}, Adam",
        relative_difference_of_gradients=difference,
        shares_of_ours=shares_of_operators(our_step, _OPERATORS),
    )
    return Found(mine, plain, conditions=conditions, valid=difference < 1e-2)


def _front_end(setting: Setting) -> Found:
    problem = _Problem(setting)
    other = problem.straightforward(problem.source.network)
    ours = problem.ours
    front_end = problem.source.front_end
    shared = ours.shared_spectrogram
    assert shared is not None
    spectra = shared.transform(front_end, problem.placed)
    n_frames = front_end.config.n_mels, other.bands(problem.placed).shape[-1]
    slope = torch.randn(
        (_BATCH, *n_frames), generator=torch.Generator().manual_seed(setting.seed)
    ).to(problem.placed.device)

    def our_pass() -> Tensor:
        perturbation = ours.perturbation
        added, gain = perturbation.added(), perturbation.gain
        with compiled_layers():
            bands = shared.mel(front_end, spectra, added, gain)[:, 0].transpose(1, 2)
        (gradient,) = torch.autograd.grad(bands, perturbation.delta, slope)
        return gradient

    def their_pass() -> Tensor:
        bands = other.bands(problem.placed)
        (gradient,) = torch.autograd.grad(bands, other.delta, slope)
        return gradient

    theirs = their_pass()
    difference = float((our_pass() - theirs).norm() / theirs.norm())
    (mine, plain), runs = time_in_turns(
        [our_pass, their_pass], setting.device, most_runs=setting.sized(MOST_RUNS, 1)
    )
    conditions = _conditions(
        setting,
        runs,
        other="torchaudio MelSpectrogram inside autograd",
        relative_difference_of_gradients=difference,
    )
    return Found(mine, plain, conditions=conditions, valid=difference < 1e-3)


def measures(setting: Setting) -> list[Measure]:
    """Return the measures of a step and of the part that transforms waveforms."""
    target = Target("ratio", 2.5, at_least=True)
    return [
        Measure(
            "training step, plain layers", lambda rows: _step(setting, True), target
        ),
        Measure(
            "training step, our network", lambda rows: _step(setting, False), target
        ),
        Measure(
            "waveform to mel bands and back",
            lambda rows: _front_end(setting),
            Target("ratio", 8.0, at_least=True),
        ),
    ]
