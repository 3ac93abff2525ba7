"""Fisher blocks against gradients taken at another place: perturbations added to what the projections give."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path

import numpy as np
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from kvzlib.sensitivity import FisherBlocks  # noqa: E402

LAYERS, HEADS, KV_HEADS, DIM, TOKENS, SINKS, SEED = 3, 4, 2, 8, 12, 2, 5
SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": DIM,
    "initializer_range": 0.3,
}
MODELS = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen3": (Qwen3Config, Qwen3ForCausalLM)}


def make(name: str) -> torch.nn.Module:
    config, model = MODELS[name]
    torch.manual_seed(1)
    return model(config(**SIZES, attn_implementation="eager")).double().eval()


def sampled_labels(logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]


CONTEXT = TOKENS * 3 // 4


def unrotated(gradient: torch.Tensor) -> torch.Tensor:
    """Gradient by keys before RoPE of that by rotated keys [heads, tokens, dim]: the rotation's transpose."""
    angles = torch.arange(gradient.shape[1])[:, None] / 10000.0 ** (torch.arange(0, DIM, 2).double() / DIM)
    x, y = gradient[..., : DIM // 2], gradient[..., DIM // 2 :]
    return torch.cat([x * angles.cos() + y * angles.sin(), y * angles.cos() - x * angles.sin()], -1)


def cached(model: torch.nn.Module, ids: np.ndarray) -> DynamicCache:
    with torch.no_grad():
        return model(torch.from_numpy(ids[:CONTEXT])[None], past_key_values=DynamicCache()).past_key_values


def gradients(model: torch.nn.Module, ids: np.ndarray, labels: torch.Tensor) -> dict[tuple[str, int], np.ndarray]:
    """∂loss/∂x [kv_heads, context, dim], of the model's own cache, with the rotation undone by its formula."""
    cache = cached(model, ids)
    leaves: dict[tuple[str, int], torch.Tensor] = {}
    for n, layer in enumerate(cache.layers):
        layer.keys = leaves["key", n] = layer.keys.detach().clone().requires_grad_(True)
        layer.values = leaves["value", n] = layer.values.detach().clone().requires_grad_(True)
    logits = model(torch.from_numpy(ids[CONTEXT:])[None], past_key_values=cache).logits[0]
    torch.nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
    return {
        (kind, n): (unrotated(leaf.grad[0]) if kind == "key" else leaf.grad[0]).numpy()
        for (kind, n), leaf in leaves.items()
    }


class Sensitivity(unittest.TestCase):
    def test_blocks_are_those_of_the_gradients_before_rope(self):
        sequences = [np.random.default_rng(n).integers(0, 50, TOKENS) for n in range(2)]
        for name in MODELS:
            with self.subTest(name):
                model = make(name)
                blocks = FisherBlocks(SINKS)
                generator = torch.Generator().manual_seed(SEED)
                for ids in sequences:
                    blocks.add(model, ids, generator)
                expected: dict[tuple[str, int], np.ndarray] = {}
                generator = torch.Generator().manual_seed(SEED)
                for ids in sequences:
                    with torch.no_grad():
                        labels = sampled_labels(model(torch.from_numpy(ids)[None]).logits[0, CONTEXT:], generator)
                    for key, g in gradients(model, ids, labels).items():
                        g = g[:, SINKS:]
                        expected[key] = expected.get(key, 0) + np.einsum("hti,htj->hij", g, g)
                self.assertEqual(blocks.tokens, 2 * (CONTEXT - SINKS))
                for kind in ("key", "value"):
                    means = blocks.mean(kind)
                    self.assertEqual(len(means), LAYERS)
                    for layer, mean in enumerate(means):
                        wanted = expected[kind, layer] / blocks.tokens
                        self.assertEqual(mean.shape, (KV_HEADS, DIM, DIM))
                        np.testing.assert_allclose(mean, wanted, rtol=1e-5, atol=1e-7 * np.abs(wanted).max())
                        self.assertGreater(np.abs(wanted).max(), 0)

    def test_predicts_the_divergence_that_an_error_causes(self):
        # Half of e F e is the KL that a small error e brings, here of one value head of one layer and cached token.
        model = make("llama")
        ids = np.random.default_rng(3).integers(0, 50, TOKENS)
        blocks = FisherBlocks(CONTEXT - 1)
        generator = torch.Generator().manual_seed(SEED)
        for _ in range(400):
            blocks.add(model, ids, generator)
        error = np.zeros((KV_HEADS, CONTEXT, DIM))
        error[0, -1] = 0.01 * np.random.default_rng(4).standard_normal(DIM)
        with torch.no_grad():
            x = torch.from_numpy(ids[CONTEXT:])[None]
            before = model(x, past_key_values=cached(model, ids)).logits[0].log_softmax(-1)
            spoilt = cached(model, ids)
            spoilt.layers[0].values = spoilt.layers[0].values + torch.from_numpy(error)[None]
            after = model(x, past_key_values=spoilt).logits[0].log_softmax(-1)
        divergence = float((before.exp() * (before - after)).sum())
        predicted = 0.5 * error[0, -1] @ blocks.mean("value")[0][0] @ error[0, -1]
        self.assertLess(abs(predicted / divergence - 1), 0.2)

    def test_refuses_sequences_that_are_all_sinks_and_models_without_rope(self):
        model = make("llama")
        with self.assertRaisesRegex(ValueError, "the first 4 are left out"):
            FisherBlocks(4).add(model, np.arange(4), torch.Generator())
        with self.assertRaisesRegex(ValueError, "has no apply_rotary_pos_emb"):
            FisherBlocks(0).add(torch.nn.Linear(2, 2), np.arange(4), torch.Generator())
        with self.assertRaisesRegex(ValueError, "seen in layers"):
            FisherBlocks().mean("key")


if __name__ == "__main__":
    unittest.main()
