# SPDX-License-Identifier: Apache-2.0
"""Files are complete or not there, and stand where the user said."""

import os
import threading
from pathlib import Path

import pytest

from sklearn_v2s.runtime.tensor_file import remove_unfinished, write_bytes


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"before")
    link.symlink_to(target)
    write_bytes(link, b"after")
    assert link.is_symlink() and target.read_bytes() == b"after"
    assert {path.name for path in tmp_path.iterdir()} == {"target", "link"}


def test_a_link_that_leads_nowhere_yet(tmp_path: Path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "folder" / "target")
    write_bytes(link, b"new")
    assert link.is_symlink() and (tmp_path / "folder" / "target").read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_the_reader_of_a_pipe_gets_what_is_written(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_bytes(pipe, b"content")
    reader.join(timeout=30)
    assert got == [b"content"]
    assert pipe.is_fifo()


def test_a_folder_is_not_replaced(tmp_path: Path):
    with pytest.raises(IsADirectoryError):
        write_bytes(tmp_path, b"content")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def fail(*args: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        write_bytes(path, b"after")
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"No space left on device: '.*model\.bin'"):
        write_bytes(tmp_path / "model.bin", b"content")


def test_what_a_killed_write_left_is_removed(tmp_path: Path):
    path = tmp_path / "a[1].bin"
    kept = [path, tmp_path / ".a[1].bin", tmp_path / ".b.bin.0123456789abcdef"]
    kept.append(tmp_path / ".a[1].bin.0123456789abcdeX")
    left = tmp_path / ".a[1].bin.0123456789abcdef"
    for file in (*kept, left):
        file.write_bytes(b"")
    remove_unfinished(path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    remove_unfinished(tmp_path / "no folder" / "a")
