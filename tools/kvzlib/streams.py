"""
The byte streams of a coded chunk, each DEFLATEd alone: codes component-major with a stream for each group type, and
the low and high bytes of shifts and scales apart. Chosen by `measure_layout.py`.
"""

from __future__ import annotations

import zlib

import numpy as np

from .quantizer import TYPE_BITS, Group, components_of

GROUP_TYPES = (1, 2, 3)


def deflate_bytes(data: bytes, level: int = 6) -> bytes:
    """Raw DEFLATE."""
    coder = zlib.compressobj(level, zlib.DEFLATED, -15, 8)
    return coder.compress(data) + coder.flush()


def deflate(data: bytes | np.ndarray, level: int = 6) -> int:
    """Bytes of raw DEFLATE, or of the data itself where that is shorter (the container's raw fallback)."""
    raw = data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes()
    return min(len(raw), len(deflate_bytes(raw, level)))


def inflate(data: bytes) -> bytes:
    """The inverse of `deflate_bytes`."""
    return zlib.decompress(data, -15)


def pack_bits(codes: np.ndarray, bits: int) -> np.ndarray:
    """Packs each row of u8 codes [rows][n], first code in the lowest bits, rows padded to whole bytes."""
    per = 8 // bits
    n = -(-codes.shape[1] // per) * per
    x = np.zeros((codes.shape[0], n), np.uint8)
    x[:, : codes.shape[1]] = codes
    x = x.reshape(codes.shape[0], n // per, per) << (np.arange(per, dtype=np.uint8) * bits)
    return np.bitwise_or.reduce(x, axis=2)


def unpack_bits(packed: np.ndarray, bits: int, n: int) -> np.ndarray:
    """The inverse of `pack_bits`: [rows][n]."""
    shifts = np.arange(8 // bits, dtype=np.uint8) * bits
    x = (packed[:, :, None] >> shifts) & np.uint8((1 << bits) - 1)
    return x.reshape(packed.shape[0], -1)[:, :n]


def pack_codes(symbols: np.ndarray, groups: list[Group]) -> bytes:
    """`Backend.pack`: component-major, each component's tokens contiguous and padded to a byte."""
    return b"".join(
        pack_bits(np.ascontiguousarray(symbols[:, g.first : g.first + g.size].T), TYPE_BITS[g.type]).tobytes()
        for g in groups
    )


def code_streams(symbols: np.ndarray, groups: list[Group]) -> list[bytes]:
    """Packed codes of the int2, the int4 and the fp8 groups."""
    return [pack_codes(symbols, [g for g in groups if g.type == t]) for t in GROUP_TYPES]


def symbols_of(streams: list[bytes], groups: list[Group], tokens: int) -> np.ndarray:
    """The inverse of `code_streams`: u8 [tokens][components]."""
    out = np.zeros((tokens, components_of(groups)), np.uint8)
    for kind, stream in zip(GROUP_TYPES, streams):
        packed, at, bits = np.frombuffer(stream, np.uint8), 0, TYPE_BITS[kind]
        width = -(-tokens * bits // 8)
        for g in groups:
            if g.type == kind:
                rows = packed[at : at + g.size * width].reshape(g.size, width)
                out[:, g.first : g.first + g.size] = unpack_bits(rows, bits, tokens).T
                at += g.size * width
    return out


def param_streams(params: np.ndarray) -> list[bytes]:
    """Low bytes and high bytes of u16 params [tokens][groups][2], each as [groups][shift, scale][tokens]."""
    x = params.transpose(1, 2, 0)
    return [(x & 255).astype(np.uint8).tobytes(), (x >> 8).astype(np.uint8).tobytes()]


def params_of(streams: list[bytes], groups: list[Group], tokens: int) -> np.ndarray:
    """The inverse of `param_streams`."""
    low, high = (np.frombuffer(s, np.uint8).reshape(len(groups), 2, tokens).astype(np.uint16) for s in streams)
    return np.ascontiguousarray((low | high << 8).transpose(2, 0, 1))
