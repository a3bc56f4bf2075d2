# SPDX-License-Identifier: Apache-2.0
"""The contract that every frozen source model meets."""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

__all__ = [
    "Source",
    "SourceContractError",
    "SourceModel",
    "SourceOutputs",
    "SourceReference",
    "check_source",
    "freeze",
    "independent_copy",
    "to_inference",
]


class SourceOutputs(NamedTuple):
    """Outputs of a source model for a batch of waveforms.

    Attributes
    ----------
    logits : Tensor of shape (batch, n_source_classes)
        Scores of the source classes before the softmax.
    embedding : Tensor of shape (batch, embedding_size)
        A hidden representation, pooled over time.
    """

    logits: Any
    embedding: Any


@runtime_checkable
class Source(Protocol):
    """The contract of a source model, which any ``nn.Module`` can meet.

    It maps waveforms (batch, input_length) to `SourceOutputs`, differentiably.

    Attributes
    ----------
    sample_rate : int
        In Hz.
    input_length : int
        In samples.
    classes : sequence of str
        Names of the K source classes, in the order of the logits.
    embedding_size : int
        Length of the embedding.
    """

    sample_rate: int
    input_length: int

    @property
    def classes(self) -> Sequence[str]:
        """Names of the K source classes."""

    @property
    def embedding_size(self) -> int:
        """Length of the embedding."""

    def __call__(self, waveform: Tensor) -> "SourceOutputs":
        """Return the source outputs of waveforms."""


class SourceReference(NamedTuple):
    """Where the weights of a source model can be found again.

    Attributes
    ----------
    name : str
        Name of a registered source, or path of a checkpoint file.
    sha256 : str
        SHA-256 of the checkpoint.
    """

    name: str
    sha256: str


class SourceContractError(TypeError):
    """A module handed in as a source does not meet the contract."""


class SourceModel(nn.Module):
    """A front end and a network, with what the rest of the package must know.

    Parameters
    ----------
    front_end : nn.Module
        Waveform ``(batch, input_length)`` to features. Where it has the methods
        ``spectrogram`` (linear) and ``features``, it may take the fast path.
    network : nn.Module
        Features to `SourceOutputs`; has ``embedding_size``.
    classes : sequence of str
        Names of the K source classes, in the order of the logits.
    sample_rate : int, default=16000
        In Hz.
    input_length : int, default=16000
        In samples.
    architecture : str, default="custom"
        Name under which `sklearn_v2s.sources.checkpoint` rebuilds the network.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.sources import load_source
    >>> source = load_source("attrnn")
    >>> outputs = source(torch.zeros(1, source.input_length))
    >>> outputs.logits.shape[1] == len(source.classes)
    True
    """

    def __init__(
        self,
        front_end: nn.Module,
        network: nn.Module,
        classes: Sequence[str],
        sample_rate: int = 16000,
        input_length: int = 16000,
        architecture: str = "custom",
    ) -> None:
        super().__init__()
        self.front_end = front_end
        self.network = network
        self.classes = tuple(str(name) for name in classes)
        self.sample_rate = sample_rate
        self.input_length = input_length
        self.architecture = architecture
        self.reference: SourceReference | None = None

    @property
    def embedding_size(self) -> int:
        """Length of the embedding."""
        return int(self.network.embedding_size)  # type: ignore[arg-type]

    def forward(self, waveform: Tensor) -> SourceOutputs:
        """Return the source outputs of waveforms of shape (batch, input_length)."""
        return self.network(self.front_end(waveform))

    def __sklearn_clone__(self) -> "SourceModel":
        # As a parameter of an estimator, a model from a checkpoint is shared: it is
        # frozen, and may be large.
        return self if self.reference is not None else copy.deepcopy(self)


def freeze(source: nn.Module) -> nn.Module:
    """Freeze a source in place and return it.

    No parameter requires a gradient, batch normalisation and dropout are in
    evaluation mode. Recurrent layers without dropout of their own stay in training
    mode, which changes no value but is the only mode in which cuDNN allows a
    backward pass through them.

    Parameters
    ----------
    source : nn.Module
        The model.

    Returns
    -------
    nn.Module
        The same object.
    """
    source.requires_grad_(False)
    to_inference(source)
    return source


def to_inference(source: nn.Module) -> None:
    """Switch a source to evaluation mode; see `freeze`."""
    source.eval()
    for module in source.modules():
        if isinstance(module, nn.RNNBase) and module.dropout == 0:
            module.train()


def independent_copy(source: nn.Module) -> nn.Module:
    """Return a copy of a source that may be changed: it has no reference.

    Parameters
    ----------
    source : nn.Module
        Frozen source; it stays as it is.

    Returns
    -------
    nn.Module
        A copy in the same modes.
    """
    copied = copy.deepcopy(source)
    for module in copied.modules():
        if isinstance(module, SourceModel):
            module.reference = None
    return copied


def check_source(source: Any) -> nn.Module:
    """Check that an object meets the source contract, by a forward and backward pass.

    Parameters
    ----------
    source : nn.Module
        Must have ``sample_rate``, ``input_length``, ``classes`` and
        ``embedding_size``, and map a waveform ``(batch, input_length)`` to
        `SourceOutputs` with finite numbers of the announced sizes, differentiably.
        It is run in evaluation mode, as it will be used.

    Returns
    -------
    nn.Module
        The same object, its modules in the modes they were in.

    Raises
    ------
    SourceContractError
        With what is missing or wrong and what the contract asks for.

    Examples
    --------
    >>> from sklearn_v2s.sources import check_source
    >>> check_source("a string")
    Traceback (most recent call last):
        ...
    sklearn_v2s.sources.contract.SourceContractError: source must be a torch.nn.Module \
that meets the source contract, got str. See the documentation of SourceModel.
    """
    if not isinstance(source, nn.Module):
        raise SourceContractError(
            "source must be a torch.nn.Module that meets the source contract, got "
            f"{type(source).__name__}. See the documentation of SourceModel."
        )
    name = type(source).__name__
    for attribute in ("sample_rate", "input_length", "classes", "embedding_size"):
        if not hasattr(source, attribute):
            raise SourceContractError(
                f"source {name} has no attribute {attribute!r}. The source contract "
                "asks for sample_rate, input_length, classes and embedding_size."
            )
    length: Any = source.input_length
    if not isinstance(length, int) or length < 1:
        raise SourceContractError(
            f"source {name}: input_length must be a positive int, got {length!r}."
        )
    classes: Any = source.classes
    size: Any = source.embedding_size
    try:
        n_classes, embedding_size = len(classes), int(size)
    except (TypeError, ValueError) as error:
        raise SourceContractError(
            f"source {name}: classes must be a sequence of names and embedding_size "
            f"an int ({error})."
        ) from error
    modes = [(module, module.training) for module in source.modules()]
    # A caller may have switched gradients off. A source that draws random numbers
    # draws them from a fork of torch's generator.
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.random.fork_rng(devices=[]),
    ):
        try:
            # Batch normalisation in training mode would learn from the probe.
            to_inference(source)
            _probe(source, name, length, n_classes, embedding_size)
        finally:
            for module, training in modes:
                module.training = training
    return source


def _probe(
    source: nn.Module, name: str, length: int, n_classes: int, embedding_size: int
) -> None:
    like = next(source.parameters(), torch.zeros(()))
    probe = torch.linspace(
        -0.5, 0.5, 2 * length, device=like.device, dtype=like.dtype
    ).reshape(2, length)
    probe.requires_grad_()
    try:
        outputs = source(probe)
    except Exception as error:
        raise SourceContractError(
            f"source {name} failed on a waveform of shape (2, {length}): {error!r}. "
            "A source maps (batch, input_length) to SourceOutputs(logits, embedding)."
        ) from error
    if not isinstance(outputs, SourceOutputs):
        raise SourceContractError(
            f"source {name} returned {type(outputs).__name__}; return "
            "SourceOutputs(logits, embedding)."
        )
    logits, embedding = outputs
    for label, tensor, size in (
        ("logits", logits, n_classes),
        ("embedding", embedding, embedding_size),
    ):
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != (2, size):
            seen = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor)
            raise SourceContractError(
                f"source {name}: {label} of 2 waveforms must be a tensor of shape "
                f"(2, {size}), got {seen}."
            )
        if not torch.isfinite(tensor).all():
            raise SourceContractError(
                f"source {name}: {label} must be finite, got NaN or infinity."
            )
    # Logits may depend on trainable weights and yet not on the waveform: compute the
    # gradient itself.
    gradient = None
    if logits.requires_grad:
        try:
            (gradient,) = torch.autograd.grad(logits.sum(), probe, allow_unused=True)
        except RuntimeError as error:
            raise SourceContractError(
                f"source {name}: the backward pass failed: {error}."
            ) from error
    if gradient is None:
        raise SourceContractError(
            f"source {name}: logits must be differentiable to the waveform; "
            "no gradient flows back. Keep torch.no_grad and numpy out of forward."
        )
    if not torch.isfinite(gradient).all():
        raise SourceContractError(
            f"source {name}: the gradient of the logits to the waveform must be "
            "finite, got NaN or infinity."
        )
