"""The weighted mean of several sensitivities of one model: what texts of different kinds ask of its cache."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np

Sensitivity = tuple[dict[str, np.ndarray], dict[str, str]]
"""Blocks by name, and metadata, as tools/sensitivity.py writes them."""
SAME = ("model", "architecture", "rope")
"""Facts that all have to share."""
SUMMED = ("sequences", "tokens")


def merge_sensitivities(files: Sequence[tuple[str, Sensitivity]], weights: Sequence[float]) -> Sensitivity:
    """
    The mean of blocks, each file (name for messages, what it holds) by its weight, however many sequences it is of.
    Metadata: what they share, sums of `sequences` and `tokens`, and `merged`, the facts and weight of each (JSON).
    """
    if len(files) < 2:
        raise ValueError(f"Cannot merge sensitivities: {len(files)} files, expected 2 or more")
    if len(weights) != len(files):
        raise ValueError(f"Cannot merge sensitivities: {len(weights)} weights, expected one a file, {len(files)}")
    for weight in weights:
        if not 0 < weight < math.inf:
            raise ValueError(f"Cannot merge sensitivities: a weight is {weight:g}, expected above 0")
    for name, (held, held_facts) in files:
        missing = [fact for fact in (*SAME, *SUMMED) if fact not in held_facts]
        if missing or not held or not all(block.endswith(".fisher") for block in held):
            raise ValueError(f"Cannot merge {name}: it is no file of tools/sensitivity.py")
    first, (blocks, facts) = files[0]
    for name, (others, other_facts) in files[1:]:
        for fact in SAME:
            if other_facts[fact] != facts[fact]:
                raise ValueError(
                    f"Cannot merge {name} with {first}: its {fact} is {other_facts[fact]}, expected {facts[fact]}"
                )
        shapes = [{block: x.shape for block, x in held.items()} for held in (blocks, others)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"Cannot merge {name} with {first}: blocks of other names or shapes")
    total = sum(weights)
    merged = {
        block: sum(weight / total * held[block].astype(np.float64) for weight, (_, (held, _)) in zip(weights, files))
        for block in blocks
    }
    parts = [
        {"weight": weight, **{fact: value for fact, value in part.items() if fact not in SAME}}
        for weight, (_, (_, part)) in zip(weights, files)
    ]
    sums = {fact: str(sum(int(part[fact]) for part in parts)) for fact in SUMMED}
    return merged, {**{fact: facts[fact] for fact in SAME}, **sums, "merged": json.dumps(parts)}
