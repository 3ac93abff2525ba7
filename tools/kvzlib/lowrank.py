"""
The numbers of Palu and ReCalKV: whitened SVD, CKA, grouping of heads, offline calibration of values. NumPy, float64.

A projection W [out, in] gives y = W x + b. It is split into two, W ≈ L R, and the cache holds the latent R x [rank] of a
token instead of y. `gram` is Σ x xᵀ [in, in] over the tokens of a calibration.
"""

from __future__ import annotations

import numpy as np


def whitening(gram: np.ndarray) -> np.ndarray:
    """
    S, lower triangular, with S Sᵀ = gram, so that ‖(W − L R) S‖ is the error of what W gives over the calibration. Where
    gram is not positive definite, (1e-3 − its least eigenvalue) is added to its diagonal first, as both codes do.
    """
    try:
        return np.linalg.cholesky(gram)
    except np.linalg.LinAlgError:
        least = np.linalg.eigvalsh(gram)[0]
        return np.linalg.cholesky(gram + (1e-3 - least) * np.eye(len(gram)))


def factorize(weight: np.ndarray, s: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """L [out, rank] and R [rank, in] of the whitened SVD: W S = U Σ Vᵀ, L = U √Σ, R = √Σ Vᵀ S⁻¹, the first `rank` of it."""
    u, sigma, vt = np.linalg.svd(weight @ s, full_matrices=False)
    root = np.sqrt(sigma[:rank])
    return u[:, :rank] * root, np.linalg.solve(s.T, (root[:, None] * vt[:rank]).T).T


def squared_error(weight: np.ndarray, left: np.ndarray, right: np.ndarray, gram: np.ndarray) -> float:
    """Σ ‖W x − L R x‖² over the tokens of gram."""
    rest = weight - left @ right
    return float(np.einsum("oi,ij,oj->", rest, gram, rest))


def cka(x: np.ndarray, y: np.ndarray) -> float:
    """
    Linear CKA of two sets of columns [n, d]: HSIC(X, Y) ÷ √(HSIC(X, X) HSIC(Y, Y)) with Gram matrices X Xᵀ, which is
    ‖Xᵀ Y‖² ÷ (‖Xᵀ X‖ ‖Yᵀ Y‖) of the centred columns: products of d × d where the authors' code takes n × n.
    """
    x = x - x.mean(0)
    y = y - y.mean(0)
    between = np.sum((x.T @ y) ** 2)
    return float(between / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def head_similarity(whitened: np.ndarray, heads: int) -> np.ndarray:
    """CKA of every pair of heads of a whitened weight W S [heads · dim, in], symmetric [heads, heads]."""
    parts = [part.T for part in np.split(whitened, heads)]
    out = np.eye(heads)
    for i in range(heads):
        for j in range(i + 1, heads):
            out[i, j] = out[j, i] = cka(parts[i], parts[j])
    return out


def group_sizes(heads: int, size: int) -> list[int]:
    """Heads of each group: `size` of them, fewer in the last where that does not divide their number."""
    if size < 1:
        raise ValueError(f"Cannot group heads: {size} heads a group, expected 1 or more")
    whole, rest = divmod(heads, size)
    return [size] * whole + ([rest] if rest else [])


def greedy_groups(similarity: np.ndarray, sizes: list[int]) -> list[list[int]]:
    """
    ReCalKV's grouping of similar heads. Pairs by falling similarity: two free heads go together into the first group with
    room (which may then be one too full), a free head joins its partner's group if that has room. What is left fills the
    groups from the last head on; a group that is too full hands its last head to the first with room.
    """
    heads = len(similarity)
    groups: list[list[int]] = [[] for _ in sizes]
    group_of = [-1] * heads

    def put(head: int, group: int) -> None:
        groups[group].append(head)
        group_of[head] = group

    def first_with_room() -> int:
        return next(g for g, size in enumerate(sizes) if len(groups[g]) < size)

    pairs = [(similarity[i, j], i, j) for i in range(heads) for j in range(i + 1, heads)]
    for _, i, j in sorted(pairs, key=lambda pair: pair[0], reverse=True):
        if group_of[i] < 0 and group_of[j] < 0:
            group = next((g for g, size in enumerate(sizes) if len(groups[g]) < size), -1)
            if group >= 0:
                put(i, group)
                put(j, group)
            continue
        for known, free in ((i, j), (j, i)):
            group = group_of[known]
            if group >= 0 and group_of[free] < 0 and len(groups[group]) < sizes[group]:
                put(free, group)
    left = [head for head in range(heads) if group_of[head] < 0]
    for group, size in enumerate(sizes):
        while len(groups[group]) < size and left:
            put(left.pop(), group)
    for group, size in enumerate(sizes):
        while len(groups[group]) > size:
            groups[first_with_room()].append(groups[group].pop())
    return groups


def natural_groups(sizes: list[int]) -> list[list[int]]:
    """Palu's groups: neighbouring heads."""
    ends = np.cumsum(sizes)
    return [list(range(end - size, end)) for end, size in zip(ends, sizes)]


def rows_of(heads: list[int], dim: int) -> np.ndarray:
    """Rows of a projection that belong to heads, in their order."""
    return np.concatenate([np.arange(h * dim, (h + 1) * dim) for h in heads])


def calibrate_offline(
    weight: np.ndarray, left: np.ndarray, right: np.ndarray, gram: np.ndarray, iterations: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """
    ReCalKV's offline value calibration: L = argmin Σ ‖W x − L R x‖² over the rows of gram, then R = pinv(L) W, the least
    ‖W − L R‖. The first step cannot raise the error on its rows, the second can.
    """
    for _ in range(iterations):
        latents = right @ gram
        left = np.linalg.lstsq(latents @ right.T, latents @ weight.T, rcond=None)[0].T
        right = np.linalg.pinv(left) @ weight
    return left, right
