#!/usr/bin/env python3
"""
Measures in which order codes, shifts and scales should lie before DEFLATE: bytes of every layout, as a Markdown table.

    python tools/measure_layout.py CACHE... --profile P.safetensors --ratio 8 16 32 [--chunk 256]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kvzlib.caches import read_cache
from kvzlib.codec import compress_kind
from kvzlib.profile import load_profile
from kvzlib.quantizer import TYPE_BITS, Group
from kvzlib.streams import deflate, pack_bits, pack_codes

Layout = Callable[[np.ndarray, list[Group]], list[bytes]]


def _span(symbols: np.ndarray, g: Group) -> np.ndarray:
    return symbols[:, g.first : g.first + g.size]


def _by_type(symbols: np.ndarray, groups: list[Group], one: Callable[[np.ndarray, list[Group]], bytes]) -> list[bytes]:
    by_type = [[g for g in groups if g.type == t] for t in (1, 2, 3)]
    return [one(symbols, mine) for mine in by_type if mine]


def _token_major(symbols: np.ndarray, groups: list[Group]) -> bytes:
    return np.concatenate([pack_bits(_span(symbols, g), TYPE_BITS[g.type]) for g in groups], axis=1).tobytes()


def _token_group_major(symbols: np.ndarray, groups: list[Group]) -> bytes:
    return b"".join(pack_bits(_span(symbols, g), TYPE_BITS[g.type]).tobytes() for g in groups)


def _bytes_component_major(symbols: np.ndarray, groups: list[Group]) -> bytes:
    return b"".join(np.ascontiguousarray(_span(symbols, g).T).tobytes() for g in groups)


def _bytes_token_major(symbols: np.ndarray, groups: list[Group]) -> bytes:
    return np.concatenate([_span(symbols, g) for g in groups], axis=1).tobytes()


def _bit_planes(symbols: np.ndarray, groups: list[Group]) -> bytes:
    out = []
    for g in groups:
        x = np.ascontiguousarray(_span(symbols, g).T)
        out += [np.packbits((x >> b) & 1, axis=1, bitorder="little").tobytes() for b in range(TYPE_BITS[g.type])]
    return b"".join(out)


def _nibbles(symbols: np.ndarray, groups: list[Group]) -> bytes:
    """int2 four to a byte, int4 one to a byte, fp8 one to a byte, component-major."""
    parts = []
    for g in groups:
        x = np.ascontiguousarray(_span(symbols, g).T)
        parts.append((pack_bits(x, 2) if g.type == 1 else x).tobytes())
    return b"".join(parts)


def _pairs_across(symbols: np.ndarray, groups: list[Group]) -> bytes:
    """A byte holds neighbouring components of one token; byte columns then run along the tokens."""
    return b"".join(np.ascontiguousarray(pack_bits(_span(symbols, g), TYPE_BITS[g.type]).T).tobytes() for g in groups)


def _drop_constant(groups: list[Group]) -> list[Group]:
    return [g for g in groups if g.size > 1]


CODES: dict[str, Layout] = {
    "component-major packed (Backend.pack)": lambda s, g: [pack_codes(s, g)],
    "component-major packed, a stream a type": lambda s, g: _by_type(s, g, pack_codes),
    "component-major packed, groups ordered by type": lambda s, g: [pack_codes(s, sorted(g, key=lambda x: x.type))],
    "component-major packed, without size-1 groups": lambda s, g: [pack_codes(s, _drop_constant(g))],
    "component-major, int4 a byte a symbol": lambda s, g: [_nibbles(s, g)],
    "component-major, int4 a byte a symbol, a stream a type": lambda s, g: _by_type(s, g, _nibbles),
    "component-major, a byte a symbol": lambda s, g: [_bytes_component_major(s, g)],
    "component-major, a byte a symbol, a stream a type": lambda s, g: _by_type(s, g, _bytes_component_major),
    "bytes of neighbouring components, along tokens": lambda s, g: [_pairs_across(s, g)],
    "bit-planes of each component": lambda s, g: [_bit_planes(s, g)],
    "token-major packed": lambda s, g: [_token_major(s, g)],
    "token-major packed, a stream a type": lambda s, g: _by_type(s, g, _token_major),
    "group by group, token-major packed": lambda s, g: [_token_group_major(s, g)],
    "token-major, a byte a symbol": lambda s, g: [_bytes_token_major(s, g)],
}


def _planes(x: np.ndarray) -> list[bytes]:
    """Low bytes, then high bytes, of u16 values."""
    return [(x & 255).astype(np.uint8).tobytes() + (x >> 8).astype(np.uint8).tobytes()]


def _columns(p: np.ndarray) -> np.ndarray:
    """[groups][2][tokens]."""
    return np.ascontiguousarray(p.transpose(1, 2, 0))


def _ordered(p: np.ndarray) -> np.ndarray:
    """binary16 bits as integers that grow with the value."""
    return np.where(p & 0x8000, ~p, p | 0x8000).astype(np.uint16)


def _delta(x: np.ndarray, xor: bool) -> np.ndarray:
    out = x.copy()
    out[..., 1:] = x[..., 1:] ^ x[..., :-1] if xor else x[..., 1:] - x[..., :-1]
    return out


def _column_planes(x: np.ndarray) -> list[bytes]:
    """For each column its low bytes, then its high bytes."""
    return [np.ascontiguousarray(np.stack([x & 255, x >> 8], axis=-2).astype(np.uint8)).tobytes()]


def _live(p: np.ndarray, groups: list[Group]) -> np.ndarray:
    """Rows [columns][tokens] without those that are zero by definition: shift of fp8, scale of size 1."""
    x = _columns(p)
    keep = [(n, j) for n, g in enumerate(groups) for j in (0, 1) if (g.type, j) != (3, 0) and (g.size, j) != (1, 1)]
    return np.stack([x[n, j] for n, j in keep])


def _apart(x: np.ndarray) -> np.ndarray:
    """[2][groups][tokens]: all shifts, then all scales."""
    return np.ascontiguousarray(x.transpose(1, 0, 2))


PARAMS: dict[str, Layout] = {
    "token-major, interleaved": lambda p, g: [p.tobytes()],
    "token-major, byte planes": lambda p, g: _planes(p),
    "group-major (group, shift|scale, token)": lambda p, g: [_columns(p).tobytes()],
    "group-major, byte planes of the whole": lambda p, g: _planes(_columns(p)),
    "group-major, byte planes a column": lambda p, g: _column_planes(_columns(p)),
    "all shifts, then all scales; byte planes of the whole": lambda p, g: _planes(_apart(_columns(p))),
    "all shifts, then all scales; byte planes a column": lambda p, g: _column_planes(_apart(_columns(p))),
    "two streams (shifts, scales), byte planes of the whole": lambda p, g: (
        _planes(_columns(p)[:, 0]) + _planes(_columns(p)[:, 1])
    ),
    "two streams (low bytes, high bytes)": lambda p, g: [
        (_columns(p) & 255).astype(np.uint8).tobytes(),
        (_columns(p) >> 8).astype(np.uint8).tobytes(),
    ],
    "group-major, xor of tokens, byte planes of the whole": lambda p, g: _planes(_delta(_columns(p), True)),
    "group-major, difference of tokens, byte planes of the whole": lambda p, g: _planes(_delta(_columns(p), False)),
    "group-major, ordered integers, difference, byte planes": lambda p, g: _planes(
        _delta(_ordered(_columns(p)), False)
    ),
    "group-major without constant columns, byte planes of the whole": lambda p, g: _planes(_live(p, g)),
    "group-major without constant columns, byte planes a column": lambda p, g: _column_planes(_live(p, g)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("caches", nargs="+", type=Path)
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--ratio", nargs="+", type=float, default=[8.0, 16.0, 32.0])
    parser.add_argument("--chunk", type=int, default=256, help="tokens a chunk, 0 for the whole")
    args = parser.parse_args()
    profile = load_profile(args.profile)
    columns = [(c, r, k) for c in args.caches for r in args.ratio for k in ("key", "value")]
    sizes: dict[tuple[str, str], list[int]] = {}
    for path, ratio, kind in columns:
        cache = read_cache(path)
        coded = compress_kind(cache, kind, profile[kind], profile[kind].plan(ratio), 4, 128)
        step = args.chunk or len(coded.symbols)
        spans = [slice(at, at + step) for at in range(0, len(coded.symbols), step)]
        raw = {
            "codes": sum(len(pack_codes(coded.symbols[s], coded.groups)) for s in spans),
            "scales": coded.params.nbytes,
        }
        for stream, layouts, data in (("codes", CODES, coded.symbols), ("scales", PARAMS, coded.params)):
            sizes.setdefault((stream, "before DEFLATE"), []).append(raw[stream])
            for name, layout in layouts.items():
                total = sum(deflate(part) for s in spans for part in layout(data[s], coded.groups))
                sizes.setdefault((stream, name), []).append(total)
    heads = [f"{c.stem} {r:g}× {'K' if k == 'key' else 'V'}" for c, r, k in columns]
    for stream in ("codes", "scales"):
        print(f"\n| {stream}, chunks of {args.chunk or 'all'} tokens | " + " | ".join(heads) + " | sum |")
        print("|---|" + "---|" * (len(heads) + 1))
        rows = sorted(((sum(v), n, v) for (s, n), v in sizes.items() if s == stream))
        for total, name, values in rows:
            print(f"| {name} | " + " | ".join(map(str, values)) + f" | {total} |")


if __name__ == "__main__":
    main()
