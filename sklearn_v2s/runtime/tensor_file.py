# SPDX-License-Identifier: Apache-2.0
"""Files of named arrays with a JSON header and a checked SHA-256, never a pickle.

A tensor file is a safetensors file whose metadata holds one JSON document. The
document carries the SHA-256 of the whole file, computed with the digest itself set to
zeros, so that a change of any byte is noticed at load.
"""

import glob
import hashlib
import json
import os
import secrets
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as serialise_tensors

__all__ = [
    "TensorFile",
    "TensorFileError",
    "read_tensor_file",
    "remove_unfinished",
    "write_bytes",
    "write_tensor_file",
]

_KEY = "sklearn_v2s"
_NO_DIGEST = "0" * 64
# A header of ours takes some kilobytes; a larger claim is a corrupted length field.
_LARGEST_HEADER = 1 << 22


class TensorFileError(ValueError):
    """A file is not a tensor file, or it has been changed or cut off."""


class TensorFile(NamedTuple):
    """Contents of a tensor file.

    Attributes
    ----------
    tensors : dict of str to ndarray
        The arrays.
    header : dict
        The JSON document.
    sha256 : str
        SHA-256 of the file, as the command ``sha256sum`` prints it.
    """

    tensors: dict[str, np.ndarray]
    header: dict[str, Any]
    sha256: str


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file under a temporary name and put it in place when complete.

    Parameters
    ----------
    path : path-like
        Target; an existing file is replaced in one step. What a link leads to is
        replaced, not the link; pipes and devices are written to.
    content : bytes
        What to write.
    """
    path = Path(path).resolve()
    if path.exists() and not path.is_file():
        # A name in its place would not be the pipe that somebody reads. A folder
        # refuses to be opened.
        with open(path, "wb") as stream:
            stream.write(content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not mkstemp: it makes files private, and to read the umask is to change it for
    # all threads.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            # A full disk does not say where.
            error.filename = str(path)
        raise


def remove_unfinished(path: str | os.PathLike[str]) -> None:
    """Remove what processes that were killed in `write_bytes` have left beside a file.

    Parameters
    ----------
    path : path-like
        Target of the writes. Nobody else may be writing it.
    """
    path = Path(path).resolve()
    for left in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 16}"):
        left.unlink(missing_ok=True)


def write_tensor_file(
    path: str | os.PathLike[str],
    tensors: dict[str, np.ndarray],
    header: dict[str, Any],
) -> str:
    """Write arrays and a JSON header.

    Parameters
    ----------
    path : path-like
        Where to.
    tensors : dict of str to ndarray
        The arrays.
    header : dict
        JSON document; must not have the key ``"sha256"``.

    Returns
    -------
    str
        SHA-256 of the file.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from pathlib import Path
    >>> from sklearn_v2s.runtime.tensor_file import read_tensor_file, write_tensor_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.safetensors"
    ...     digest = write_tensor_file(path, {"a": np.ones(3)}, {"kind": "example"})
    ...     read_tensor_file(path).header["kind"]
    'example'
    """
    if "sha256" in header:
        raise ValueError("the key 'sha256' of a header is taken.")
    document = {**header, "sha256": _NO_DIGEST}
    content = serialise_tensors(
        {name: np.asarray(array, order="C") for name, array in tensors.items()},
        metadata={_KEY: json.dumps(document, sort_keys=True)},
    )
    (length,) = struct.unpack("<Q", content[:8])
    if length > _LARGEST_HEADER:
        raise ValueError(
            f"the header takes {length} bytes, more than the {_LARGEST_HEADER} that "
            "would be read again."
        )
    if content.count(_NO_DIGEST.encode(), 8, 8 + length) != 1:
        raise ValueError(
            "the header holds 64 zeros in a row, which stand for the digest while it "
            "is computed."
        )
    digest = hashlib.sha256(content).hexdigest()
    content = content.replace(_NO_DIGEST.encode(), digest.encode(), 1)
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def _parse_header(content: bytes) -> tuple[dict[str, Any], int]:
    if len(content) < 8:
        raise TensorFileError(f"it has only {len(content)} bytes")
    (length,) = struct.unpack("<Q", content[:8])
    if length > min(_LARGEST_HEADER, len(content) - 8):
        raise TensorFileError(
            f"its header claims {length} bytes and the file has {len(content)}"
        )
    end = 8 + length
    try:
        document = json.loads(content[8:end])["__metadata__"][_KEY]
        header = json.loads(document)
        digest = header["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TensorFileError(f"its header cannot be read ({error!r})") from error
    if not isinstance(digest, str) or len(digest) != len(_NO_DIGEST):
        raise TensorFileError("its header has no SHA-256")
    return header, end


def read_tensor_file(path: str | os.PathLike[str]) -> TensorFile:
    """Read a tensor file and check its SHA-256.

    Parameters
    ----------
    path : path-like
        A file that `write_tensor_file` wrote.

    Returns
    -------
    TensorFile
        Arrays, header and SHA-256.

    Raises
    ------
    TensorFileError
        If the file is something else, was cut off, or has any changed byte.
    FileNotFoundError
        If there is no such file.
    """
    path = Path(path)
    content = path.read_bytes()
    try:
        header, end = _parse_header(content)
        digest = header.pop("sha256").encode("ascii", "replace")
        blank = content[:end].replace(digest, _NO_DIGEST.encode(), 1) + content[end:]
        found = hashlib.sha256(blank).hexdigest()
        if found.encode() != digest:
            raise TensorFileError(
                f"its SHA-256 is {found} where its header says "
                f"{digest.decode('ascii', 'replace')}: it was changed or cut off"
            )
        tensors = parse_tensors(content)
    except (TensorFileError, SafetensorError, KeyError, ValueError) as error:
        raise TensorFileError(
            f"{path} is not an intact sklearn_v2s file: {error}. Get the file again "
            "from where it came; if it came with the package, reinstall sklearn-v2s."
        ) from error
    return TensorFile(tensors, header, hashlib.sha256(content).hexdigest())
