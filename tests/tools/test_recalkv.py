"""Palu and ReCalKV: each step against its definition or an invariant, and the whole on a tiny random model."""

from __future__ import annotations

import itertools
import json
import sys
import unittest
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from kvzlib.hadamard import hadamard, randomized  # noqa: E402
from kvzlib.lowrank import (  # noqa: E402
    calibrate_offline,
    cka,
    factorize,
    greedy_groups,
    group_sizes,
    head_similarity,
    natural_groups,
    rows_of,
    squared_error,
    whitening,
)
from kvzlib.lowrank_fit import FitOptions, artefact, fit, removed_fraction  # noqa: E402
from kvzlib.lowrank_model import (  # noqa: E402
    LowRankProjection,
    advance,
    begin,
    fisher_scores,
    projection_inputs,
    quantizer,
)
from kvzlib.ranks import allocate, share_by_scores, split_over_groups  # noqa: E402

LAYERS, HEADS, KV_HEADS, DIM, HIDDEN = 2, 4, 4, 8, 32
SIZES = {
    "vocab_size": 60,
    "hidden_size": HIDDEN,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "initializer_range": 0.3,
}
MODELS = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}


def make(name: str = "llama") -> torch.nn.Module:
    config, model = MODELS[name]
    torch.manual_seed(1)
    made = model(config(**SIZES)).float().eval()
    with torch.no_grad():
        for layer in made.model.layers:
            for linear in (layer.self_attn.k_proj, layer.self_attn.v_proj):
                if linear.bias is not None:
                    linear.bias.normal_()
    return made


def sequences(count: int = 3, tokens: int = 40) -> list[np.ndarray]:
    random = np.random.default_rng(5)
    return [random.integers(0, 60, tokens) for _ in range(count)]


def options(**more: object) -> FitOptions:
    return FitOptions(**{"group_size": 2, "multiple": 4, **more})


def cka_by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """With Gram matrices of n × n and the centring matrix."""
    n = len(x)
    h = np.eye(n) - 1 / n

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        return np.trace(a @ a.T @ h @ b @ b.T @ h) / (n - 1) ** 2

    return hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))


class Steps(unittest.TestCase):
    def setUp(self):
        random = np.random.default_rng(2)
        self.weight = random.standard_normal((24, 16))
        self.x = random.standard_normal((200, 16)) * np.linspace(0.1, 3, 16)
        self.gram = self.x.T @ self.x

    def test_cka_is_that_of_the_gram_matrices(self):
        random = np.random.default_rng(3)
        for d in (1, 4, 7):
            x, y = random.standard_normal((30, d)) + 2, random.standard_normal((30, d))
            self.assertAlmostEqual(cka(x, y), cka_by_definition(x, y), 12)
            # Off centre it is another number: centring is part of the definition.
            plain = np.sum((x.T @ y) ** 2) / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
            self.assertGreater(abs(plain - cka(x, y)), 1e-3)
        q, _ = np.linalg.qr(random.standard_normal((4, 4)))
        x = random.standard_normal((30, 4))
        self.assertAlmostEqual(cka(x, 3 * x @ q), 1, 12)

    def test_whitening_gives_the_gram_matrix_and_mends_what_is_not_positive_definite(self):
        s = whitening(self.gram)
        np.testing.assert_allclose(s @ s.T, self.gram, rtol=1e-12, atol=1e-9)
        few = self.x[:5].T @ self.x[:5] - 1e-6 * np.eye(16)
        mended = whitening(few)
        np.testing.assert_allclose(mended @ mended.T, few + np.eye(16) * (1e-3 - np.linalg.eigvalsh(few)[0]), atol=1e-9)

    def test_truncation_costs_the_tail_of_the_singular_values_and_less_than_without_whitening(self):
        s = whitening(self.gram)
        sigma = np.linalg.svd(self.weight @ s, compute_uv=False)
        for rank in (1, 6, 16):
            left, right = factorize(self.weight, s, rank)
            given = np.sum((self.x @ (self.weight - left @ right).T) ** 2)
            self.assertAlmostEqual(given, np.sum(sigma[rank:] ** 2), 6)
            self.assertAlmostEqual(given, squared_error(self.weight, left, right, self.gram), 6)
        left, right = factorize(self.weight, s, 6)
        plain = factorize(self.weight, np.eye(16), 6)
        self.assertLess(
            squared_error(self.weight, left, right, self.gram), 0.9 * squared_error(self.weight, *plain, self.gram)
        )

    def test_latents_of_hidden_states_are_those_by_least_squares_of_what_the_projection_gives(self):
        # So the cache alone tells a latent: R = pinv(L) W holds of whitened SVD and after offline calibration alike.
        left, right = factorize(self.weight, whitening(self.gram), 6)
        other = np.random.default_rng(4).standard_normal((50, 16))
        for l, r in ((left, right), calibrate_offline(self.weight, left, right, other.T @ other)):
            np.testing.assert_allclose(self.x @ r.T, (self.x @ self.weight.T) @ np.linalg.pinv(l).T, atol=1e-9)

    def test_offline_calibration_lowers_the_error_on_its_rows_in_the_first_step(self):
        random = np.random.default_rng(6)
        s = whitening(self.gram)
        for n in range(5):
            other = random.standard_normal((60, 16)) @ random.standard_normal((16, 16))
            gram = other.T @ other
            left, right = factorize(self.weight, s, 6)
            before = squared_error(self.weight, left, right, gram)
            latents = right @ gram
            first = np.linalg.solve(latents @ right.T, latents @ self.weight.T).T
            self.assertLess(squared_error(self.weight, first, right, gram), before)
            by_rows = np.linalg.lstsq(other @ right.T, other @ self.weight.T, rcond=None)[0].T
            np.testing.assert_allclose(first, by_rows, atol=1e-8)
            both = calibrate_offline(self.weight, left, right, gram)
            np.testing.assert_allclose(both[0], first, atol=1e-8)
            np.testing.assert_allclose(both[1], np.linalg.pinv(first) @ self.weight, atol=1e-8)
        same = calibrate_offline(self.weight, left, right, self.gram)
        # On the whitening's own tokens there is nothing to gain.
        np.testing.assert_allclose(same[0] @ same[1], left @ right, atol=1e-8)

    def test_grouping_puts_equal_heads_together(self):
        random = np.random.default_rng(7)
        kinds = [random.standard_normal((4, 20)) for _ in range(3)]
        order = [0, 1, 2, 2, 0, 1]
        weight = np.concatenate([kinds[k] + 0.01 * random.standard_normal((4, 20)) for k in order])
        groups = greedy_groups(head_similarity(weight, 6), group_sizes(6, 2))
        self.assertEqual(sorted(sorted(group) for group in groups), [[0, 4], [1, 5], [2, 3]])
        self.assertNotEqual(groups, natural_groups([2, 2, 2]))

    def test_grouping_keeps_sizes_whatever_the_similarities(self):
        random = np.random.default_rng(8)
        for heads, size in itertools.product((1, 2, 3, 5, 8), (1, 2, 3, 4, 8)):
            sizes = group_sizes(heads, size)
            for _ in range(20):
                a = random.integers(0, 4, (heads, heads)) / 4
                groups = greedy_groups((a + a.T) / 2, sizes)
                self.assertEqual([len(group) for group in groups], sizes)
                self.assertEqual(sorted(sum(groups, [])), list(range(heads)))

    def test_grouping_of_a_pair_into_a_group_of_three_hands_the_last_head_on(self):
        # 0-1 first, 2 joins them, 3-4 open the next group, 5 joins; then a pair meets a group that has room for one.
        near = np.zeros((6, 6))
        for value, i, j in ((0.9, 0, 1), (0.8, 2, 3), (0.1, 0, 4), (0.05, 4, 5)):
            near[i, j] = near[j, i] = value
        # Both pairs go into the first group of three, which is then one too full and hands head 3 on.
        self.assertEqual(greedy_groups(near, [3, 3])[0], [0, 1, 2])
        self.assertEqual(sorted(greedy_groups(near, [3, 3])[1]), [3, 4, 5])

    def test_hadamard_matrices_of_multiples_of_32(self):
        for n in [1, 2, 4, 8, 12, 20, 28, 36, *range(32, 513, 32)]:
            h = hadamard(n)
            np.testing.assert_array_equal(h @ h.T, n * np.eye(n))
        q = randomized(96, np.random.default_rng(0))
        np.testing.assert_allclose(q @ q.T, np.eye(96), atol=1e-12)
        spike = np.zeros(96)
        spike[5] = 1
        self.assertLess(np.abs(spike @ q).max(), 0.11)
        with self.assertRaisesRegex(ValueError, "no Hadamard matrix of order 6"):
            hadamard(6)

    def test_ranks(self):
        self.assertEqual(share_by_scores([1, 1, 2], [8, 8, 8], 12, True), [3, 3, 6])
        # 10 · (1, 2, 4) / 7 = 1.43, 2.86, 5.71: two left over, to the largest parts or to the smallest.
        self.assertEqual(share_by_scores([1, 2, 4], [8, 8, 8], 10, True), [1, 3, 6])
        self.assertEqual(share_by_scores([1, 2, 4], [8, 8, 8], 10, False), [2, 2, 6])
        # What is full gives to the others.
        self.assertEqual(share_by_scores([1, 1, 100], [8, 8, 8], 20, True), [6, 6, 8])
        self.assertEqual(split_over_groups(500, [4, 4], 128), [256, 256])
        self.assertEqual(split_over_groups(100, [4, 4], 128), [64, 64])
        self.assertEqual(split_over_groups(10, [4, 4], 128), [32, 32])
        self.assertEqual(split_over_groups(96, [2, 1], 64), [64, 32])
        self.assertEqual(split_over_groups(20, [1, 1], 8), [8, 8])
        self.assertEqual(allocate(None, 192, 4, 0.5, True), [96] * 4)
        for bad in (0, 1, -0.5, float("nan")):
            with self.assertRaisesRegex(ValueError, "the fraction removed is"):
                allocate(None, 192, 4, bad, True)

    def test_quantizer(self):
        z = torch.tensor([[7.0, -3.4, 0.6, -7.0], [0.0, 0.0, 0.0, 0.0]])
        self.assertEqual(quantizer(4)(z).tolist(), [[7.0, -3.0, 1.0, -7.0], [0.0] * 4])


class Fit(unittest.TestCase):
    def test_fisher_scores_are_those_of_gradients_by_differences(self):
        model = make().double()
        ids = sequences(1, 12)
        scores = fisher_scores(model, ids)
        weight = model.model.layers[1].self_attn.v_proj.weight
        x = torch.from_numpy(ids[0])[None]

        def loss() -> float:
            with torch.no_grad():
                return torch.nn.functional.cross_entropy(model(x).logits[0, :-1], x[0, 1:]).item()

        total = 0.0
        with torch.no_grad():
            for i, j in itertools.product(range(weight.shape[0]), range(weight.shape[1])):
                weight[i, j] += 1e-4
                up = loss()
                weight[i, j] -= 2e-4
                total += abs(up - loss()) / 2e-4
                weight[i, j] += 1e-4
        self.assertAlmostEqual(scores["value"][1], total / weight.numel(), 6)

    def test_inputs_of_projections_are_those_of_a_whole_pass(self):
        model = make()
        ids = sequences(1)[0]
        seen = []
        handle = model.model.layers[1].self_attn.v_proj.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        state = begin(model, ids)
        handle.remove()
        advance(model, 0, state)
        np.testing.assert_allclose(projection_inputs(model, 1, state), seen[0][0].detach().numpy(), atol=1e-5)

    def test_full_rank_changes_nothing_permutation_and_rotation_included(self):
        for name, method in itertools.product(MODELS, ("recalkv", "palu")):
            with self.subTest(name=name, method=method):
                model = make(name)
                x = torch.from_numpy(sequences(1)[0])[None]
                with torch.no_grad():
                    before = model(x).logits
                fitted = fit(model, sequences(), options(method=method, removed=1e-9, ranks="uniform"))
                self.assertEqual(removed_fraction(fitted), 0)
                with torch.no_grad():
                    np.testing.assert_allclose(model(x).logits.numpy(), before.numpy(), atol=2e-4)
                orders = [sum(layer["key"].heads, []) for layer in fitted]
                self.assertEqual(method == "recalkv", any(order != list(range(KV_HEADS)) for order in orders))

    def test_recalkv_is_palu_where_its_steps_have_nothing_to_choose(self):
        # One group of all heads, and no offline calibration.
        errors = {}
        for method in ("palu", "recalkv"):
            fitted = fit(make(), sequences(), options(method=method, group_size=8, iterations=0, ranks="uniform"))
            errors[method] = [layer[kind].error for layer in fitted for kind in ("key", "value")]
        np.testing.assert_allclose(errors["palu"], errors["recalkv"])

    def test_values_in_one_piece_lose_less_than_by_groups(self):
        fitted = {
            method: fit(make(), sequences(), options(method=method, ranks="uniform", iterations=0))
            for method in ("palu", "recalkv")
        }
        for palu, recalkv in zip(fitted["palu"], fitted["recalkv"]):
            self.assertLess(recalkv["value"].error, palu["value"].error)

    def test_reordering_lowers_the_error_of_keys_whose_likes_stand_apart(self):
        def paired() -> torch.nn.Module:
            model = make()
            with torch.no_grad():
                for layer in model.model.layers:
                    w = layer.self_attn.k_proj.weight
                    w[2 * DIM : 3 * DIM] = w[:DIM] + 0.02 * torch.randn(DIM, HIDDEN)
                    w[3 * DIM :] = w[DIM : 2 * DIM] + 0.02 * torch.randn(DIM, HIDDEN)
            return model

        errors = {
            method: [layer["key"].error for layer in fit(paired(), sequences(), options(method=method, ranks="uniform"))]
            for method in ("palu", "recalkv")
        }
        for palu, recalkv in zip(errors["palu"], errors["recalkv"]):
            self.assertLess(recalkv, 0.1 * palu)

    def test_offline_calibration_changes_values_of_later_layers_and_by_summed_rows_of_all(self):
        plain = fit(make(), sequences(), options(iterations=0))
        tokens = fit(make(), sequences(), options())
        summed = fit(make(), sequences(), options(rows="summed"))

        def product(fitted, layer):
            p = fitted[layer]["value"]
            return p.decoders[0] @ p.encoders[0]

        # What reaches the first layer is what whitening saw.
        np.testing.assert_allclose(product(plain, 0), product(tokens, 0), atol=1e-4)
        self.assertGreater(np.abs(product(plain, 1) - product(tokens, 1)).max(), 1e-3)
        self.assertGreater(np.abs(product(plain, 0) - product(summed, 0)).max(), 1e-3)

    def test_rotation_evens_latents_out_so_that_3_bits_cost_less(self):
        errors = {}
        for seed in (None, 0):
            model = make()
            ids = sequences(1)[0]
            x = projection_inputs(model, 0, begin(model, ids))
            exact = x @ model.model.layers[0].self_attn.v_proj.weight.detach().double().numpy().T
            fitted = fit(model, sequences(), options(removed=0.5, multiple=16, ranks="uniform", hadamard=seed))
            given = fitted[0]["value"].module(DIM, 3)(torch.from_numpy(x).float()).numpy()
            whole = fitted[0]["value"].module(DIM)(torch.from_numpy(x).float()).numpy()
            errors[seed] = np.sum((given - whole) ** 2) / np.sum(exact**2)
        self.assertLess(errors[0], errors[None])

    def test_artefact_holds_what_was_fitted(self):
        model = make("qwen2")
        fitted = fit(model, sequences(), options())
        tensors, metadata = artefact(fitted, sequences(), {"model": "tiny"}, options())
        groups = json.loads(metadata["groups"])
        self.assertEqual(len(groups), LAYERS)
        for n, layer in enumerate(fitted):
            for kind in ("key", "value"):
                self.assertEqual(groups[n][kind], [[h, r] for h, r in zip(layer[kind].heads, layer[kind].ranks)])
                for g, (heads, rank) in enumerate(groups[n][kind]):
                    self.assertEqual(tensors[f"layers.{n}.{kind}.decoder.{g}"][1].shape, (len(heads) * DIM, rank))
                    self.assertEqual(tensors[f"layers.{n}.{kind}.encoder.{g}"][1].shape, (rank, HIDDEN))
                    decoder, projector = (
                        tensors[f"layers.{n}.{kind}.{name}.{g}"][1].astype(np.float64) for name in ("decoder", "projector")
                    )
                    # Of the decoder as it is stored, not as it was before rounding.
                    np.testing.assert_allclose(projector @ decoder, np.eye(rank), atol=1e-5)
                self.assertEqual(tensors[f"layers.{n}.{kind}.bias"][1].shape, (KV_HEADS * DIM,))
        self.assertEqual(tensors["input_ids"][1].shape, (3, 40))
        self.assertAlmostEqual(float(metadata["removed"]), removed_fraction(fitted), 5)

    def test_module_puts_heads_back_into_their_order(self):
        random = np.random.default_rng(9)
        weight = random.standard_normal((KV_HEADS * DIM, HIDDEN))
        groups = [[2, 0], [3, 1]]
        rows = np.concatenate([rows_of(g, DIM) for g in groups])
        module = LowRankProjection([weight[rows_of(g, DIM)] for g in groups], [np.eye(2 * DIM)] * 2, rows, None)
        x = random.standard_normal((1, 3, HIDDEN))
        np.testing.assert_allclose(module(torch.from_numpy(x).float()).numpy(), x @ weight.T, atol=1e-5)

    def test_refuses_models_that_change_keys_after_the_projection(self):
        model = Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=DIM)).eval()
        with self.assertRaisesRegex(ValueError, "layer 0: its keys are normalized after k_proj"):
            fit(model, sequences(), options())
        with self.assertRaisesRegex(ValueError, "it has no decoder layers"):
            fisher_scores(type("Bare", (), {"base_model": object()})(), sequences())
        with self.assertRaisesRegex(ValueError, "method other"):
            fit(make(), sequences(), options(method="other"))
        with self.assertRaisesRegex(ValueError, "there is one"):
            fit(make(), sequences(1), options(rows="summed"))


if __name__ == "__main__":
    unittest.main()
