# SPDX-License-Identifier: Apache-2.0
"""torchaudio's pretrained speech models as sources: wav2vec 2.0, HuBERT, WavLM.

torchaudio is imported when a bundle is loaded, and not before. Weights are read from
where ``bundle.get_model()`` of torchaudio keeps them; nothing here downloads any.
"""

import os
import pickle
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_v2s.runtime.user_warnings import warn_user
from sklearn_v2s.sources.checkpoint import CheckpointError
from sklearn_v2s.sources.contract import SourceModel, SourceOutputs

__all__ = [
    "PREFIX",
    "BundleNetwork",
    "WaveformFrontEnd",
    "bundle_file",
    "bundle_licence",
    "list_bundles",
    "read_bundle",
]

#: What the name of such a source begins with.
PREFIX = "torchaudio:"

_ENGLISH = ("10M", "100H", "960H")
_BUNDLES = (
    *("WAV2VEC2_BASE", "WAV2VEC2_LARGE", "WAV2VEC2_LARGE_LV60K"),
    *(f"WAV2VEC2_ASR_BASE_{hours}" for hours in _ENGLISH),
    *(f"WAV2VEC2_ASR_LARGE_{hours}" for hours in _ENGLISH),
    *(f"WAV2VEC2_ASR_LARGE_LV60K_{hours}" for hours in _ENGLISH),
    *("WAV2VEC2_XLSR53", "WAV2VEC2_XLSR_300M", "WAV2VEC2_XLSR_1B"),
    *("WAV2VEC2_XLSR_2B", "HUBERT_BASE", "HUBERT_LARGE", "HUBERT_XLARGE"),
    *("HUBERT_ASR_LARGE", "HUBERT_ASR_XLARGE"),
    *(f"VOXPOPULI_ASR_BASE_10K_{code}" for code in ("EN", "ES", "DE", "FR", "IT")),
    *("WAVLM_BASE", "WAVLM_BASE_PLUS", "WAVLM_LARGE", "MMS_FA"),
)
_NON_COMMERCIAL = "CC-BY-NC-4.0"
_NON_COMMERCIAL_FAMILIES = ("VOXPOPULI_", "MMS_")
# Models expect at least the receptive field of one frame; a second is 49 frames.
_INPUT_LENGTH = 16000


def list_bundles() -> dict[str, str]:
    """Return the sources that torchaudio offers, and the licences of their weights.

    Returns
    -------
    dict of str to str
        Name for `load_source` to licence.

    Examples
    --------
    >>> from sklearn_v2s.sources.torchaudio_bundle import list_bundles
    >>> list_bundles()["torchaudio:HUBERT_BASE"]
    'MIT'
    """
    return {f"{PREFIX}{name}": bundle_licence(name) for name in _BUNDLES}


def bundle_licence(name: str) -> str:
    """Return the licence of the weights of a bundle.

    Parameters
    ----------
    name : str
        Name in ``torchaudio.pipelines``.

    Returns
    -------
    str
        SPDX identifier, as torchaudio's documentation states it.
    """
    return _NON_COMMERCIAL if name.startswith(_NON_COMMERCIAL_FAMILIES) else "MIT"


class _Request(NamedTuple):
    """A bundle and a layer, from the name of a source."""

    name: str
    layer: int | None
    bundle: Any


def _import_torchaudio() -> Any:
    try:
        import torchaudio
    except (ImportError, OSError, RuntimeError) as error:
        # Its library loads only with the torch that it was built for.
        raise ImportError(
            f"a source 'torchaudio:...' needs torchaudio, which does not load here "
            f'({error}). Install the pair that fits: pip install "sklearn-v2s[audio]"'
        ) from error
    return torchaudio


def _request(source: str) -> _Request:
    name, _, layer = source.removeprefix(PREFIX).partition(":")
    if name not in _BUNDLES:
        raise ValueError(
            f"unknown source {source!r}: torchaudio has the bundles {list(_BUNDLES)}. "
            "Give 'torchaudio:NAME' or 'torchaudio:NAME:LAYER'."
        )
    if layer and not layer.isdecimal():
        raise ValueError(
            f"source {source!r}: the layer must be a whole number from 0 on, got "
            f"{layer!r}."
        )
    bundle = getattr(_import_torchaudio().pipelines, name)
    return _Request(name, int(layer) if layer else None, bundle)


def bundle_file(source: str) -> Path:
    """Return where the weights of a bundle lie.

    Parameters
    ----------
    source : str
        ``"torchaudio:NAME"`` or ``"torchaudio:NAME:LAYER"``.

    Returns
    -------
    Path
        A file that exists.

    Raises
    ------
    FileNotFoundError
        With the file, the folder, and the way to get it.
    ValueError
        If there is no such bundle.
    ImportError
        If torchaudio does not load.
    """
    request = _request(source)
    file = os.path.basename(urlsplit(request.bundle._path).path)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if not (folder / file).is_file():
        raise FileNotFoundError(
            f"source {source!r} needs the weights {file!r} in the folder {folder}, "
            "which are not there; nothing is downloaded unasked. With internet, "
            f"torchaudio.pipelines.{request.name}.get_model() brings them "
            f"(licence: {bundle_licence(request.name)}). The environment variable "
            "TORCH_HOME, or torch.hub.set_dir, names another folder."
        )
    return folder / file


class WaveformFrontEnd(nn.Module):
    """The waveform itself, standardised for models that were trained so.

    Parameters
    ----------
    normalize : bool
        Whether each waveform gets mean 0 and variance 1.

    Examples
    --------
    >>> import torch
    >>> from sklearn_v2s.sources.torchaudio_bundle import WaveformFrontEnd
    >>> WaveformFrontEnd(True)(torch.tensor([[3.0, 1.0]])).round()
    tensor([[ 1., -1.]])
    """

    def __init__(self, normalize: bool) -> None:
        super().__init__()
        self.normalize = normalize

    def forward(self, waveform: Tensor) -> Tensor:
        """Return waveforms of the same shape (batch, input_length)."""
        if not self.normalize:
            return waveform
        # torchaudio does this over a whole batch; it is meant for one waveform.
        return functional.layer_norm(waveform, waveform.shape[-1:])


class BundleNetwork(nn.Module):
    """A speech model whose frames are averaged to source outputs.

    Parameters
    ----------
    model : torchaudio.models.Wav2Vec2Model
        Waveform to hidden states of each layer and, where it has a last layer for
        characters, scores of the blank (first) and the characters.
    layer : int, default=None
        The layer whose states are the embedding: 0 for the convolutions, 1 for the
        first transformer layer. None means the last one.

    Attributes
    ----------
    embedding_size : int
        Width of that layer.
    n_layers : int
        Number of transformer layers.

    Raises
    ------
    ValueError
        If there is no such layer.

    References
    ----------
    Baevski, Zhou, Mohamed, Auli. wav2vec 2.0: a framework for self-supervised learning
    of speech representations. NeurIPS 2020.
    """

    def __init__(self, model: Any, layer: int | None = None) -> None:
        super().__init__()
        self.model = model
        transformer = model.encoder.transformer
        self.n_layers = len(transformer.layers)
        if layer is not None and not 0 <= layer <= self.n_layers:
            raise ValueError(
                f"layer must be from 0 (the convolutions) to {self.n_layers}, got "
                f"{layer}."
            )
        self.layer = self.n_layers if layer is None else layer
        projection = model.encoder.feature_projection.projection
        self.embedding_size = (
            projection.out_features if self.layer else projection.in_features
        )

    def forward(self, waveform: Tensor) -> SourceOutputs:
        """Return the source outputs of waveforms of shape (batch, input_length)."""
        states, _ = self.model.feature_extractor(waveform, None)
        embedding = states.mean(1)
        if self.model.aux is not None:
            layers = self.model.encoder.extract_features(states)
        elif self.layer:
            layers = self.model.encoder.extract_features(states, num_layers=self.layer)
        if self.layer:
            embedding = layers[self.layer - 1].mean(1)
        if self.model.aux is None:
            return SourceOutputs(embedding, embedding)
        transformer, last = self.model.encoder.transformer, layers[-1]
        if not transformer.layer_norm_first:
            last = transformer.layer_norm(last)
        # The blank of CTC wins nearly all frames and carries nothing.
        return SourceOutputs(self.model.aux(last).mean(1)[:, 1:], embedding)


def read_bundle(source: str, path: Path) -> SourceModel:
    """Read a bundle.

    Parameters
    ----------
    source : str
        ``"torchaudio:NAME"`` or ``"torchaudio:NAME:LAYER"``.
    path : Path
        Its weights, as `bundle_file` finds them.

    Returns
    -------
    SourceModel
        In float32 on the CPU, not yet frozen. Its classes are the characters of a
        model for recognition; the others have the numbers of the features that the
        embedding consists of, and the embedding as logits.

    Raises
    ------
    CheckpointError
        If the file holds something else. It is read as tensors, never unpickled.
    ValueError
        If there is no such bundle or layer.

    Warns
    -----
    UserWarning
        If the licence of the weights forbids commercial use.
    """
    name, layer, bundle = _request(source)
    licence = bundle_licence(name)
    if licence == _NON_COMMERCIAL:
        warn_user(
            f"the weights of {source!r} are licensed under {licence}: they, and what "
            "is derived from them, must not be used commercially.",
        )
    models = _import_torchaudio().models
    factories = {"Wav2Vec2": models.wav2vec2_model, "WavLM": models.wavlm_model}
    # Building draws random weights that are replaced at once; torch's global generator
    # must not notice.
    with torch.random.fork_rng(devices=[]):
        model = factories[bundle._model_type](**bundle._params)
    network = BundleNetwork(model, layer)
    labels = _labels(bundle)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if labels:
            rows = _kept_rows(len(state["aux.bias"]), bundle._remove_aux_axis)
            for key in ("aux.weight", "aux.bias"):
                state[key] = state[key][rows]
        model.load_state_dict(state)
    except (
        AttributeError,
        EOFError,
        LookupError,
        pickle.UnpicklingError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        # Not torch's own message, which advises unpickling what was refused.
        raise CheckpointError(
            f"{path} does not hold the weights of {source!r} "
            f"({type(error).__name__}). Delete it and get it again with "
            f"torchaudio.pipelines.{name}.get_model()."
        ) from None
    return SourceModel(
        WaveformFrontEnd(bundle._normalize_waveform),
        network,
        labels or tuple(map(str, range(network.embedding_size))),
        sample_rate=int(bundle.sample_rate),
        input_length=_INPUT_LENGTH,
        architecture="torchaudio",
    )


def _labels(bundle: Any) -> tuple[str, ...]:
    """Return the characters of a model for recognition, without the blank."""
    # The aligner among them adds a star for everything else, which the network does not
    # output.
    return tuple(getattr(bundle, "_labels", ()))


def _kept_rows(n_rows: int, removed: tuple[int, ...]) -> list[int]:
    # Weights from fairseq have rows for symbols that its training never used.
    return [row for row in range(n_rows) if row not in removed]
