# SPDX-License-Identifier: Apache-2.0
"""Training of a source model on a speech corpus, with progress and resume."""

import csv
import hashlib
import io
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from sklearn_v2s.pretraining.augmentation import Augmentation
from sklearn_v2s.pretraining.clips import as_waveforms, logits_of_clips
from sklearn_v2s.pretraining.corpora import SpeechCorpus, Split
from sklearn_v2s.pretraining.model_card import write_model_card
from sklearn_v2s.runtime.devices import resolve_device, to_device
from sklearn_v2s.runtime.environment import describe_environment
from sklearn_v2s.runtime.tensor_file import write_bytes
from sklearn_v2s.sources.checkpoint import ARCHITECTURES, save_checkpoint
from sklearn_v2s.sources.kernel_bank import KernelBankFrontEnd

__all__ = ["PretrainingRun", "PretrainingSettings", "pretrain"]

#: What a run goes on from, in its output folder.
STATE_FILE = "state.pt"


@dataclass(frozen=True)
class PretrainingSettings:
    """How a source model is trained.

    Parameters
    ----------
    architecture : str, default="attrnn"
        One of `sklearn_v2s.sources.checkpoint.ARCHITECTURES`.
    front_end : str, default="kapre"
        One of the front ends of the architecture: "kapre" or "speech-cmd-recognition"
        for AttRNN, "kernel-bank" for WaveBank.
    train_on : {"train", "train+validation"}, default="train"
        ``"train"`` to choose settings by the validation list, ``"train+validation"``
        for the model that is shipped and reported on the test list.
    epochs : int, default=25
        Passes over the training clips.
    batch_size : int, default=64
        Clips for each step.
    lr : float, default=4e-3
        Peak learning rate of the one-cycle schedule (AdamW).
    weight_decay : float, default=1e-2
        Of AdamW.
    label_smoothing : float, default=0.05
        Share of the target spread over all words.
    seed : int, default=0
        Of initialisation, order and augmentation.
    augmentation : Augmentation
        Random changes of the clips.
    """

    architecture: str = "attrnn"
    front_end: str = "kapre"
    train_on: Literal["train", "train+validation"] = "train"
    epochs: int = 25
    batch_size: int = 64
    lr: float = 4e-3
    weight_decay: float = 1e-2
    label_smoothing: float = 0.05
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)

    @property
    def front_ends(self) -> dict[str, Any]:
        """Front ends of the architecture, by name; none of an unknown one."""
        known = ARCHITECTURES.get(self.architecture)
        return {} if known is None else known.front_ends

    def __post_init__(self) -> None:
        for name, known in (
            ("architecture", tuple(ARCHITECTURES)),
            ("front_end", tuple(self.front_ends)),
            ("train_on", ("train", "train+validation")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {known}, got {getattr(self, name)!r}."
                )
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be at least 1, got {getattr(self, name)!r}."
                )


def _fingerprint(corpus: SpeechCorpus) -> str:
    # Of what the clips are, not of the folder that they lie in today.
    digest = hashlib.sha256()
    for path, label, split in zip(
        corpus.files, corpus.labels, corpus.splits, strict=True
    ):
        row = (*path.parts[-2:], corpus.classes[label], str(split))
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def _on_cpu(state: Any) -> Any:
    """Return a state that can be read on any machine."""
    if isinstance(state, dict):
        return {key: _on_cpu(value) for key, value in state.items()}
    return state.cpu() if isinstance(state, Tensor) else state


class PretrainingRun:
    """A training of a source that a later process can take up.

    It is no skorch net: one generator orders the clips and augments them, and its state
    between two epochs is what a run goes on from.

    Parameters
    ----------
    settings : PretrainingSettings
        How to train.
    corpus : SpeechCorpus
        What to train on.
    device : torch.device
        Where to train.
    """

    def __init__(
        self,
        settings: PretrainingSettings,
        corpus: SpeechCorpus,
        device: torch.device,
    ) -> None:
        self.settings, self.device = settings, device
        self.corpus = _fingerprint(corpus)
        # torch.manual_seed would seed the generators of all accelerators, too.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(settings.seed)
            self.source = ARCHITECTURES[settings.architecture].build(
                settings.front_ends[settings.front_end], corpus.classes
            )
        # Convolutions over maps train up to a third faster with the channels last.
        self.source.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        wanted = settings.train_on.split("+")
        self.train_rows = corpus.select(*wanted)  # type: ignore[arg-type]
        self.steps = -(-len(self.train_rows) // settings.batch_size)
        self.optimizer = torch.optim.AdamW(
            self.source.parameters(),
            lr=settings.lr,
            weight_decay=settings.weight_decay,
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=settings.lr,
            total_steps=settings.epochs * self.steps,
        )
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.history: list[dict[str, float]] = []

    def state(self) -> dict[str, Any]:
        """Return all that `restore` needs, as tensors and plain values."""
        return {
            "settings": asdict(self.settings),
            "corpus": self.corpus,
            "source": _on_cpu(self.source.state_dict()),
            "optimizer": _on_cpu(self.optimizer.state_dict()),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
            "history": self.history,
        }

    def restore(self, path: Path) -> None:
        """Go on from a file of `state`; it must be of the same settings and clips."""
        state = torch.load(path, weights_only=True)
        if state["settings"] != asdict(self.settings):
            changed = [
                key
                for key, value in asdict(self.settings).items()
                if state["settings"].get(key) != value
            ]
            raise ValueError(
                f"{path} is a run with other settings (different: {changed}). Give "
                "another output folder, or start it again without resume."
            )
        if state.get("corpus") != self.corpus:
            raise ValueError(
                f"{path} is a run on other clips. Give another output folder, or start "
                "it again without resume."
            )
        self.source.load_state_dict(state["source"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])
        self.history = state["history"]

    def learn_front_end(self, clips: np.ndarray) -> None:
        """Let a front end that learns do so, before the network is trained on it."""
        front_end = self.source.front_end
        if self.history or not isinstance(front_end, KernelBankFrontEnd):
            return
        # Once, and from few clips: with the generator, on the CPU.
        front_end.to("cpu").learn(as_waveforms(clips), self.generator)
        front_end.to(self.device)

    def accuracy(self, clips: np.ndarray, labels: np.ndarray) -> float:
        """Return the share of clips whose word the source predicts."""
        rows = np.arange(len(clips))
        logits = logits_of_clips(self.source.eval(), clips.__getitem__, rows, 256)
        return float(np.mean(logits.argmax(axis=1) == labels))

    def epoch(self, clips: np.ndarray, labels: np.ndarray, show: bool) -> float:
        """Train for one pass; `clips` and `labels` are the training part."""
        settings, source = self.settings, self.source
        source.train()
        order = torch.randperm(len(clips), generator=self.generator).numpy()
        losses, sizes = [], []
        progress = tqdm(
            range(0, len(order), settings.batch_size),
            desc=f"epoch {len(self.history) + 1}/{settings.epochs}",
            disable=not show,
            leave=False,
        )
        for start in progress:
            rows = order[start : start + settings.batch_size]
            waveforms = settings.augmentation.waveforms(
                as_waveforms(clips[rows]), source.sample_rate, self.generator
            )
            with torch.no_grad():
                features = source.front_end(to_device(waveforms, self.device))
                features = settings.augmentation.features(features, self.generator)
            loss = functional.cross_entropy(
                source.network(features).logits,
                to_device(torch.from_numpy(labels[rows]), self.device),
                label_smoothing=settings.label_smoothing,
            )
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(source.parameters(), 5.0)
            self.optimizer.step()
            self.schedule.step()
            losses.append(loss.detach())
            sizes.append(len(rows))
        # All at once, so that the host need not wait for each.
        values = torch.stack(losses).tolist()
        total = sum(loss * size for loss, size in zip(values, sizes, strict=True))
        return total / len(clips)

    def write(self, output: Path) -> None:
        """Write the state and the history."""
        buffer = io.BytesIO()
        torch.save(self.state(), buffer)
        write_bytes(output / STATE_FILE, buffer.getvalue())
        text = io.StringIO()
        writer = csv.DictWriter(
            text, fieldnames=list(self.history[0]), lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(self.history)
        write_bytes(output / "history.csv", text.getvalue().encode())

    def held_out_accuracies(
        self, corpus: SpeechCorpus, split: Split
    ) -> dict[str, dict[str, Any]]:
        """Return accuracy and sizes for each corpus of a held-out list, and for all."""
        rows = corpus.select(split)
        clips = corpus.read(rows, self.source.input_length, self.source.sample_rate)
        labels, speakers = corpus.labels[rows], corpus.speakers[rows]
        parts = np.array([speaker.split("/")[0] for speaker in speakers])
        accuracies = {}
        for part in [*sorted(set(parts)), "all"]:
            chosen = np.flatnonzero((parts == part) | (part == "all"))
            accuracies[f"{split}/{part}"] = {
                "accuracy": self.accuracy(clips[chosen], labels[chosen]),
                "n_clips": len(chosen),
                "n_speakers": len(set(speakers[chosen])),
            }
        return accuracies


def pretrain(
    corpus: SpeechCorpus,
    output: Path,
    settings: PretrainingSettings | None = None,
    *,
    device: str | torch.device = "auto",
    resume: bool = False,
    command: str = "",
    progress: bool = True,
) -> dict[str, Any]:
    """Train a source model and write checkpoint, model card and history.

    Parameters
    ----------
    corpus : SpeechCorpus
        Clips with speaker-disjoint splits.
    output : Path
        Folder for ``<architecture>.safetensors``, ``<architecture>.md``,
        ``history.csv`` and ``state.pt`` (what `resume` reads; it holds tensors and
        plain values only and is read as such).
    settings : PretrainingSettings, default=None
        None means the defaults.
    device : str or torch.device, default="auto"
        Where to train, as for `sklearn_v2s.V2SClassifier`.
    resume : bool, default=False
        Go on from the last complete epoch found in `output`. The result is the same
        as without the interruption, up to rounding on another device.
    command : str, default=""
        The command line, for the card.
    progress : bool, default=True
        Show a progress bar and a line for each epoch.

    Returns
    -------
    dict
        The card: settings, accuracies on the lists that were not trained on, sizes,
        licences, versions.
    """
    settings = settings or PretrainingSettings()
    # While settings are being chosen the test list stays closed.
    split: Split = "validation" if settings.train_on == "train" else "test"
    held_out = corpus.select(split)
    for name, rows in (("train", corpus.select("train")), (split, held_out)):
        if not len(rows):
            raise ValueError(f"corpus {corpus.name} has no clip in its {name} list.")
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    run = PretrainingRun(settings, corpus, resolve_device(device))
    if resume and (output / STATE_FILE).is_file():
        run.restore(output / STATE_FILE)
    length, sample_rate = run.source.input_length, run.source.sample_rate
    train_clips = corpus.read(run.train_rows, length, sample_rate)
    train_labels = corpus.labels[run.train_rows]
    run.learn_front_end(train_clips)
    # The validation list is looked at during training only while it is not part of
    # the training clips; the test list only once, at the very end.
    watched = held_out if split == "validation" else held_out[:0]
    watched_clips = corpus.read(watched, length, sample_rate)
    while len(run.history) < settings.epochs:
        start = time.perf_counter()
        row = {
            "epoch": float(len(run.history) + 1),
            "train_loss": run.epoch(train_clips, train_labels, progress),
        }
        if len(watched):
            row["validation_accuracy"] = run.accuracy(
                watched_clips, corpus.labels[watched]
            )
        row["seconds"] = time.perf_counter() - start
        run.history.append(row)
        run.write(output)
        if progress:
            tqdm.write(json.dumps(row))
    card: dict[str, Any] = {
        "corpus": corpus.name,
        "licence": corpus.licence,
        "settings": asdict(settings),
        "n_clips": len(run.train_rows),
        "n_speakers": len(set(corpus.speakers[run.train_rows])),
        "seconds": sum(row["seconds"] for row in run.history),
        "command": command,
        "device": run.device.type,
        "environment": describe_environment(),
        "accuracy": run.held_out_accuracies(corpus, split),
    }
    run.source.to("cpu")
    checkpoint = output / f"{settings.architecture}.safetensors"
    card["sha256"] = save_checkpoint(checkpoint, run.source, card)
    write_model_card(output / f"{settings.architecture}.md", run.source, card)
    return card
