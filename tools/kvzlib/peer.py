"""
The KVTC transform in float32 on NumPy and on PyTorch, as one would write it for speed there: the peers that kvz is
timed against. Both share packing (NumPy) and DEFLATE (zlib, level 6, streams spread over threads).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from .caches import Cache
from .codec import KINDS
from .profile import KindProfile
from .quantizer import FP8, TYPE_BITS, Group, components_of, decode_fp8_rows, dequantize, encode_fp8_rows, quantize
from .rope import rotation
from .streams import code_streams, deflate_bytes, inflate, param_streams, params_of, symbols_of

Coded = dict[str, dict[str, Any]]


class NumpyPeer:
    """Compress and decompress one fp16 cache; `seconds` gathers the time of each stage."""

    def __init__(self, cache: Cache, profile: dict[str, KindProfile], ratio: float, threads: int, chunk: int = 256):
        self.sinks, self.window, self.chunk, self.tokens = 4, 128, chunk, cache.tokens
        self.shape = {"key": cache.keys.shape, "value": cache.values.shape}
        if cache.rope is None:
            raise ValueError("Cannot time a cache without RoPE: the peer undoes it")
        turn = rotation(cache.rope, cache.positions)
        self.cos, self.sin = ((x * turn.factor).astype(np.float32) for x in (turn.cos, turn.sin))
        self.inverse = np.float32(1 / turn.factor**2)
        self.groups = {k: profile[k].plan(ratio) for k in KINDS}
        self.mean = {k: profile[k].mean.copy() for k in KINDS}
        self.basis = {k: profile[k].basis[: components_of(self.groups[k])].astype(np.float32) for k in KINDS}
        self.pool = ThreadPoolExecutor(threads)
        self.seconds: dict[str, float] = {}

    def timed(self, stage: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = work()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
        return result

    def rotate(self, x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
        half = cos.shape[1]
        a, b = x[..., :half], x[..., half : 2 * half]
        out = x.copy()
        out[..., :half], out[..., half : 2 * half] = a * cos - b * sin, b * cos + a * sin
        return out

    def gather(self, kind: str, x: np.ndarray, span: slice) -> np.ndarray:
        y = x[:, :, span].astype(np.float32)
        if kind == "key":
            y = self.rotate(y, self.cos[span] * self.inverse, -self.sin[span] * self.inverse)
        return y.transpose(2, 0, 1, 3).reshape(y.shape[2], -1)

    def scatter(self, kind: str, rows: np.ndarray, span: slice) -> np.ndarray:
        layers, heads, _, dim = self.shape[kind]
        y = rows.reshape(len(rows), layers, heads, dim).transpose(1, 2, 0, 3)
        if kind == "key":
            y = self.rotate(np.ascontiguousarray(y), self.cos[span], self.sin[span])
        return y.astype(np.float16)

    def project(self, kind: str, x: np.ndarray, span: slice) -> np.ndarray:
        return (self.gather(kind, x, span) - self.mean[kind]) @ self.basis[kind].T

    def reconstruct(self, kind: str, coefficients: np.ndarray, span: slice) -> np.ndarray:
        return self.scatter(kind, coefficients @ self.basis[kind] + self.mean[kind], span)

    quantize = staticmethod(quantize)
    dequantize = staticmethod(dequantize)

    def source(self, x: np.ndarray) -> Any:
        """The cache's tensor as this peer holds it."""
        return x

    def compress(self, tensors: dict[str, Any]) -> Coded:
        """Streams by kind: chunks of codes and scales, sinks, window as byte planes."""
        out: Coded = {}
        end = self.tokens - self.window
        for kind in KINDS:
            x, groups = tensors[kind], self.groups[kind]
            coefficients = self.timed("transform", lambda: self.project(kind, x, slice(self.sinks, end)))
            symbols, params = self.timed("quantize", lambda: self.quantize(coefficients, groups))
            first = np.asarray(self.gather(kind, x, slice(0, self.sinks)))
            blocks = self.shape[kind][0] * self.shape[kind][1]
            rows = first.reshape(self.sinks, blocks, -1).transpose(1, 0, 2).reshape(blocks, -1)
            codes, scales = encode_fp8_rows(rows)
            raw = np.ascontiguousarray(np.asarray(x)[:, :, end:]).view(np.uint8).reshape(-1, 2)
            spans = [slice(t, t + self.chunk) for t in range(0, len(symbols), self.chunk)]
            parts = self.timed(
                "pack",
                lambda: [p for s in spans for p in (*code_streams(symbols[s], groups), *param_streams(params[s]))],
            )
            parts += [codes.tobytes(), scales.tobytes(), raw[:, 0].tobytes(), raw[:, 1].tobytes()]
            out[kind] = {"streams": self.timed("deflate", lambda: list(self.pool.map(deflate_bytes, parts)))}
        return out

    def decompress(self, coded: Coded) -> dict[str, np.ndarray]:
        """fp16 [layers][heads][tokens][dim] by kind."""
        out: dict[str, np.ndarray] = {}
        end = self.tokens - self.window
        for kind in KINDS:
            groups = self.groups[kind]
            parts = self.timed("inflate", lambda: list(self.pool.map(inflate, coded[kind]["streams"])))
            counts = [min(self.chunk, end - self.sinks - t) for t in range(0, end - self.sinks, self.chunk)]

            def unpack() -> tuple[np.ndarray, np.ndarray]:
                at = [parts[5 * n : 5 * n + 5] for n in range(len(counts))]
                symbols = [symbols_of(a[:3], groups, n) for a, n in zip(at, counts)]
                params = [params_of(a[3:], groups, n) for a, n in zip(at, counts)]
                return np.concatenate(symbols), np.concatenate(params)

            symbols, params = self.timed("unpack", unpack)
            coefficients = self.timed("dequantize", lambda: self.dequantize(symbols, params, groups))
            whole = np.empty(self.shape[kind], np.float16)
            middle = slice(self.sinks, end)
            whole[:, :, middle] = self.timed(
                "transform", lambda: np.asarray(self.reconstruct(kind, coefficients, middle))
            )
            codes, scales, low, high = parts[5 * len(counts) :]
            rows = decode_fp8_rows(
                np.frombuffer(codes, np.uint8).reshape(len(scales) // 2, -1), np.frombuffer(scales, np.uint16)
            )
            first = rows.reshape(len(rows), self.sinks, -1).transpose(1, 0, 2).reshape(self.sinks, -1)
            whole[:, :, : self.sinks] = np.asarray(NumpyPeer.scatter(self, kind, first, slice(0, self.sinks)))
            raw = np.stack([np.frombuffer(low, np.uint8), np.frombuffer(high, np.uint8)], axis=1).view(np.float16)
            whole[:, :, end:] = raw.reshape(whole[:, :, end:].shape)
            out[kind] = whole
        return out


def torch_peer(*arguments: Any, threads: int) -> NumpyPeer:
    """The same with the transform and the quantizer on PyTorch's CPU kernels."""
    import torch

    torch.set_num_threads(threads)

    class TorchPeer(NumpyPeer):
        def __init__(self) -> None:
            super().__init__(*arguments, threads)
            self.tmean = {k: torch.from_numpy(x) for k, x in self.mean.items()}
            self.tbasis = {k: torch.from_numpy(x) for k, x in self.basis.items()}
            self.tcos, self.tsin = torch.from_numpy(self.cos), torch.from_numpy(self.sin)

        def turn(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
            half = cos.shape[1]
            a, b = x[..., :half], x[..., half : 2 * half]
            return torch.cat([a * cos - b * sin, b * cos + a * sin, x[..., 2 * half :]], dim=-1)

        def source(self, x: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(x)

        def gather(self, kind: str, x: torch.Tensor, span: slice) -> torch.Tensor:
            y = x[:, :, span].float()
            if kind == "key":
                scale = float(self.inverse)
                y = self.turn(y, self.tcos[span] * scale, self.tsin[span] * -scale)
            return y.permute(2, 0, 1, 3).reshape(y.shape[2], -1)

        def project(self, kind: str, x: torch.Tensor, span: slice) -> torch.Tensor:
            return (self.gather(kind, x, span) - self.tmean[kind]) @ self.tbasis[kind].T

        def reconstruct(self, kind: str, coefficients: torch.Tensor, span: slice) -> torch.Tensor:
            rows = torch.addmm(self.tmean[kind], coefficients, self.tbasis[kind])
            layers, heads, _, dim = self.shape[kind]
            y = rows.reshape(len(rows), layers, heads, dim).permute(1, 2, 0, 3)
            if kind == "key":
                y = self.turn(y, self.tcos[span], self.tsin[span])
            return y.half()

        def quantize(self, x: torch.Tensor, groups: list[Group]) -> tuple[np.ndarray, np.ndarray]:
            symbols = torch.zeros((len(x), components_of(groups)), dtype=torch.uint8)
            params = torch.zeros((len(x), len(groups), 2), dtype=torch.float16)
            for n, g in enumerate(groups):
                block = x[:, g.first : g.first + g.size]
                if g.type == FP8:
                    scale = (block.abs().amax(1) / 448).half()
                    q = (block / scale.float().clamp_min(2**-24)[:, None]).clamp(-448, 448)
                    codes = q.to(torch.float8_e4m3fn).view(torch.uint8)
                else:
                    low, high = block.aminmax(dim=1)
                    top = 2 ** TYPE_BITS[g.type] - 1
                    shift, scale = low.half(), ((high - low) / top).half()
                    q = (block - shift.float()[:, None]) / scale.float().clamp_min(2**-24)[:, None]
                    # A scale of zero means one value in the whole group: its code is zero.
                    codes = (q.round().clamp(0, top) * (scale > 0)[:, None]).to(torch.uint8)
                    params[:, n, 0] = shift
                symbols[:, g.first : g.first + g.size] = codes
                params[:, n, 1] = scale
            return symbols.numpy(), params.numpy().view(np.uint16)

        def dequantize(self, symbols: np.ndarray, params: np.ndarray, groups: list[Group]) -> torch.Tensor:
            codes = torch.from_numpy(symbols)
            values = torch.from_numpy(params.view(np.float16)).float()
            out = torch.zeros(codes.shape)
            for n, g in enumerate(groups):
                block = codes[:, g.first : g.first + g.size]
                block = block.view(torch.float8_e4m3fn).float() if g.type == FP8 else block.float()
                out[:, g.first : g.first + g.size] = block * values[:, n, 1:] + values[:, n, :1]
            return out

    return TorchPeer()
