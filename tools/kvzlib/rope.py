"""Rotary position embedding on half-split pairs: applied to and taken off whole caches, in float64 angles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Rotation:
    """Cosines and sines [tokens][dim / 2] of the rotation at each token, and YaRN's factor on both."""

    cos: np.ndarray
    sin: np.ndarray
    factor: float

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Rotates the leading dimensions of x [..., tokens, head_dim]."""
        return self._turn(x, self.cos * self.factor, self.sin * self.factor)

    def undo(self, x: np.ndarray) -> np.ndarray:
        """The inverse of `apply`."""
        return self._turn(x, self.cos / self.factor, -self.sin / self.factor)

    def _turn(self, x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
        half = cos.shape[1]
        cos, sin = cos.astype(x.dtype), sin.astype(x.dtype)
        a, b = x[..., :half], x[..., half : 2 * half]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin, x[..., 2 * half :]], axis=-1)


def _yarn_range(s: dict[str, Any], theta: float, dim: int) -> tuple[float, float]:
    def dimension(rotations: float) -> float:
        return dim * math.log(s["original_max_position_embeddings"] / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low, high = dimension(s.get("beta_fast") or 32), dimension(s.get("beta_slow") or 1)
    if s.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    return max(low, 0), min(high, dim - 1)


def frequencies(rope: dict[str, Any]) -> tuple[np.ndarray, float]:
    """Inverse frequencies [dim / 2] and the factor on cos and sin, after transformers' `modeling_rope_utils`."""
    theta, dim = float(rope["theta"]), int(rope["dim"])
    base = theta ** (-np.arange(0, dim, 2, dtype=np.float64) / dim)
    s = rope.get("scaling")
    if s is None:
        return base, 1.0
    factor = float(s["factor"])
    if s["type"] == "linear":
        return base / factor, 1.0
    if s["type"] == "llama3":
        low, high, old = s["low_freq_factor"], s["high_freq_factor"], s["original_max_position_embeddings"]
        wavelength = 2 * math.pi / base
        smooth = (old / wavelength - low) / (high - low)
        mixed = (1 - smooth) * base / factor + smooth * base
        return np.where(wavelength > old / low, base / factor, np.where(wavelength < old / high, base, mixed)), 1.0
    if s["type"] == "yarn":
        low, high = _yarn_range(s, theta, dim)
        ramp = np.clip((np.arange(dim // 2) - low) / max(high - low, 0.001), 0, 1)
        attention = s.get("attention_factor") or (0.1 * math.log(factor) + 1 if factor > 1 else 1.0)
        return base / factor * ramp + base * (1 - ramp), float(attention)
    raise ValueError(f"Cannot rotate: unknown RoPE scaling {s['type']!r}, expected linear, llama3 or yarn")


def rotation(rope: dict[str, Any], positions: np.ndarray) -> Rotation:
    """The rotation at the given absolute positions."""
    inverse, factor = frequencies(rope)
    angles = positions.astype(np.float64)[:, None] * inverse
    return Rotation(np.cos(angles), np.sin(angles), factor)
