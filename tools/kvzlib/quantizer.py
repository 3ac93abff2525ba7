"""
KVTC's per-token group quantizer and FP8 (E4M3), in float32 with one rounding an operation: the same definition as
`Backend.quantize` in src/backend/backend.ts, so that equal coefficients give equal codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

INT2, INT4, FP8 = 1, 2, 3
#: Code bits by group type.
TYPE_BITS = (0, 2, 4, 8)
#: Bits of shift and scale, charged for every group.
METADATA_BITS = 32


@dataclass(frozen=True)
class Group:
    """Components [first, first + size) of one type."""

    first: int
    size: int
    type: int

    @property
    def bits(self) -> int:
        """Bits per token, shift and scale included."""
        return self.size * TYPE_BITS[self.type] + METADATA_BITS


def e4m3_encode(x: np.ndarray) -> np.ndarray:
    """E4M3 codes of finite float32 values: nearest, ties to even, saturating at ±448."""
    x = np.asarray(x, np.float32)
    a = np.minimum(np.abs(x), np.float32(448))
    bits = a.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFFF) + ((bits >> 20) & np.uint32(1))) >> 20
    normal = rounded - np.uint32(120 << 3)
    subnormal = np.rint(a * np.float32(512)).astype(np.uint32)
    code = np.where(a < np.float32(2**-6), subnormal, normal)
    return (code | (np.signbit(x).astype(np.uint32) << 7)).astype(np.uint8)


def _e4m3_table() -> np.ndarray:
    code = np.arange(256)
    exponent, mantissa = (code >> 3) & 15, code & 7
    value = np.where(exponent == 0, mantissa * 2.0**-9, (8 + mantissa) * 2.0 ** (exponent - 10))
    value[code & 127 == 127] = np.nan
    return np.where(code >= 128, -value, value).astype(np.float32)


E4M3_VALUES = _e4m3_table()


def f16(x: np.ndarray) -> np.ndarray:
    """Rounds float32 to binary16 and back."""
    return x.astype(np.float16).astype(np.float32)


def group_parameters(low: np.ndarray, high: np.ndarray, kind: int) -> tuple[np.ndarray, np.ndarray]:
    """Shift and scale, float32 values that binary16 holds, from a group's least and greatest coefficient."""
    if kind == FP8:
        return np.zeros_like(low), f16(np.maximum(np.abs(low), np.abs(high)) / np.float32(448))
    return f16(low), f16((high - low) / np.float32(2 ** TYPE_BITS[kind] - 1))


def encode_group(x: np.ndarray, kind: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes [tokens][size], shift and scale [tokens] of coefficients x [tokens][size] float32."""
    shift, scale = group_parameters(x.min(axis=1), x.max(axis=1), kind)
    live = scale > 0
    divisor = np.where(live, scale, np.float32(1))[:, None]
    if kind == FP8:
        codes = e4m3_encode(x / divisor)
    else:
        top = np.float32(2 ** TYPE_BITS[kind] - 1)
        codes = np.clip(np.rint((x - shift[:, None]) / divisor), 0, top).astype(np.uint8)
    return np.where(live[:, None], codes, np.uint8(0)), shift, scale


def decode_group(codes: np.ndarray, shift: np.ndarray, scale: np.ndarray, kind: int) -> np.ndarray:
    """Coefficients [tokens][size], the inverse of `encode_group`."""
    if kind == FP8:
        return E4M3_VALUES[codes] * scale[:, None]
    return codes.astype(np.float32) * scale[:, None] + shift[:, None]


def components_of(groups: list[Group]) -> int:
    """One past the last component in any group."""
    return max((g.first + g.size for g in groups), default=0)


def quantize(coefficients: np.ndarray, groups: list[Group]) -> tuple[np.ndarray, np.ndarray]:
    """Symbols u8 [tokens][components] and params u16 [tokens][groups][2] (binary16 bits of shift, scale)."""
    x = np.asarray(coefficients, np.float32)
    symbols = np.zeros((len(x), components_of(groups)), np.uint8)
    params = np.zeros((len(x), len(groups), 2), np.float16)
    for n, g in enumerate(groups):
        span = slice(g.first, g.first + g.size)
        symbols[:, span], params[:, n, 0], params[:, n, 1] = encode_group(x[:, span], g.type)
    return symbols, params.view(np.uint16)


def dequantize(symbols: np.ndarray, params: np.ndarray, groups: list[Group]) -> np.ndarray:
    """Coefficients float32 [tokens][components]; zero outside any group."""
    values = params.view(np.float16).astype(np.float32)
    out = np.zeros(symbols.shape, np.float32)
    for n, g in enumerate(groups):
        span = slice(g.first, g.first + g.size)
        out[:, span] = decode_group(symbols[:, span], values[:, n, 0], values[:, n, 1], g.type)
    return out


def encode_fp8_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """FP8 blocks (sinks): codes u8 [rows][length] and one binary16 scale (bits) a row."""
    codes, _, scale = encode_group(np.asarray(x, np.float32), FP8)
    return codes, scale.astype(np.float16).view(np.uint16)


def decode_fp8_rows(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The inverse of `encode_fp8_rows`, float32."""
    return E4M3_VALUES[codes] * scales.view(np.float16).astype(np.float32)[:, None]
