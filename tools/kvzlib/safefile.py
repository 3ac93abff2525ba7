"""Reading and writing .safetensors with NumPy alone (its own NumPy binding knows no bf16)."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,
    "I64": np.int64,
    "I32": np.int32,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
}


def to_bf16(x: np.ndarray) -> np.ndarray:
    """Upper halves of binary32, rounded to nearest even; finite input."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits: np.ndarray) -> np.ndarray:
    """The float32 values of bf16 bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, str], int]:
    """Entries by name, metadata, and the offset at which the data begin."""
    with path.open("rb") as f:
        head = f.read(8)
        if len(head) < 8:
            raise ValueError(f"Cannot read {path}: a file of {len(head)} bytes is no .safetensors")
        (length,) = struct.unpack("<Q", head)
        if length > 100_000_000:
            raise ValueError(f"Cannot read {path}: header of {length} bytes, expected at most 100000000")
        try:
            header = json.loads(f.read(length))
        except ValueError as error:
            raise ValueError(f"Cannot read {path}: its header is no JSON, it is no .safetensors") from error
    metadata = header.pop("__metadata__", {})
    return header, metadata, 8 + length


def read_tensors(path: Path, names: list[str] | None = None) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All tensors, or those named; bf16 comes as float32."""
    header, metadata, base = read_header(path)
    out: dict[str, np.ndarray] = {}
    with path.open("rb") as f:
        for name, entry in header.items():
            if names is not None and name not in names:
                continue
            begin, end = entry["data_offsets"]
            f.seek(base + begin)
            x = np.frombuffer(f.read(end - begin), _DTYPES[entry["dtype"]]).reshape(entry["shape"])
            out[name] = from_bf16(x) if entry["dtype"] == "BF16" else x
    return out, metadata


def write_tensors(path: Path, tensors: dict[str, tuple[str, np.ndarray]], metadata: dict[str, str]) -> None:
    """
    Writes tensors given as (dtype name, array). Order as in the `safetensors` library: wider types first, then by
    name; the header is padded with spaces to a multiple of 8. The file appears whole or not at all.
    """
    width = {name: np.dtype(_DTYPES[dtype]).itemsize for name, (dtype, _) in tensors.items()}
    names = sorted(tensors, key=lambda n: (-width[n], n))
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name in names:
        dtype, x = tensors[name]
        size = x.size * width[name]
        header[name] = {"dtype": dtype, "shape": list(x.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as f:
        f.write(struct.pack("<Q", len(text)))
        f.write(text)
        for name in names:
            dtype, x = tensors[name]
            data = to_bf16(x) if dtype == "BF16" else np.ascontiguousarray(x, _DTYPES[dtype])
            f.write(data.tobytes())
    partial.rename(path)
