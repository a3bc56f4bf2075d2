# SPDX-License-Identifier: Apache-2.0
"""Source models: frozen, pretrained acoustic models, and where they come from."""

from sklearn_v2s.sources.checkpoint import (
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from sklearn_v2s.sources.contract import (
    SourceContractError,
    SourceModel,
    SourceOutputs,
    check_source,
)
from sklearn_v2s.sources.front_end import FRONT_ENDS, FrontEndConfig, LogMelFrontEnd
from sklearn_v2s.sources.kernel_bank import KernelBankConfig, KernelBankFrontEnd
from sklearn_v2s.sources.registry import list_sources, load_source, register_source

__all__ = [
    "FRONT_ENDS",
    "CheckpointError",
    "FrontEndConfig",
    "KernelBankConfig",
    "KernelBankFrontEnd",
    "LogMelFrontEnd",
    "SourceContractError",
    "SourceModel",
    "SourceOutputs",
    "check_source",
    "list_sources",
    "load_checkpoint",
    "load_source",
    "register_source",
    "save_checkpoint",
]
