"""KVTC on one cache with NumPy: sinks in FP8, the transform-coded middle, the raw window; errors and bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .caches import Cache
from .profile import KindProfile
from .quantizer import Group, decode_fp8_rows, dequantize, encode_fp8_rows, quantize
from .safefile import from_bf16, to_bf16
from .streams import code_streams, deflate, pack_codes, param_streams

KINDS = ("key", "value")


@dataclass(frozen=True)
class CodedKind:
    """Coded form of keys or values: sinks (codes, scales per layer and head) and per-token symbols and parameters."""

    groups: list[Group]
    sink_codes: np.ndarray
    sink_scales: np.ndarray
    symbols: np.ndarray
    params: np.ndarray


def store(x: np.ndarray, dtype: str) -> np.ndarray:
    """Rounds float values through the cache's element type."""
    if dtype == "bf16":
        return from_bf16(to_bf16(x.astype(np.float32)))
    return x.astype({"f16": np.float16, "f32": np.float32}[dtype]).astype(np.float32)


def sink_rows(cache: Cache, kind: str, sinks: int) -> np.ndarray:
    """Sinks with RoPE undone, a row for each layer and head: [layers · heads][sinks · dim]."""
    x = cache.features(kind, 0, sinks)
    blocks = cache.keys.shape[0] * cache.keys.shape[1]
    return np.ascontiguousarray(x.reshape(sinks, blocks, -1).transpose(1, 0, 2)).reshape(blocks, -1)


def compress_kind(
    cache: Cache, kind: str, profile: KindProfile, groups: list[Group], sinks: int, window: int
) -> CodedKind:
    """Codes tokens [sinks, tokens − window); projection in float64, quantizer in float32."""
    used = max((g.first + g.size for g in groups), default=0)
    x = cache.features(kind, sinks, cache.tokens - window).astype(np.float64) - profile.mean
    coefficients = (x @ profile.basis[:used].astype(np.float64).T).astype(np.float32)
    symbols, params = quantize(coefficients, groups)
    codes, scales = encode_fp8_rows(sink_rows(cache, kind, sinks))
    return CodedKind(groups, codes, scales, symbols, params)


def decompress_kind(cache: Cache, kind: str, coded: CodedKind, profile: KindProfile, sinks: int) -> np.ndarray:
    """Restored tokens before the window, [layers][heads][tokens][dim] after RoPE, in the cache's element type."""
    coefficients = dequantize(coded.symbols, coded.params, coded.groups).astype(np.float64)
    rows = coefficients @ profile.basis[: coefficients.shape[1]].astype(np.float64) + profile.mean
    blocks = len(coded.sink_scales)
    first = decode_fp8_rows(coded.sink_codes, coded.sink_scales).reshape(blocks, sinks, -1).transpose(1, 0, 2)
    return store(cache.unfeatures(kind, np.concatenate([first.reshape(sinks, rows.shape[1]), rows])), cache.dtype)


def stream_bytes(coded: CodedKind, chunk: int) -> dict[str, int]:
    """Bytes by stream after DEFLATE, in chunks of `chunk` tokens (0: the whole as one)."""
    tokens = len(coded.symbols)
    step = chunk or max(tokens, 1)
    spans = [slice(at, at + step) for at in range(0, tokens, step)]
    return {
        "codes": sum(deflate(x) for s in spans for x in code_streams(coded.symbols[s], coded.groups)),
        "scales": sum(deflate(x) for s in spans for x in param_streams(coded.params[s])),
        "sinks": deflate(coded.sink_codes.tobytes()) + deflate(coded.sink_scales.tobytes()),
        "beforeDeflate": sum(len(pack_codes(coded.symbols[s], coded.groups)) for s in spans) + coded.params.nbytes,
    }


def evaluate(
    cache: Cache,
    profile: dict[str, KindProfile],
    ratios: dict[str, float],
    sinks: int = 4,
    window: int = 128,
    chunk: int = 256,
) -> dict[str, Any]:
    """Compresses and restores a cache; target and paper ratio, relative errors of K and V, bytes by stream."""
    middle = cache.tokens - window
    if middle < sinks:
        raise ValueError(f"Cannot evaluate: {cache.tokens} tokens, expected at least {sinks + window} (sinks + window)")
    report: dict[str, Any] = {"targetRatio": ratios, "sinks": sinks, "window": window, "chunk": chunk}
    total, fp16_bytes = 0, 0
    for kind in KINDS:
        p = profile[kind]
        groups = p.plan(ratios[kind])
        coded = compress_kind(cache, kind, p, groups, sinks, window)
        restored = decompress_kind(cache, kind, coded, p, sinks)[:, :, sinks:]
        original = (cache.keys if kind == "key" else cache.values)[:, :, sinks:middle]
        error = np.linalg.norm((restored - original).astype(np.float64))
        centred = np.linalg.norm(cache.features(kind, sinks, middle).astype(np.float64) - p.mean)
        sizes = stream_bytes(coded, chunk)
        total += sizes["codes"] + sizes["scales"] + sizes["sinks"]
        fp16_bytes += 2 * middle * p.features
        report[kind] = {
            "relativeError": float(error / np.linalg.norm(original.astype(np.float64))),
            "relativeErrorCentred": float(error / centred),
            "components": coded.symbols.shape[1],
            "groups": len(groups),
            "bitsPerToken": sum(g.bits for g in groups),
            "bytes": sizes,
        }
    return report | {"paperRatio": fp16_bytes / total, "bytes": total, "fp16Bytes": fp16_bytes}
