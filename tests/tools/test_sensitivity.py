"""Fisher blocks against gradients taken at another place: perturbations added to what the projections give."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path

import numpy as np
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from kvzlib.sensitivity import FisherBlocks, common_share, score_vector, shrink  # noqa: E402

LAYERS, HEADS, KV_HEADS, DIM, TOKENS, SINKS, SEED, DRAWS = 3, 4, 2, 8, 12, 2, 5, 3
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


CONTEXT = TOKENS * 3 // 4


def unrotated(gradient: torch.Tensor) -> torch.Tensor:
    """Gradient by keys before RoPE of that by rotated keys [heads, tokens, dim]: the rotation's transpose."""
    angles = torch.arange(gradient.shape[1])[:, None] / 10000.0 ** (torch.arange(0, DIM, 2).double() / DIM)
    x, y = gradient[..., : DIM // 2], gradient[..., DIM // 2 :]
    return torch.cat([x * angles.cos() + y * angles.sin(), y * angles.cos() - x * angles.sin()], -1)


def cached(model: torch.nn.Module, ids: np.ndarray) -> DynamicCache:
    with torch.no_grad():
        return model(torch.from_numpy(ids[:CONTEXT])[None], past_key_values=DynamicCache()).past_key_values


def gradients(model: torch.nn.Module, ids: np.ndarray, z: torch.Tensor) -> dict[tuple[str, int], np.ndarray]:
    """∂(z · logits)/∂x [kv_heads, context, dim], of the model's own cache, with the rotation undone by its formula."""
    cache = cached(model, ids)
    leaves: dict[tuple[str, int], torch.Tensor] = {}
    for n, layer in enumerate(cache.layers):
        layer.keys = leaves["key", n] = layer.keys.detach().clone().requires_grad_(True)
        layer.values = leaves["value", n] = layer.values.detach().clone().requires_grad_(True)
    logits = model(torch.from_numpy(ids[CONTEXT:])[None], past_key_values=cache).logits[0]
    (z * logits).sum().backward()
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
                blocks = FisherBlocks(SINKS, DRAWS)
                generator = torch.Generator().manual_seed(SEED)
                for ids in sequences:
                    blocks.add(model, ids, generator)
                expected: dict[tuple[str, int], np.ndarray] = {}
                generator = torch.Generator().manual_seed(SEED)
                for ids in sequences:
                    with torch.no_grad():
                        p = model(torch.from_numpy(ids)[None]).logits[0, CONTEXT:].softmax(-1)
                    for _ in range(DRAWS):
                        for key, g in gradients(model, ids, score_vector(p, generator)).items():
                            g = g[:, SINKS:]
                            expected[key] = expected.get(key, 0) + np.einsum("hti,htj->hij", g, g) / DRAWS
                self.assertEqual(blocks.tokens, 2 * (CONTEXT - SINKS))
                for kind in ("key", "value"):
                    means = blocks.mean(kind)
                    self.assertEqual(len(means), LAYERS)
                    for layer, mean in enumerate(means):
                        wanted = expected[kind, layer] / blocks.tokens
                        self.assertEqual(mean.shape, (KV_HEADS, DIM, DIM))
                        np.testing.assert_allclose(mean, wanted, rtol=1e-5, atol=1e-7 * np.abs(wanted).max())
                        self.assertGreater(np.abs(wanted).max(), 0)

    def test_blocks_of_few_drawings_are_drawn_towards_the_identity_as_far_as_they_are_chance(self):
        # Scatter of few vectors of a known covariance: closer to it than the scatter itself; of many: left as it is.
        rng = np.random.default_rng(1)
        dim = 16
        for spread, drawings, most in ((0.0, 20, 0.3), (0.5, 20, 0.85), (0.5, 20_000, 1.02)):
            with self.subTest(spread=spread, drawings=drawings):
                true = np.diag(np.exp(spread * rng.standard_normal(dim)))
                errors = []
                for _ in range(40 if drawings < 100 else 3):
                    x = rng.standard_normal((2, drawings, dim)) @ np.sqrt(true)
                    even, odd = x.transpose(0, 2, 1) @ x
                    block = (even + odd) / (2 * drawings)
                    made = shrink(block, common_share(even, odd))
                    self.assertAlmostEqual(np.trace(made), np.trace(block), places=9)
                    self.assertGreater(np.linalg.eigvalsh(made)[0], 0)
                    errors.append([np.linalg.norm(made - true), np.linalg.norm(block - true)])
                after, before = np.mean(errors, axis=0)
                self.assertLess(after, most * before)

    def test_halves_that_agree_stay_and_such_that_share_nothing_become_the_identity(self):
        block = np.diag([4.0, 1.0, 1.0, 0.0])
        self.assertAlmostEqual(common_share(block, 3 * block), 1)
        np.testing.assert_allclose(shrink(block, 1), block)
        self.assertEqual(common_share(block, np.diag([0.0, 1.0, 1.0, 4.0])), 0)
        np.testing.assert_allclose(shrink(block, 0), 1.5 * np.eye(4))
        self.assertEqual(common_share(block, 0 * block), 1)

    def test_estimates_are_the_means_shrunk_by_what_even_and_odd_sequences_share(self):
        model = make("llama")
        sequences = [np.random.default_rng(n).integers(0, 50, TOKENS) for n in range(3)]
        both, even, odd = (FisherBlocks(SINKS, 1) for _ in range(3))
        for n, ids in enumerate(sequences):
            for blocks in (both, (even, odd)[n % 2]):
                blocks.add(model, ids, torch.Generator().manual_seed(n))
        for kind in ("key", "value"):
            np.testing.assert_array_equal(odd.estimate(kind), odd.mean(kind))
            for layer, made in enumerate(both.estimate(kind)):
                for head in range(KV_HEADS):
                    halves = [blocks.mean(kind)[layer][head] for blocks in (even, odd)]
                    wanted = shrink((2 * halves[0] + halves[1]) / 3, common_share(*halves))
                    np.testing.assert_allclose(made[head], wanted, rtol=1e-9, atol=1e-12 * np.abs(wanted).max())

    def test_random_vectors_have_the_second_moments_of_labels_gradients(self):
        # Of labels drawn from p the gradient is p − onehot, and its second moments are diag(p) − p pᵀ.
        p = torch.tensor([0.6, 0.2, 0.1, 0.06, 0.03, 0.01], dtype=torch.float64)
        drawings = 200_000
        generator = torch.Generator().manual_seed(SEED)
        z = score_vector(p.expand(2 * drawings, -1), generator)
        even, odd = z[0::2], z[1::2]
        np.testing.assert_allclose(even.T @ even / drawings, torch.diag(p) - torch.outer(p, p), atol=0.002)
        np.testing.assert_allclose(even.T @ odd / drawings, torch.zeros(6, 6), atol=0.002)
        np.testing.assert_allclose(z.sum(-1), 0, atol=1e-12)

    def test_predicts_the_divergence_that_an_error_causes(self):
        # Half of e F e is the KL that a small error e brings, here of one value head of one layer and cached token.
        model = make("llama")
        ids = np.random.default_rng(3).integers(0, 50, TOKENS)
        blocks = FisherBlocks(CONTEXT - 1, 400)
        blocks.add(model, ids, torch.Generator().manual_seed(SEED))
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
        with self.assertRaisesRegex(ValueError, "0 draws a sequence"):
            FisherBlocks(4, 0)
        with self.assertRaisesRegex(ValueError, "has no apply_rotary_pos_emb"):
            FisherBlocks(0).add(torch.nn.Linear(2, 2), np.arange(4), torch.Generator())
        with self.assertRaisesRegex(ValueError, "seen in layers"):
            FisherBlocks().mean("key")


if __name__ == "__main__":
    unittest.main()
