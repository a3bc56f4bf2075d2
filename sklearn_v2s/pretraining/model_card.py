# SPDX-License-Identifier: Apache-2.0
"""Model cards: what a checkpoint is, in Markdown, from what its training recorded."""

import json
from pathlib import Path
from typing import Any

from sklearn_v2s.runtime.tensor_file import write_bytes
from sklearn_v2s.sources.contract import SourceModel

__all__ = ["write_model_card"]


def write_model_card(path: Path, source: SourceModel, card: dict[str, Any]) -> None:
    """Write a model card.

    Parameters
    ----------
    path : Path
        Target, ends in ``.md``.
    source : SourceModel
        The model.
    card : dict
        As `sklearn_v2s.pretraining.pretrain` makes it, with ``"sha256"``.
    """
    n_parameters = sum(parameter.numel() for parameter in source.network.parameters())
    rows = "\n".join(
        f"| {name} | {entry['accuracy']:.4f} | {entry['n_clips']} "
        f"| {entry['n_speakers']} |"
        for name, entry in card["accuracy"].items()
    )
    settings = json.dumps(card["settings"], indent=2)
    environment = ", ".join(
        f"{key} {card['environment'][key]}" for key in card["environment"]
    )
    text = f"""# Source model `{source.architecture}`

- Network: {source.architecture}, {n_parameters:,} trainable parameters, \
{len(source.classes)} source classes, one second at {source.sample_rate} Hz.
- Trained on: {card["corpus"]}; {card["n_clips"]} clips of {card["n_speakers"]} \
speakers (list: {card["settings"]["train_on"]}), {card["seconds"] / 60:.0f} minutes.
- Licence of the speech and attribution: {card["licence"]}. The clips were changed by \
augmentation; the weights are derived from them.
- Licence of the weights: CC BY 4.0.
- SHA-256 of the file: `{card["sha256"]}`
- Command: `{card["command"]}`
- Made with: {environment}.

| clips not trained on | accuracy | clips | speakers |
|---|---|---|---|
{rows}

Classes, in the order of the logits: {", ".join(source.classes)}.

Use: a frozen source for the reprogramming of time series. It was trained on single
spoken words of few speakers; it is not meant for speech products.

Settings:

```json
{settings}
```
"""
    write_bytes(path, text.encode())
