"""Fitting Palu or ReCalKV to a model: ranks, factors of every k_proj and v_proj, and the artefact that holds them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .hadamard import randomized
from .lowrank import (
    calibrate_offline,
    factorize,
    greedy_groups,
    group_sizes,
    head_similarity,
    natural_groups,
    rows_of,
    squared_error,
    whitening,
)
from .lowrank_model import (
    KINDS,
    LowRankProjection,
    advance,
    begin,
    check_model,
    fisher_scores,
    projection_inputs,
    quantizer,
    replace,
    weight_of,
)
from .ranks import MULTIPLE, allocate, split_over_groups


@dataclass(frozen=True)
class FitOptions:
    """How to fit; the defaults are the papers' where they tell."""

    method: str = "recalkv"
    #: Fraction of the cache that is left out, as the papers' tables count.
    removed: float = 0.5
    group_size: int = 4
    #: "fisher-uniform" or "uniform".
    ranks: str = "fisher-uniform"
    multiple: int = MULTIPLE
    #: Steps of the offline calibration of values; 0 leaves it out.
    iterations: int = 1
    #: Rows of it: every token, or sums over 8 sequences at equal positions as the authors' code takes.
    rows: str = "tokens"
    #: Seed of the rotation of latents, None without.
    hadamard: int | None = 0


@dataclass
class Projection:
    """The factors of one projection, by groups of heads."""

    heads: list[list[int]]
    decoders: list[np.ndarray]
    encoders: list[np.ndarray]
    bias: np.ndarray | None
    #: Squared error over the calibration ÷ that of leaving all out.
    error: float

    @property
    def ranks(self) -> list[int]:
        return [len(encoder) for encoder in self.encoders]

    def module(self, dim: int, bits: int = 16) -> LowRankProjection:
        """As a part of the model."""
        rows = np.concatenate([rows_of(heads, dim) for heads in self.heads])
        return LowRankProjection(
            self.encoders, self.decoders, rows, self.bias, None if bits == 16 else quantizer(bits)
        )


#: Sequences summed at equal positions by the authors' code.
_SUMMED = 8


def choose_ranks(model: Any, sequences: list[np.ndarray], options: FitOptions) -> dict[str, list[list[int]]]:
    """Rank of every group of heads of every projection."""
    layers = check_model(model)
    width = len(weight_of(model, 0, "key")[0])
    heads = model.config.num_key_value_heads
    scores = None
    if options.ranks == "fisher-uniform":
        by_kind = fisher_scores(model, sequences)
        scores = [by_kind[kind][n] for n in range(layers) for kind in KINDS]
    descending = options.method == "recalkv"
    ranks = allocate(scores, width, 2 * layers, options.removed, descending)
    sizes = group_sizes(heads, options.group_size)
    split = [split_over_groups(rank, sizes, width // heads, options.multiple) for rank in ranks]
    return {kind: split[i :: len(KINDS)] for i, kind in enumerate(KINDS)}


def fit(
    model: Any,
    sequences: list[np.ndarray],
    options: FitOptions,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Projection]]:
    """
    The factors of every layer. The model is changed: its projections give the low-rank outputs afterwards, as those of
    later layers are calibrated on what the layers before give then.
    """
    if options.method not in ("palu", "recalkv"):
        raise ValueError(f"Cannot fit: method {options.method}, expected palu or recalkv")
    if options.rows == "summed" and len(sequences) < 2:
        raise ValueError("Cannot sum rows over sequences: there is one")
    ranks = choose_ranks(model, sequences, options)
    layers = check_model(model)
    heads = model.config.num_key_value_heads
    states = [begin(model, ids) for ids in sequences]
    original = [begin(model, ids) for ids in sequences]
    generator = None if options.hadamard is None else np.random.default_rng(options.hadamard)
    fitted = []
    for n in range(layers):
        # The whitening is that of the model as it was; offline calibration sees what reaches the layer now.
        gram = sum(x.T @ x for x in (projection_inputs(model, n, state) for state in original))
        for state in original:
            advance(model, n, state)
        rows = [projection_inputs(model, n, state) for state in states]
        if options.rows == "summed":
            rows = [np.sum(rows[i : i + _SUMMED], axis=0) for i in range(0, len(rows), _SUMMED)]
        update = sum(x.T @ x for x in rows)
        layer = {}
        for kind in KINDS:
            weight, bias = weight_of(model, n, kind)
            layer[kind] = _factors(weight, bias, gram, update, kind, ranks[kind][n], heads, options)
            if generator is not None:
                _rotate(layer[kind], generator)
        for kind in KINDS:
            replace(model, n, kind, layer[kind].module(len(weight) // heads))
        for state in states:
            advance(model, n, state)
        fitted.append(layer)
        progress(n + 1, layers)
    return fitted


def _factors(
    weight: np.ndarray,
    bias: np.ndarray | None,
    gram: np.ndarray,
    update: np.ndarray,
    kind: str,
    ranks: list[int],
    heads: int,
    options: FitOptions,
) -> Projection:
    dim = len(weight) // heads
    sizes = group_sizes(heads, options.group_size)
    s = whitening(gram)
    groups = natural_groups(sizes)
    joint = options.method == "recalkv" and kind == "value"
    if joint:
        groups, ranks = [list(range(heads))], [min(len(weight), sum(ranks))]
    elif options.method == "recalkv":
        groups = greedy_groups(head_similarity(weight @ s, heads), sizes)
    decoders, encoders, error = [], [], 0.0
    for group, rank in zip(groups, ranks):
        part = weight[rows_of(group, dim)]
        left, right = factorize(part, s, rank)
        if joint:
            left, right = calibrate_offline(part, left, right, update, options.iterations)
        error += squared_error(part, left, right, gram)
        decoders.append(left)
        encoders.append(right)
    whole = squared_error(weight, np.zeros((len(weight), 1)), np.zeros((1, weight.shape[1])), gram)
    return Projection(groups, decoders, encoders, bias, error / whole)


def _rotate(projection: Projection, generator: np.random.Generator) -> None:
    """Fuses a rotation of each group's latents into both factors, which evens out what a quantizer sees."""
    for n, rank in enumerate(projection.ranks):
        q = randomized(rank, generator)
        projection.decoders[n] = projection.decoders[n] @ q
        projection.encoders[n] = q.T @ projection.encoders[n]


def removed_fraction(fitted: list[dict[str, Projection]]) -> float:
    """1 − numbers of a token's latents ÷ numbers of its keys and values."""
    kept = sum(sum(layer[kind].ranks) for layer in fitted for kind in KINDS)
    full = sum(sum(len(decoder) for decoder in layer[kind].decoders) for layer in fitted for kind in KINDS)
    return 1 - kept / full


def artefact(
    fitted: list[dict[str, Projection]], sequences: list[np.ndarray], facts: dict[str, str], options: FitOptions
) -> tuple[dict[str, tuple[str, np.ndarray]], dict[str, str]]:
    """
    Tensors and metadata of the artefact's file: `layers.N.key.decoder.G` F16 [heads of the group · dim, rank],
    `.encoder.G` F16 [rank, hidden], `.projector.G` F32 [rank, heads · dim] (pinv of the stored decoder: latents by least
    squares from a cache), `.bias` F32; `input_ids` I32 [sequences, tokens] of the calibration, for held-out checks.
    """
    tensors: dict[str, tuple[str, np.ndarray]] = {"input_ids": ("I32", np.array(sequences, np.int32))}
    for n, layer in enumerate(fitted):
        for kind in KINDS:
            p = layer[kind]
            for g, (decoder, encoder) in enumerate(zip(p.decoders, p.encoders)):
                for name, x in (("decoder", decoder), ("encoder", encoder)):
                    if not np.abs(x).max() < 65504:
                        raise ValueError(f"Cannot store the {kind} {name} of layer {n}: it goes beyond 65504, where binary16 ends")
                    tensors[f"layers.{n}.{kind}.{name}.{g}"] = ("F16", x.astype(np.float16))
                stored = decoder.astype(np.float16).astype(np.float64)
                tensors[f"layers.{n}.{kind}.projector.{g}"] = ("F32", np.linalg.pinv(stored).astype(np.float32))
            if p.bias is not None:
                tensors[f"layers.{n}.{kind}.bias"] = ("F32", p.bias.astype(np.float32))
    groups = [{kind: [[h, r] for h, r in zip(layer[kind].heads, layer[kind].ranks)] for kind in KINDS} for layer in fitted]
    metadata = {
        "method": options.method,
        **facts,
        "groups": json.dumps(groups, separators=(",", ":")),
        "removed": f"{removed_fraction(fitted):.6f}",
        "asked": str(options.removed),
        "ranks": options.ranks,
        "rows": options.rows if options.method == "recalkv" and options.iterations else "none",
        "hadamard": "none" if options.hadamard is None else str(options.hadamard),
        "sequences": str(len(sequences)),
        "tokens": str(sum(len(ids) for ids in sequences)),
    }
    return tensors, metadata
