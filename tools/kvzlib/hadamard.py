"""Hadamard matrices of many orders, and the randomized rotation that Palu and ReCalKV fuse into their factors."""

from __future__ import annotations

import numpy as np


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % k for k in range(2, int(n**0.5) + 1))


def _jacobsthal(q: int) -> np.ndarray:
    """Q[i, j] = χ(i − j), the quadratic character modulo the prime q."""
    character = np.full(q, -1)
    character[[i * i % q for i in range(q)]] = 1
    character[0] = 0
    return character[(np.arange(q)[:, None] - np.arange(q)) % q]


def _paley(n: int) -> np.ndarray | None:
    """Paley's constructions of order n: q + 1 with a prime q = 3 (mod 4), 2 (q + 1) with a prime q = 1 (mod 4)."""
    if _is_prime(n - 1) and (n - 1) % 4 == 3:
        q = n - 1
        s = np.zeros((n, n), int)
        s[0, 1:], s[1:, 0], s[1:, 1:] = 1, -1, _jacobsthal(q)
        return s + np.eye(n, dtype=int)
    q = n // 2 - 1
    if n % 2 == 0 and _is_prime(q) and q % 4 == 1:
        c = np.zeros((q + 1, q + 1), int)
        c[0, 1:], c[1:, 0], c[1:, 1:] = 1, 1, _jacobsthal(q)
        one = np.eye(q + 1, dtype=int)
        return np.kron(c, [[1, 1], [1, -1]]) + np.kron(one, [[1, -1], [-1, -1]])
    return None


def hadamard(n: int) -> np.ndarray:
    """A matrix of ±1 with orthogonal rows, int [n, n]: Sylvester's doubling of order 1, 2 or one of Paley's."""
    core, doublings = n, 0
    while True:
        found = np.ones((1, 1), int) if core == 1 else _paley(core)
        if found is not None:
            for _ in range(doublings):
                found = np.kron([[1, 1], [1, -1]], found)
            return found
        if core % 2:
            raise ValueError(f"Cannot rotate latents: no Hadamard matrix of order {n} is known here")
        core //= 2
        doublings += 1


def randomized(n: int, generator: np.random.Generator) -> np.ndarray:
    """Orthogonal: a Hadamard matrix ÷ √n with random signs of its columns."""
    return hadamard(n) / np.sqrt(n) * generator.choice([-1.0, 1.0], n)
