# SPDX-License-Identifier: Apache-2.0
"""Downloads of published weights, against a server on this machine only."""

import hashlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sklearn_v2s.sources import CheckpointError, download
from sklearn_v2s.sources.download import (
    PUBLISHED,
    DownloadError,
    PublishedWeights,
    cached_file,
    default_cache_dir,
    fetch_source,
    file_sha256,
)

CONTENT = b"weights " * 5000


class Server(ThreadingHTTPServer):
    """Serves `content` under every path and notes what it was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/weights.h5"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        # Slow enough for a second caller to come while the first one downloads.
        time.sleep(0.3)
        content = self.server.content
        self.send_response(200)
        # Less than CONTENT is an answer that was cut off on its way.
        self.send_header("Content-Length", str(max(len(content), len(CONTENT))))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def weights_at(url: str) -> PublishedWeights:
    return PublishedWeights(
        url=url,
        file="weights.h5",
        size=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        n_classes=2,
        licence="none",
        description="a test",
    )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with Server() as running:
        monkeypatch.setitem(PUBLISHED, "test", weights_at(running.url))
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def left_in(folder: Path) -> set[str]:
    """Names of the files in a folder, without the lock, which may stay."""
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_downloads_once_and_then_asks_nobody(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cache"
    path = fetch_source("test", folder)
    assert path == folder / "weights.h5"
    assert path.read_bytes() == CONTENT
    assert left_in(folder) == {"weights.h5"}
    assert fetch_source("test", str(folder)) == path
    assert len(server.requests) == 1


@pytest.mark.parametrize("missing", ["filelock", "pooch"])
def test_cached_file_is_found_without_downloaders_and_without_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    monkeypatch.setitem(PUBLISHED, "test", weights_at("http://127.0.0.1:9/nobody"))
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setenv("SKLEARN_V2S_CACHE", str(tmp_path))
    with pytest.raises(ImportError, match=rf'{missing}.*"sklearn-v2s\[download\]"'):
        fetch_source("test")
    (tmp_path / "weights.h5").write_bytes(CONTENT)
    assert fetch_source("test") == tmp_path / "weights.h5"


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (CONTENT[::-1], CheckpointError, "not the file that was asked for"),
        (CONTENT + b"!", CheckpointError, "not the file that was asked for"),
        (CONTENT[:-1], DownloadError, "cannot download"),
    ],
    ids=["other", "longer", "cut off"],
)
def test_wrong_content_is_not_kept(
    server: Server,
    tmp_path: Path,
    content: bytes,
    error: type[Exception],
    message: str,
) -> None:
    server.content = content
    with pytest.raises(error, match=message):
        fetch_source("test", tmp_path)
    assert left_in(tmp_path) == set()
    server.content = CONTENT
    assert fetch_source("test", tmp_path).read_bytes() == CONTENT


def test_damaged_file_in_the_cache_is_replaced(server: Server, tmp_path: Path) -> None:
    cached_file("test", tmp_path).write_bytes(b"damaged")
    assert fetch_source("test", tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_threads_at_once_download_once(server: Server, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(fetch_source, "test", tmp_path) for _ in range(4)]
    assert {job.result() for job in jobs} == {tmp_path / "weights.h5"}
    assert len(server.requests) == 1


@pytest.mark.slow
def test_processes_at_once_download_once(server: Server, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from sklearn_v2s.sources.download import PUBLISHED, PublishedWeights\n"
        "from sklearn_v2s.sources.download import fetch_source\n"
        f"PUBLISHED['test'] = PublishedWeights(*{tuple(PUBLISHED['test'])!r})\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        f"print(fetch_source('test', {str(tmp_path)!r}))\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        answer, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert answer.strip() == str(tmp_path / "weights.h5")
    assert len(server.requests) == 1
    assert left_in(tmp_path) == {"weights.h5"}


def test_offline_says_what_can_be_done(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/weights.h5"
    monkeypatch.setitem(PUBLISHED, "test", weights_at(url))
    folder = tmp_path / "cache"
    with pytest.raises(DownloadError) as caught:
        fetch_source("test", folder)
    message = str(caught.value)
    assert url in message
    assert str(folder / "weights.h5") in message
    assert "SKLEARN_V2S_CACHE" in message
    assert left_in(folder) == set()


def test_cache_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DownloadError, match=r"cannot keep 'test'.*SKLEARN_V2S_CACHE"):
        fetch_source("test", tmp_path / "file" / "cache")
    assert server.requests == []


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"unknown published source 'x'.*attrnn-gsc"):
        fetch_source("x")


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SKLEARN_V2S_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("SKLEARN_V2S_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert default_cache_dir() == tmp_path / "xdg" / "sklearn-v2s"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_dir() == tmp_path / ".cache" / "sklearn-v2s"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert default_cache_dir() == tmp_path / "Library" / "Caches" / "sklearn-v2s"


def test_published_entries_are_pinned(shared: Path) -> None:
    weights = PUBLISHED["attrnn-gsc"]
    # A commit, not a branch: what is behind the URL must not change.
    assert "/e965a72a8d1dedf490d4eba1996b2f3bb74eacdf/" in weights.url
    path = shared / "weights" / weights.file
    assert path.stat().st_size == weights.size
    assert file_sha256(path) == weights.sha256


@pytest.mark.slow
def test_nothing_else_imports_the_downloads() -> None:
    script = (
        "import sys, sklearn_v2s, sklearn_v2s.sources\n"
        f"assert {download.__name__!r} not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
