"""The networks of KV-CAR (arXiv 2512.06727, §3.1) and what they are folded into for use."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

KINDS = ("key", "value")
#: Linears of an export in order; each has weight [outputs, inputs] and bias.
LINEARS = ("encoder.0", "encoder.1", "decoder.0", "decoder.1")


class Autoencoder(nn.Module):
    """
    Linear(D → h), batch normalization, LeakyReLU, Linear(h → d_z), and the mirror of it, on rows [n, D].

    Normalization before LeakyReLU is the order in which the paper names them.
    """

    def __init__(self, inputs: int, hidden: int, latent: int, slope: float = 0.01) -> None:
        super().__init__()
        self.slope = slope
        self.encoder = _half(inputs, hidden, latent, slope)
        self.decoder = _half(latent, hidden, inputs, slope)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(rows))

    @torch.no_grad()
    def folded(self) -> dict[str, np.ndarray]:
        """
        `<linear>.weight` and `<linear>.bias` of LINEARS, float64: normalization with the running statistics is one
        affine map, y = γ (x − μ) / √(σ² + ε) + β, and goes into the Linear before it.
        """
        out: dict[str, np.ndarray] = {}
        for name, half in (("encoder", self.encoder), ("decoder", self.decoder)):
            first, norm, _, second = half
            gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
            out[f"{name}.0.weight"] = (gain[:, None] * first.weight.double()).numpy()
            bias = gain * (first.bias.double() - norm.running_mean.double()) + norm.bias.double()
            out[f"{name}.0.bias"] = bias.numpy()
            out[f"{name}.1.weight"] = second.weight.double().numpy()
            out[f"{name}.1.bias"] = second.bias.double().numpy()
        return out


def _half(inputs: int, hidden: int, outputs: int, slope: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden, momentum=0.1), nn.LeakyReLU(slope), nn.Linear(hidden, outputs)
    )


def run_folded(weights: dict[str, np.ndarray], rows: np.ndarray, slope: float) -> np.ndarray:
    """What the runtime computes of rows [n, D]."""
    x = rows
    for half in ("encoder", "decoder"):
        x = x @ weights[f"{half}.0.weight"].T + weights[f"{half}.0.bias"]
        x = np.where(x < 0, slope * x, x) @ weights[f"{half}.1.weight"].T + weights[f"{half}.1.bias"]
    return x
