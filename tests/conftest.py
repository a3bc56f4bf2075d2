# SPDX-License-Identifier: Apache-2.0
"""Fixtures that all tests share."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from sklearn_v2s import V2SClassifier
from sklearn_v2s.sources import registry
from tests.small import make_classifier
from tests.speech_folders import write_google
from tests.tiny_source import TinySource


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the data that lies beside the checkout, or a skip with the reason."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the data folder {folder}, which is not there")
    return folder


@pytest.fixture(scope="session")
def google(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small corpus in the layout of Google Speech Commands."""
    folder = tmp_path_factory.mktemp("google")
    write_google(folder)
    return folder


@pytest.fixture
def tiny_source() -> TinySource:
    """Return a source model whose forward pass takes no time."""
    return TinySource()


@pytest.fixture
def make(tiny_source: TinySource) -> Callable[..., V2SClassifier]:
    """Return a function that makes classifiers on the tiny source."""
    return partial(make_classifier, tiny_source)


@pytest.fixture
def forget_sources(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that forgets all loaded and registered sources.

    As in a new process. No user needs that, so that it has no public name.
    """

    def forget() -> None:
        monkeypatch.setattr(registry, "_FACTORIES", {})
        monkeypatch.setattr(registry, "_LOADED", {})

    return forget


@pytest.fixture
def ship_from(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Return a function that makes a folder that of the shipped checkpoints.

    The folder of an installation does not change, so that it has no public name.
    """
    return lambda folder: monkeypatch.setattr(registry, "_CHECKPOINTS", folder)
