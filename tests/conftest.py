# SPDX-License-Identifier: Apache-2.0
"""Fixtures that all tests share."""

from pathlib import Path

import pytest

from tests.tiny_source import TinySource


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the data that lies beside the checkout, or a skip with the reason."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the data folder {folder}, which is not there")
    return folder


@pytest.fixture
def tiny_source() -> TinySource:
    """Return a source model whose forward pass takes no time."""
    return TinySource()
