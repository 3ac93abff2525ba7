"""Training of KV-CAR (arXiv 2512.06727): CE + λ·L1, of chosen parameters, resumable at every checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .kvcar_cache import Compressor, cross_entropy


@dataclass(frozen=True)
class Plan:
    """How long and how to train."""

    epochs: int = 1
    batch: int = 4
    #: Adam's learning rate.
    rate: float = 1e-3
    #: Weight of L1; None: so that λ·L1 is CE in the first step.
    weight: float | None = None
    seed: int = 0
    #: Steps at most.
    steps: int | None = None
    #: Steps between checkpoints.
    every: int = 50

    def total(self, sequences: int) -> int:
        """Steps in all."""
        steps = self.epochs * (sequences // self.batch)
        return steps if self.steps is None else min(steps, self.steps)

    def batch_of(self, windows: np.ndarray, step: int) -> torch.Tensor:
        """Sequences of a step: every epoch has its own order, which hangs on the seed alone."""
        each = len(windows) // self.batch
        epoch, turn = divmod(step, each)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(windows))
        return torch.from_numpy(windows[order[turn * self.batch : (turn + 1) * self.batch]].astype(np.int64))


def set_trainable(model: Any, compressor: Compressor, parameters: Iterable[torch.nn.Parameter]) -> list[torch.nn.Parameter]:
    """Freezes all parameters of model and compressor but these."""
    chosen = list(parameters)
    for parameter in [*model.parameters(), *compressor.parameters()]:
        parameter.requires_grad_(False)
    for parameter in chosen:
        parameter.requires_grad_(True)
    return chosen


def train(
    model: Any,
    compressor: Compressor,
    parameters: Iterable[torch.nn.Parameter],
    windows: np.ndarray,
    plan: Plan,
    checkpoint: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
    state: torch.nn.Module | None = None,
) -> list[float]:
    """
    Trains the parameters on windows int [sequences, tokens], everything else frozen; returns CE of every step.

    `state`: the module that holds what is trained (default: the compressor); with `checkpoint` it is saved there now and
    then together with the optimizer, and training goes on from what is there. Normalization of autoencoders in use sees
    batches; the model stays in evaluation mode, so nothing of it but its parameters can change.
    """
    state = compressor if state is None else state
    chosen = set_trainable(model, compressor, parameters)
    model.eval()
    compressor.eval()
    for layer in compressor.layers():
        for kind in ("key", "value"):
            autoencoder = compressor.of(kind, layer)
            # Frozen networks keep their statistics as well.
            if autoencoder is not None and any(p.requires_grad for p in autoencoder.parameters()):
                autoencoder.train()
    optimizer = torch.optim.Adam(chosen, lr=plan.rate)
    total = plan.total(len(windows))
    if total < 1:
        raise ValueError(f"Cannot train: {len(windows)} sequences are less than a batch of {plan.batch}")
    losses: list[float] = []
    weight = plan.weight
    if checkpoint is not None and checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        state.load_state_dict(saved["state"])
        optimizer.load_state_dict(saved["optimizer"])
        losses, weight = saved["losses"], saved["weight"]
    start, begun = time.monotonic(), len(losses)
    for step in range(begun, total):
        optimizer.zero_grad()
        ce = cross_entropy(model, compressor, plan.batch_of(windows, step))
        l1 = sum(compressor.l1.values(), torch.zeros(()))
        if weight is None:
            weight = ce.item() / l1.item() if l1.item() > 0 else 0.0
        loss = ce + weight * l1
        if not math.isfinite(loss.item()):
            raise ValueError(f"Cannot train: the loss of step {step} is {loss.item()}, try a smaller --rate")
        loss.backward()
        optimizer.step()
        losses.append(ce.item())
        done = step + 1
        if checkpoint is not None and (done % plan.every == 0 or done == total):
            _save(checkpoint, {
                "state": state.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses, "weight": weight
            })
        left = (time.monotonic() - start) / (done - begun) * (total - done)
        progress(f"step {done}/{total}: CE {losses[-1]:.3f}, L1 {l1.item():.4f}, {left:.0f} s left")
    set_trainable(model, compressor, [])
    compressor.eval()
    return losses


def _save(path: Path, saved: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    torch.save(saved, partial)
    partial.rename(path)


@torch.no_grad()
def evaluate(model: Any, compressor: Compressor, windows: np.ndarray) -> float:
    """Mean cross-entropy over windows, nats a token; normalization with running statistics."""
    model.eval()
    compressor.eval()
    total = sum(cross_entropy(model, compressor, torch.from_numpy(w[None].astype(np.int64))).item() for w in windows)
    return total / len(windows)
