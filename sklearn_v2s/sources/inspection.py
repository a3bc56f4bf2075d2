# SPDX-License-Identifier: Apache-2.0
"""Activations of a source model: its layers, their maps, its attention."""

import copy
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from sklearn_v2s.sources.contract import SourceOutputs

__all__ = [
    "Activations",
    "as_maps",
    "candidate_layers",
    "default_layer",
    "explainable_layers",
    "record_activations",
    "unfrozen_copy",
]

# Last part of the name of a module that returns attention weights over time.
_ATTENTION = "attention"
_CHANNELS_FIRST = (_ConvNd, _BatchNorm)
_CHANNELS_LAST = (nn.RNNBase, nn.Linear, nn.LayerNorm)


class Activations(NamedTuple):
    """Outputs and activations of one forward pass of a source.

    Attributes
    ----------
    outputs : SourceOutputs
        Logits and embedding.
    layers : dict of str to Tensor
        What the layers returned, in the order of their calls, in the graph.
    maps : dict of str to Tensor
        The same values as (batch, n_maps, n_steps) or (batch, n_maps, n_steps,
        n_bands), where they can be read so.
    """

    outputs: SourceOutputs
    layers: dict[str, Tensor]
    maps: dict[str, Tensor]

    def attention(self) -> Tensor | None:
        """Return attention weights (batch, n_steps), or None without attention."""
        for name, output in self.layers.items():
            # Transformers have modules of that name that return no weights.
            if name.rpartition(".")[2] == _ATTENTION and output.dim() == 2:
                return output
        return None


def unfrozen_copy(source: nn.Module) -> nn.Module:
    """Return a copy whose layers are all called, one after the other.

    A frozen source may take shorter ways past its own layers.

    Parameters
    ----------
    source : nn.Module
        Frozen source; it is left as it is.

    Returns
    -------
    nn.Module
        With the same outputs.
    """
    copied = copy.deepcopy(source)
    for parameter in copied.parameters():
        # Whole numbers have no gradient.
        parameter.requires_grad_(parameter.is_floating_point())
    return copied


def record_activations(source: nn.Module, waveforms: Tensor) -> Activations:
    """Run a source and record what its layers return.

    Parameters
    ----------
    source : nn.Module
        As `unfrozen_copy` returns it.
    waveforms : Tensor of shape (batch, input_length)
        Input of the source.

    Returns
    -------
    Activations
        Outputs and layers.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.sources import load_source
    >>> from sklearn_v2s.sources.inspection import record_activations, unfrozen_copy
    >>> activations = record_activations(
    ...     unfrozen_copy(load_source("attrnn")), torch.zeros(1, 16000)
    ... )
    >>> activations.attention().shape
    torch.Size([1, 125])
    """
    layers: dict[str, Tensor] = {}
    maps: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, tuple):
                output = output[0]
            if isinstance(output, Tensor) and output.is_floating_point():
                layers[name] = output
                readable = as_maps(module, output)
                if readable is not None:
                    maps[name] = readable

        return hook

    with ExitStack() as hooks:
        for name, module in source.named_modules():
            if name:
                hooks.callback(module.register_forward_hook(keep(name)).remove)
        outputs = source(waveforms)
    return Activations(outputs, layers, maps)


def _channels_first(module: nn.Module) -> bool | None:
    """Return the layout of a layer's output; None if it is not known.

    It is that of the last part of the layer whose layout is known.
    """
    layout = None
    for part in module.modules():
        if isinstance(part, _CHANNELS_FIRST):
            layout = True
        elif isinstance(part, _CHANNELS_LAST):
            layout = False if getattr(part, "batch_first", True) else None
    return layout


def as_maps(module: nn.Module, output: Tensor) -> Tensor | None:
    """Return what a layer returned as maps, or None if it cannot be read so.

    Parameters
    ----------
    module : nn.Module
        The layer.
    output : Tensor
        What it returned, or the gradient of that.

    Returns
    -------
    Tensor of shape (batch, n_maps, n_steps) or (batch, n_maps, n_steps, n_bands)
        A view of `output`; None for an unknown layout or without a time axis.
    """
    layout = _channels_first(module)
    if layout is None or output.dim() not in (3, 4):
        return None
    maps = output if layout else output.movedim(-1, 1)
    return maps if maps.shape[2] > 1 else None


@torch.no_grad()
def _probe(source: Any) -> Activations:
    like = next(source.parameters(), torch.zeros(()))
    return record_activations(
        unfrozen_copy(source), like.new_zeros(1, source.input_length)
    )


def explainable_layers(source: Any) -> dict[str, tuple[int, ...]]:
    """Return the layers of a source whose activation can be mapped.

    Parameters
    ----------
    source : nn.Module
        A source model, as `sklearn_v2s.sources.load_source` returns it.

    Returns
    -------
    dict of str to tuple of int
        Name in ``named_modules`` to (n_maps, n_steps) or (n_maps, n_steps, n_bands), in
        the order in which they are called. Convolutions must return (batch, maps, time)
        or (batch, maps, time, frequency), other layers (batch, time, maps).

    Examples
    --------
    >>> from sklearn_v2s.explain import explainable_layers
    >>> from sklearn_v2s.sources import load_source
    >>> layers = explainable_layers(load_source("attrnn"))
    >>> layers["network.conv1"], layers["network.lstm2"]
    ((10, 125, 80), (128, 125))
    """
    return {name: tuple(maps.shape[1:]) for name, maps in _probe(source).maps.items()}


def default_layer(source: Any) -> str:
    """Return the layer to map if none is named: the first of `candidate_layers`.

    Parameters
    ----------
    source : nn.Module
        A source model.

    Returns
    -------
    str
        Name in ``named_modules``.

    Raises
    ------
    ValueError
        If no layer has a time axis.

    Examples
    --------
    >>> from sklearn_v2s.sources import load_source
    >>> from sklearn_v2s.sources.inspection import default_layer
    >>> default_layer(load_source("attrnn")), default_layer(load_source("wavebank"))
    ('network.conv1', 'network.blocks')
    """
    layers = candidate_layers(source, _probe(source))
    if not layers:
        raise ValueError(
            f"source {type(source).__name__} has no layer with a time axis whose "
            "activation could be mapped."
        )
    return layers[0]


def candidate_layers(source: Any, activations: Activations) -> list[str]:
    """Return the layers that may be mapped if none is named, the best first.

    Parameters
    ----------
    source : nn.Module
        A source model.
    activations : Activations
        Of one forward pass.

    Returns
    -------
    list of str
        Convolutions, or blocks of convolutions, that have more than one map, the last
        first; then other layers that still have a time axis. Empty if there are none.
    """
    modules = dict(source.named_modules())
    layers = [name for name, maps in activations.maps.items() if maps.shape[1] > 1][
        ::-1
    ]
    convolutional = [
        name
        for name in layers
        if _channels_first(modules[name]) and not isinstance(modules[name], _BatchNorm)
    ]
    return convolutional + [name for name in layers if name not in convolutional]
