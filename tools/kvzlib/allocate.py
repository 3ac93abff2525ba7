"""
Bit allocation of KVTC: the dynamic program of the paper's B.17 over group sizes and types, with the simulated
quantization hoisted into a table and the budget counted in the greatest common divisor of all costs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from .quantizer import E4M3_VALUES, FP8, METADATA_BITS, TYPE_BITS, Group, e4m3_encode, group_parameters

GROUP_SIZES = (1, 16, 64, 256, 1024)
GROUP_TYPES = (1, 2, 3)


def _round_e4m3(y: np.ndarray) -> np.ndarray:
    """The E4M3 value nearest to each |y| ≤ 448·(1 + 2⁻¹¹), in place; equal to decoding the code (tested)."""
    np.clip(y, -448, 448, out=y)
    # Adding and subtracting 2^20 · (the value's binade, at least 2⁻⁶) leaves three mantissa bits, ties to even.
    magic = y.view(np.uint32) & np.uint32(0x7F800000)
    magic = np.maximum(magic.view(np.float32), np.float32(2**-6)) * np.float32(1.5 * 2**20)
    y += magic
    y -= magic
    return y


def _group_errors(block: np.ndarray, low: np.ndarray, high: np.ndarray, kind: int) -> float:
    """Σ squared quantization error of a group's coefficients [size][rows]."""
    shift, scale = group_parameters(low, high, kind)
    divisor = np.where(scale > 0, scale, np.float32(1))
    if kind == FP8:
        q = _round_e4m3(block / divisor)
        q *= scale
    else:
        q = block - shift
        q /= divisor
        np.rint(q, out=q)
        np.clip(q, 0, 2 ** TYPE_BITS[kind] - 1, out=q)
        q *= scale
        q += shift
    q -= block
    return float(np.vdot(q, q))


def error_table(sample: np.ndarray, progress: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """
    Measured errors of every possible group on sample coefficients [rows][rank]: energy [rank] = Σ squares, and errors
    [rank][sizes][types] where entry i is the group whose last component is i (infinite where it would begin before 0).
    """
    rows, rank = sample.shape
    errors = np.zeros((rank, len(GROUP_SIZES), len(GROUP_TYPES)))
    for n, size in enumerate(GROUP_SIZES):
        errors[: size - 1, n] = np.inf
    # 256 rows at a time: the widest group's block then stays in the processor's cache.
    for begin in range(0, rows, 256):
        x = np.ascontiguousarray(sample[begin : begin + 256].T, np.float32)
        low, high, reach = x.copy(), x.copy(), 1
        for n, size in enumerate(GROUP_SIZES):
            while reach < size:
                # Doubles the reach: least and greatest of the `reach` components ending at each index.
                low[reach:], high[reach:] = (
                    np.minimum(low[reach:], low[:-reach]),
                    np.maximum(high[reach:], high[:-reach]),
                )
                reach *= 2
            for i in range(size - 1, rank):
                block = x[i - size + 1 : i + 1]
                for t, kind in enumerate(GROUP_TYPES):
                    errors[i, n, t] += _group_errors(block, low[i], high[i], kind)
        if progress:
            print(f"{progress}: error table, {min(begin + 256, rows)}/{rows} rows", file=sys.stderr)
    return (sample.astype(np.float64) ** 2).sum(axis=0), errors


def allocate(
    energy: np.ndarray,
    errors: np.ndarray,
    budget: int,
    sizes: Sequence[int] = GROUP_SIZES,
    types: Sequence[int] = GROUP_TYPES,
) -> tuple[list[Group], float]:
    """
    The groups of least total error within `budget` bits per token, and that error (Σ over sample rows). Optimal over
    all partitions into groups of the given sizes and types and dropped components (B.17; tested by brute force).
    """
    rank = len(energy)
    options = [
        (n, t, size, size * TYPE_BITS[kind] + METADATA_BITS)
        for n, size in enumerate(sizes)
        for t, kind in enumerate(types)
    ]
    quantum = int(np.gcd.reduce([cost for *_, cost in options]))
    columns = budget // quantum + 1
    before = np.concatenate([[0.0], np.cumsum(energy)])
    # best[i][b]: change of error against dropping everything, components < i, at most b quanta. No entry starts
    # unreachable: any budget may stay unspent, which is the pseudocode's carry from b − 1.
    best = np.zeros((rank + 1, columns))
    choice = np.full((rank + 1, columns), -1, np.int8)
    for i in range(1, rank + 1):
        best[i] = best[i - 1]
        for o, (n, t, size, cost) in enumerate(options):
            need = cost // quantum
            if size > i or need >= columns:
                continue
            gain = errors[i - 1, n, t] - (before[i] - before[i - size])
            candidate = best[i - size, : columns - need] + gain
            better = candidate < best[i, need:]
            np.copyto(best[i, need:], candidate, where=better)
            choice[i, need:][better] = o
    groups: list[Group] = []
    i, b = rank, columns - 1
    while i > 0:
        o = choice[i, b]
        if o < 0:
            i -= 1
            continue
        _, t, size, cost = options[o]
        groups.append(Group(i - size, size, types[t]))
        i, b = i - size, b - cost // quantum
    return groups[::-1], float(before[rank] + best[rank, columns - 1])


def bits_of(groups: list[Group]) -> int:
    """Bits per token of a plan, shifts and scales included."""
    return sum(g.bits for g in groups)


def budget_bits(features: int, ratio: float) -> int:
    """Bits per token and kind for a target ratio: ⌊16 p / ratio⌋."""
    return int(16 * features // ratio)


# The two ways to round to E4M3 must agree; a wrong table would silently skew every plan.
_probe = E4M3_VALUES[np.isfinite(E4M3_VALUES)]
if not np.array_equal(E4M3_VALUES[e4m3_encode(_probe)], _round_e4m3(_probe.copy())):
    raise AssertionError("E4M3 roundings disagree")
