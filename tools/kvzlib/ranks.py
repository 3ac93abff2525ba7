"""Ranks of the latents of Palu and ReCalKV: how many numbers each projection's cache keeps of a token."""

from __future__ import annotations

import math

MULTIPLE = 32


def share_by_scores(scores: list[float], full: list[int], total: int, descending: bool) -> list[int]:
    """
    `total` shared in proportion to `scores`, at most `full[i]` each. What rounding down leaves goes out one by one,
    again and again over all that are not full, by the part of a rank that they lost: falling (ReCalKV's code) or rising
    (Palu's).
    """
    if not 0 < total <= sum(full):
        raise ValueError(f"Cannot share ranks: {total} wanted, expected 1 to {sum(full)}")
    if not all(math.isfinite(score) and score >= 0 for score in scores) or sum(scores) == 0:
        raise ValueError(f"Cannot share ranks by scores {scores}: expected finite ones, one above 0")
    exact = [total * score / sum(scores) for score in scores]
    ranks = [min(most, math.floor(rank)) for rank, most in zip(exact, full)]
    order = sorted(range(len(ranks)), key=lambda i: exact[i] - ranks[i], reverse=descending)
    left = total - sum(ranks)
    while left > 0:
        for i in order:
            if left > 0 and ranks[i] < full[i]:
                ranks[i] += 1
                left -= 1
    return ranks


def split_over_groups(rank: int, sizes: list[int], dim: int, multiple: int = MULTIPLE) -> list[int]:
    """
    A projection's rank over its groups of heads by their number, each then to the nearest multiple of `multiple` (half to
    even, as the codes' `round` does), at least one of it, at most the group's width.
    """
    shares = [rank * size // sum(sizes) for size in sizes]
    return [min(size * dim, max(1, round(share / multiple)) * multiple) for share, size in zip(shares, sizes)]


def allocate(
    scores: list[float] | None, width: int, count: int, removed: float, descending: bool
) -> list[int]:
    """
    Ranks of `count` projections of `width` rows before groups and multiples: the fraction 1 − `removed` of all rows, by
    `scores` ("fisher_uniform") or, where they are None, alike ("uniform").
    """
    if not 0 < removed < 1:
        raise ValueError(f"Cannot allocate ranks: the fraction removed is {removed}, expected more than 0 and less than 1")
    total = max(1, round(count * width * (1 - removed)))
    return share_by_scores(scores or [1.0] * count, [width] * count, total, descending)
