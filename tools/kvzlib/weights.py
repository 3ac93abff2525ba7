"""Weight matrices as a GGUF file stores them: blocks of small integers with fp16 scales, or plain floats."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .safefile import from_bf16

BLOCK = 32


@dataclass(frozen=True)
class Weight:
    """
    A matrix [rows, columns] (or a vector [rows]) in one of two forms.

    Plain: `values` f32, f16, or u16 with `bf16` set. Blocks of 32 along the columns: `codes` u8 or i8 [rows, blocks,
    32], `scale` f16 [rows, blocks] and, for Q4_1, `shift` f16 [rows, blocks]; the value is code · scale + shift,
    computed in binary32. `bits` is what a code needs: 4 or 8.
    """

    shape: tuple[int, ...]
    values: np.ndarray | None = None
    bf16: bool = False
    codes: np.ndarray | None = None
    scale: np.ndarray | None = None
    shift: np.ndarray | None = None
    bits: int = 0

    def floats(self) -> np.ndarray:
        """The float32 values."""
        if self.values is not None:
            return from_bf16(self.values) if self.bf16 else self.values.astype(np.float32)
        x = self.codes.astype(np.float32) * self.scale.astype(np.float32)[..., None]
        if self.shift is not None:
            x += self.shift.astype(np.float32)[..., None]
        return x.reshape(self.shape)

    def rows(self, order: np.ndarray) -> Weight:
        """The same matrix with its rows in another order."""
        parts = {name: getattr(self, name) for name in ("values", "codes", "scale", "shift")}
        return replace(self, **{name: x[order] for name, x in parts.items() if x is not None})


def plain(x: np.ndarray, bf16: bool = False) -> Weight:
    """Floats as they are (bf16 as bits)."""
    return Weight(x.shape, values=x, bf16=bf16)


def from_gguf(data: np.ndarray, kind: str, shape: tuple[int, ...]) -> Weight | None:
    """
    A tensor of a GGUF file: Q4_0, Q4_1, Q8_0, F32, F16 or BF16; None if the type is another one.

    `data` is what `GGUFReader` gives: floats for F32 and F16, bytes [rows, bytes a row] otherwise.
    """
    if kind in ("F32", "F16"):
        return plain(data.reshape(shape))
    if kind == "BF16":
        return plain(data.view(np.uint16).reshape(shape), bf16=True)
    if kind not in ("Q4_0", "Q4_1", "Q8_0"):
        return None
    width = {"Q4_0": 18, "Q4_1": 20, "Q8_0": 34}[kind]
    blocks = data.reshape(shape[0], -1, width)
    scale = blocks[..., :2].copy().view(np.float16)[..., 0]
    if kind == "Q8_0":
        return Weight(shape, codes=blocks[..., 2:].view(np.int8), scale=scale, bits=8)
    nibbles = blocks[..., -16:]
    # The low halves of the 16 bytes are elements 0 … 15 of a block, the high halves elements 16 … 31.
    codes = np.concatenate([nibbles & 15, nibbles >> 4], axis=-1)
    if kind == "Q4_0":
        return Weight(shape, codes=codes.view(np.int8) - np.int8(8), scale=scale, bits=4)
    return Weight(shape, codes=codes, scale=scale, shift=blocks[..., 2:4].copy().view(np.float16)[..., 0], bits=4)


def half_split_order(heads: int, dim: int) -> np.ndarray:
    """
    Row order that undoes llama.cpp's permutation of q and k: it rotates adjacent pairs (2i, 2i + 1), everyone else
    pairs (i, i + dim / 2). The new row j of a head is the file's row order[j].
    """
    return np.arange(heads * dim).reshape(heads, dim // 2, 2).swapaxes(1, 2).reshape(-1)
