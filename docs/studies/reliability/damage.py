# SPDX-License-Identifier: Apache-2.0
"""Ways to damage a file, each a function of its content and a random generator."""

import copy
import io
import json
import pickle
import random
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sklearn_v2s.runtime.tensor_file import read_tensor_file, write_tensor_file

__all__ = ["ANEW", "Damage", "damages", "marker_path"]

Damage = Callable[[bytes, random.Random], bytes]

#: Ends the names of damages after which the digest of the file is right again.
ANEW = ", digest made anew"

_DEEP = 100_000
_ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 3, 10**9, 2**70, 0.5, -1e308, float("nan"), "", "x", "auto",
    [], [[]], {}, {"x": 1},
)  # fmt: skip


def marker_path(folder: Path) -> Path:
    """Return what the pickle in disguise makes where somebody unpickles it."""
    return folder / "unpickled"


class _Marking:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return Path.mkdir, (Path(self.path),)


def _flip_bits(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 8, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _flip_bits_in_front(content: bytes, rng: random.Random) -> bytes:
    """Flip bits where headers are."""
    length = min(len(content), 400)
    return _flip_bits(content[:length], rng) + content[length:]


def _overwrite(content: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(content))
    length = rng.randint(1, 200)
    return content[:begin] + rng.randbytes(length) + content[begin + length :]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _append(content: bytes, rng: random.Random) -> bytes:
    return content + rng.randbytes(rng.randint(1, 100))


def _swap_blocks(content: bytes, rng: random.Random) -> bytes:
    size = rng.randint(1, len(content) // 3)
    first = rng.randint(0, len(content) - 2 * size)
    second = rng.randint(first + size, len(content) - size)
    return b"".join(
        (
            content[:first],
            content[second : second + size],
            content[first + size : second],
            content[first : first + size],
            content[second + size :],
        )
    )


def _zip(content: bytes, rng: random.Random) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", rng.choice((0, zipfile.ZIP_DEFLATED))) as archive:
        archive.writestr(rng.choice(("data.pkl", "X.npy", "a.csv")), content)
    return stream.getvalue()


def _pickle_into(folder: Path) -> Damage:
    def damage(content: bytes, rng: random.Random) -> bytes:
        marking = _Marking(marker_path(folder))
        return pickle.dumps([marking, content], protocol=rng.randint(0, 5))

    return damage


def _random_bytes(content: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.randint(0, 2000))


def _deep_text(content: bytes, rng: random.Random) -> bytes:
    return rng.choice((b"[", b'{"a":', b"[0,")) * rng.randint(1, _DEEP)


def _long_line(content: bytes, rng: random.Random) -> bytes:
    """Put a line of very many names in front."""
    separator = rng.choice((b",", b"\t", b" ", b":"))
    return separator.join([b"name"] * rng.randint(1000, 50_000)) + b"\n" + content


# --- tensor files --------------------------------------------------------------------


def _parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header of a safetensors file and what follows it."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _joined(header: Any, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _swap_names(content: bytes, rng: random.Random) -> bytes:
    header, data = _parts(content)
    first, second = rng.sample([name for name in header if name[0] != "_"], 2)
    header[first], header[second] = header[second], header[first]
    return _joined(header, data)


def _claim_length(content: bytes, rng: random.Random) -> bytes:
    return struct.pack("<Q", rng.randrange(2 ** rng.randint(1, 64))) + content[8:]


def _claim_shape(content: bytes, rng: random.Random) -> bytes:
    header, data = _parts(content)
    entry = header[rng.choice([name for name in header if name[0] != "_"])]
    if rng.random() < 0.5:
        entry["shape"] = [rng.randrange(2 ** rng.randint(8, 62)) for _ in range(3)]
    else:
        entry["data_offsets"] = [0, rng.randrange(2 ** rng.randint(8, 62))]
    return _joined(header, data)


def _nest(content: bytes, rng: random.Random) -> bytes:
    header, data = _parts(content)
    depth = rng.randint(100, _DEEP)
    deep = "[" * depth + "]" * rng.choice((depth, 0))
    if rng.random() < 0.3:
        return _joined(deep.encode(), data)
    header["__metadata__"] = {name: deep for name in header["__metadata__"]}
    return _joined(header, data)


def _made_anew(
    content: bytes, change: Callable[[dict[str, Any], dict[str, Any]], None]
) -> bytes:
    """Return the file with tensors and header changed, and a digest that is right."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        tensors, header, _ = read_tensor_file(path)
        header = copy.deepcopy(header)
        change(tensors, header)
        write_tensor_file(path, tensors, header)
        return path.read_bytes()


def _swap_tensors_anew(content: bytes, rng: random.Random) -> bytes:
    """Swap two tensors of different shape: of the same shape, nobody could tell."""

    def change(tensors: dict[str, Any], header: dict[str, Any]) -> None:
        while True:
            first, second = rng.sample(sorted(tensors), 2)
            if tensors[first].shape != tensors[second].shape:
                break
        tensors[first], tensors[second] = tensors[second], tensors[first]

    return _made_anew(content, change)


def _change_value_anew(content: bytes, rng: random.Random) -> bytes:
    """Change one value of the header, or leave it out."""

    def change(tensors: dict[str, Any], header: dict[str, Any]) -> None:
        place: Any = header
        while True:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            key = rng.choice(list(keys))
            value = place[key]
            if isinstance(value, dict | list) and value and rng.random() < 0.8:
                place = value
                continue
            break
        if rng.random() < 0.2:
            del place[key]
        else:
            place[key] = rng.choice(_ODD_VALUES)

    return _made_anew(content, change)


# --- .npy ----------------------------------------------------------------------------


def _npy(header: bytes, data: bytes, version: int) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + data


def _npy_claim_length(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return content[:8] + rng.randbytes(2) + content[10:]
    length = struct.pack("<I", rng.randrange(2 ** rng.randint(1, 32)))
    return content[:6] + b"\x02\x00" + length + content[10:]


def _npy_claim_shape(content: bytes, rng: random.Random) -> bytes:
    shape = tuple(
        rng.randrange(2 ** rng.randint(1, 70)) for _ in range(rng.randint(1, 4))
    )
    kind = rng.choice(("<f8", "<f4", "|O", "<U9", "|V8", "<i8"))
    header = repr({"descr": kind, "fortran_order": False, "shape": shape})
    return _npy(header.encode() + b"\n", content[128:], 1)


def _npy_nest(content: bytes, rng: random.Random) -> bytes:
    depth = rng.randint(50, 30_000)
    deep = rng.choice(("(" * depth + ")" * depth, "-" * depth + "1", "[" * depth))
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({deep},)}}\n"
    return _npy(header.encode(), content[128:], 2)


def damages(suffix: str, folder: Path) -> dict[str, Damage]:
    """Return the damages of one format by name.

    Parameters
    ----------
    suffix : str
        End of the name of such files.
    folder : Path
        Where the pickle in disguise leaves its mark.

    Returns
    -------
    dict of str to callable
        Content and `random.Random` to the damaged content.
    """
    found: dict[str, Damage] = {
        "bits flipped": _flip_bits,
        "bits of the first 400 bytes flipped": _flip_bits_in_front,
        "bytes overwritten": _overwrite,
        "cut off": _cut,
        "bytes appended": _append,
        "blocks swapped": _swap_blocks,
        "zip in disguise": _zip,
        "pickle in disguise": _pickle_into(folder),
        "random bytes": _random_bytes,
        "deep JSON": _deep_text,
    }
    if suffix == ".safetensors":
        found |= {
            "tensors swapped": _swap_names,
            "tensors swapped" + ANEW: _swap_tensors_anew,
            "value of the header changed" + ANEW: _change_value_anew,
            "huge header claimed": _claim_length,
            "huge tensors claimed": _claim_shape,
            "deep JSON in the header": _nest,
        }
    elif suffix == ".npy":
        found |= {
            "huge header claimed": _npy_claim_length,
            "huge array claimed": _npy_claim_shape,
            "deep header": _npy_nest,
        }
    else:
        found["huge first line"] = _long_line
    return found
