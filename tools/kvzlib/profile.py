"""Profiles for the reference: fitted here (exact PCA) or exported from a .kvzp as .safetensors; read from .npz too."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import scipy.linalg

from .allocate import allocate, budget_bits, error_table
from .caches import read_cache
from .quantizer import Group
from .safefile import read_tensors, write_tensors


@dataclass
class KindProfile:
    """Mean f32 [p], orthonormal basis f16 [components][p]; error table and fixed plan where known."""

    mean: np.ndarray
    basis: np.ndarray
    energy: np.ndarray | None = None
    errors: np.ndarray | None = None
    groups: list[Group] | None = None
    extra: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def features(self) -> int:
        return len(self.mean)

    def plan(self, ratio: float) -> list[Group]:
        """The plan stated by the file, else the optimum of the error table for the ratio."""
        if self.groups is not None:
            return self.groups
        if self.energy is None or self.errors is None:
            raise ValueError("Cannot plan: the profile holds neither groups nor an error table")
        groups, _ = allocate(self.energy, self.errors, budget_bits(self.features, ratio))
        if groups and groups[-1].first + groups[-1].size > len(self.basis):
            raise ValueError(f"Cannot plan ratio {ratio}: the basis is trimmed to {len(self.basis)} components")
        return groups


def load_profile(path: Path | str) -> dict[str, KindProfile]:
    """
    Reads `key.mean` f32 [p], `key.basis` f16 [r][p] and, where present, `key.energy` [rank], `key.errors`
    [rank][sizes][types], `key.groups` i32 [g][3] = first, size, type; the same for `value`.
    """
    path = Path(path)
    tensors = dict(np.load(path)) if path.suffix == ".npz" else read_tensors(path)[0]
    out: dict[str, KindProfile] = {}
    for kind in ("key", "value"):
        mine = {name[len(kind) + 1 :]: x for name, x in tensors.items() if name.startswith(kind + ".")}
        mean, basis = mine.pop("mean"), mine.pop("basis")
        if basis.ndim != 2 or mean.shape != basis.shape[1:]:
            raise ValueError(f"Cannot read {path}: {kind}.basis is {basis.shape}, {kind}.mean is {mean.shape}")
        groups = mine.pop("groups", None)
        plan = None if groups is None else [Group(*map(int, row)) for row in groups.reshape(-1, 3)]
        out[kind] = KindProfile(mean, basis, mine.pop("energy", None), mine.pop("errors", None), plan, mine)
    return out


def save_profile(path: Path, profile: dict[str, KindProfile], metadata: dict[str, str]) -> None:
    """Writes what `load_profile` reads, as .safetensors."""
    tensors: dict[str, tuple[str, np.ndarray]] = {}
    for kind, p in profile.items():
        tensors[f"{kind}.mean"] = ("F32", p.mean)
        tensors[f"{kind}.basis"] = ("F16", p.basis)
        if p.energy is not None and p.errors is not None:
            tensors[f"{kind}.energy"] = ("F64", p.energy)
            tensors[f"{kind}.errors"] = ("F32", p.errors)
        if p.groups is not None:
            rows = np.array([[g.first, g.size, g.type] for g in p.groups], np.int32).reshape(-1, 3)
            tensors[f"{kind}.groups"] = ("I32", rows)
        for name, x in p.extra.items():
            tensors[f"{kind}.{name}"] = (str(np.dtype(x.dtype)).replace("float", "F").replace("int", "I"), x)
    write_tensors(path, tensors, metadata)


def _fit_kind(paths: list[Path], kind: str, rank: int, sinks: int, rows: int, seed: int) -> KindProfile:
    """Exact PCA of one kind: Gram matrix in float64 over files read one at a time, then its leading eigenvectors."""
    start = time.monotonic()
    count, total, gram = 0, None, None
    sampled: list[np.ndarray] = []
    random = np.random.default_rng(seed)
    for path in paths:
        x = read_cache(path).features(kind, sinks)
        if gram is None or total is None:
            total, gram = np.zeros(x.shape[1]), np.zeros((x.shape[1], x.shape[1]))
            # Rough centre, so that float32 products lose nothing to a large common offset; taken off again below.
            centre = x.mean(axis=0)
        x = x - centre
        count += len(x)
        total += x.sum(axis=0, dtype=np.float64)
        gram += x.T @ x
        sampled.append(x[np.sort(random.choice(len(x), min(len(x), -(-rows // len(paths))), replace=False))] + centre)
    mean = total / count
    gram /= count
    gram -= np.outer(mean, mean)
    total_variance = float(np.trace(gram))
    p = len(mean)
    rank = min(rank, p, count - 1)
    values, vectors = scipy.linalg.eigh(gram, subset_by_index=(p - rank, p - 1), overwrite_a=True, check_finite=False)
    del gram
    basis = np.ascontiguousarray(vectors[:, ::-1].T).astype(np.float16)
    mean32 = (mean + centre).astype(np.float32)
    print(f"{kind}: {count} rows, rank {rank}, basis after {time.monotonic() - start:.0f} s", file=sys.stderr)
    sample = (np.concatenate(sampled)[:rows] - mean32) @ basis.astype(np.float32).T
    energy, errors = error_table(sample, kind)
    print(f"{kind}: done after {time.monotonic() - start:.0f} s", file=sys.stderr)
    extra = {
        "variance": values[::-1].astype(np.float32),
        "total_variance": np.array([total_variance], np.float64),
        "rows": np.array([len(sample)], np.int32),
    }
    return KindProfile(mean32, basis, energy, errors, None, extra)


def fit(paths: list[Path], rank: int, sinks: int, rows: int, seed: int) -> dict[str, KindProfile]:
    """
    Fits keys and values on calibration caches, leaving out the first `sinks` tokens of each sequence. The bit
    allocation's error table is measured on `rows` sampled tokens, projected on the basis as stored (binary16).
    """
    return {kind: _fit_kind(paths, kind, rank, sinks, rows, seed) for kind in ("key", "value")}
