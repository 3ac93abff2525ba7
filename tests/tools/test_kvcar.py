"""KV-CAR's training on a tiny random model."""

from __future__ import annotations

import copy
import json
import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from kvzlib.kvcar_cache import Compressor, logits  # noqa: E402
from kvzlib.kvcar_net import KINDS, Autoencoder, run_folded  # noqa: E402
from kvzlib.kvcar_reuse import HeadDistances, choose_slots, resolve  # noqa: E402
from kvzlib.kvcar_run import Run, Settings  # noqa: E402
from kvzlib.kvcar_train import Plan, evaluate, train  # noqa: E402
from kvzlib.safefile import read_tensors  # noqa: E402

LAYERS, HEADS, KV_HEADS, DIM, VOCAB, LENGTH = 4, 4, 2, 8, 24, 24
DIMS = {"key": DIM, "value": DIM}


def make(seed: int = 1) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=DIM,
        initializer_range=0.2,
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config).eval()


def texts(count: int = 16) -> list[list[int]]:
    """Sequences with a rule that can be learnt: every token follows from the one before it."""
    return [[(start + 7 * t) % VOCAB for t in range(LENGTH)] for start in range(count)]


def own_sources() -> np.ndarray:
    return np.arange(LAYERS * KV_HEADS, dtype=np.int32).reshape(LAYERS, KV_HEADS)


def compressor(layers: list[int], seed: int = 0, sources: np.ndarray | None = None, pre_rope: bool = False) -> Compressor:
    torch.manual_seed(seed)
    given = own_sources() if sources is None else sources
    made = Compressor({k: given for k in KINDS}, pre_rope)
    for layer in layers:
        made.insert(layer, DIMS, 0.5, 1, 0.01)
    return made


def state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return copy.deepcopy(module.state_dict())


def loaded() -> SimpleNamespace:
    rope = {"theta": 10000.0, "dim": DIM, "pairing": "half-split", "first_position": 0}
    return SimpleNamespace(model=make(), id="tiny", architecture="llama", rope=rope)


def run(folder: str, **changes: object) -> Run:
    settings = Settings.given(loaded(), *[changes.get(n) for n in ("share", "hidden", "slope", "pre_rope", "seed")])
    return Run(Path(folder), loaded(), settings, texts(), 4, lambda _: None)


class Network(unittest.TestCase):
    def test_folded_is_the_network_with_running_statistics(self):
        torch.manual_seed(2)
        network = Autoencoder(16, 20, 6, 0.05).double()
        network.train()
        for _ in range(5):
            network(torch.randn(30, 16, dtype=torch.float64) * 3 + 1)
        for half in (network.encoder, network.decoder):
            torch.nn.init.normal_(half[1].weight)
            torch.nn.init.normal_(half[1].bias)
        network.eval()
        rows = torch.randn(40, 16, dtype=torch.float64)
        folded = network.folded()
        self.assertEqual(folded["encoder.1.weight"].shape, (6, 20))
        self.assertEqual(folded["decoder.1.bias"].shape, (16,))
        wanted = network(rows).detach().numpy()
        np.testing.assert_allclose(run_folded(folded, rows.numpy(), 0.05), wanted, rtol=1e-12, atol=1e-12)
        # The statistics are what is folded: without them it is another network.
        network.encoder[1].running_mean.zero_()
        self.assertGreater(np.abs(run_folded(network.folded(), rows.numpy(), 0.05) - wanted).max(), 1e-3)


class InModel(unittest.TestCase):
    def test_without_autoencoders_and_reuse_the_model_is_untouched(self):
        model, ids = make(), torch.tensor(texts(3))
        wanted = model(ids).logits
        for pre_rope in (False, True):
            torch.testing.assert_close(logits(model, compressor([], pre_rope=pre_rope), ids), wanted)

    def test_reused_heads_are_those_of_the_source(self):
        model, ids = make(), torch.tensor(texts(2))
        sources = own_sources()
        sources[2, 1] = sources[1, 1]
        sources[3, 1] = sources[1, 1]
        for pre_rope in (False, True):
            made = compressor([1], sources=sources, pre_rope=pre_rope)
            made.eval()
            logits(model, made, ids)
            for kind in KINDS:
                for layer in (2, 3):
                    torch.testing.assert_close(made._held[kind, layer][:, 1], made._held[kind, 1][:, 1])
            self.assertEqual(sorted(made.l1), sorted((k, n) for k in KINDS for n in (1, 2, 3)))

    def test_autoencoders_act_on_keys_before_rope_or_after_it(self):
        model, ids = make(), torch.tensor(texts(2))
        ways = []
        for pre_rope in (False, True):
            made = compressor([0], pre_rope=pre_rope)
            made.eval()
            seen = {}
            made.watch = lambda kind, layer, x, seen=seen: seen.update({(kind, layer): x})
            logits(model, made, ids)
            ways.append(seen["key", 0])
        hidden = model.model.layers[0].input_layernorm(model.model.embed_tokens(ids))
        before = model.model.layers[0].self_attn.k_proj(hidden).view(2, LENGTH, KV_HEADS, DIM).transpose(1, 2)
        torch.testing.assert_close(ways[1], before)
        # Position 0 is not rotated, the others are.
        torch.testing.assert_close(ways[0][:, :, 0], before[:, :, 0])
        self.assertGreater((ways[0] - before).abs().max().item(), 0.1)


class Training(unittest.TestCase):
    def test_stage_2_changes_the_autoencoders_and_nothing_else(self):
        model, made = make(), compressor([1, 3])
        before, own = state(model), state(made)
        train(model, made, made.parameters(), np.array(texts()), Plan(epochs=1, batch=4))
        for name, x in state(model).items():
            self.assertTrue(torch.equal(x, before[name]), name)
        for name, x in state(made).items():
            self.assertFalse(torch.equal(x, own[name]) and x.is_floating_point(), name)

    def test_stage_1_leaves_other_layers_alone(self):
        model, made = make(), compressor([0, 2])
        before = state(made)
        parameters = [p for k in KINDS for p in made.of(k, 2).parameters()]
        train(model, made, parameters, np.array(texts()), Plan(batch=4))
        for name, x in state(made).items():
            frozen = "_0." in name
            self.assertEqual(torch.equal(x, before[name]), frozen, name)

    def test_training_lowers_the_loss_and_the_error(self):
        model, windows = make(), np.array(texts())
        train(model, compressor([]), list(model.parameters()), windows, Plan(epochs=40, batch=8, rate=3e-3), state=model)
        base = evaluate(model, compressor([]), windows)
        made = compressor([0, 1, 2])
        before = evaluate(model, made, windows)
        train(model, made, made.parameters(), windows, Plan(epochs=60, batch=8, rate=3e-3))
        after = evaluate(model, made, windows)
        self.assertLess(base, 1.0)
        self.assertGreater(before, base + 0.5)
        self.assertLess(after, base + 0.3 * (before - base))

    def test_goes_on_from_a_checkpoint_as_if_never_interrupted(self):
        windows = np.array(texts())
        results = []
        with tempfile.TemporaryDirectory() as folder:
            for stops in ([8], [3, 8]):
                model, made = make(), compressor([1])
                path = Path(folder) / f"{len(stops)}.pt"
                for steps in stops:
                    made = compressor([1])
                    losses = train(model, made, made.parameters(), windows, Plan(3, 4, steps=steps, every=2), path)
                results.append((losses, state(made)))
        self.assertEqual(results[0][0], results[1][0])
        for name, x in results[0][1].items():
            self.assertTrue(torch.equal(x, results[1][1][name]), name)

    def test_too_few_sequences_are_refused(self):
        made = compressor([0])
        with self.assertRaisesRegex(ValueError, "less than a batch of 4"):
            train(make(), made, made.parameters(), np.array(texts(3)), Plan(batch=4))


class Reuse(unittest.TestCase):
    def test_chains_are_resolved_to_what_is_stored(self):
        chosen = np.zeros((5, 2), bool)
        chosen[1:4, 0] = True
        chosen[3, 1] = True
        self.assertEqual(resolve(chosen).tolist(), [[0, 1], [0, 3], [0, 5], [0, 5], [8, 9]])
        # Without chains layer 2 is stored, and layer 3 reuses it.
        self.assertEqual(resolve(chosen, chains=False).tolist(), [[0, 1], [0, 3], [4, 5], [4, 5], [8, 9]])
        for sources in (resolve(chosen), resolve(chosen, False)):
            flat = sources.reshape(-1)
            np.testing.assert_array_equal(flat[flat], flat)
        chosen[0, 0] = True
        with self.assertRaisesRegex(ValueError, "layer 0"):
            resolve(chosen)

    def test_distances_are_mean_absolute_differences_of_neighbouring_layers(self):
        random = np.random.default_rng(1)
        batches = random.standard_normal((3, LAYERS, 2, KV_HEADS, 5, DIM)).astype(np.float32)
        distances = HeadDistances()
        for batch in batches:
            for layer in range(1, LAYERS):
                distances.add("key", layer, batch[layer], batch[layer - 1])
        for layer in range(1, LAYERS):
            for head in range(KV_HEADS):
                parts = [np.abs(b[layer, :, head] - b[layer - 1, :, head]).mean() for b in batches]
                self.assertAlmostEqual(distances.mean("key")[layer - 1, head], np.mean(parts), places=6)
        with self.assertRaisesRegex(ValueError, "values were seen"):
            distances.mean("value")

    def test_nearest_or_nearer_than_a_threshold(self):
        distances = np.array([[0.5, 0.1], [0.2, 0.9]])
        self.assertEqual(choose_slots(distances, count=2).tolist(), [[False, False], [False, True], [True, False]])
        self.assertEqual(choose_slots(distances, threshold=0.2).tolist(), [[False, False], [False, True], [False, False]])
        for bad in ({}, {"threshold": 1.0, "count": 1}, {"count": 5}):
            with self.assertRaises(ValueError):
                choose_slots(distances, **bad)


class WholeRun(unittest.TestCase):
    def test_heads_repair_stages_and_export(self):
        with tempfile.TemporaryDirectory() as folder:
            heads = run(folder).heads({"key": (None, 2), "value": (None, 1)}, True, 4, False)
            self.assertEqual(heads, {"reused": {"key": 2, "value": 1}, "saving": 3 / 16})
            repair = run(folder).repair(Plan(epochs=10, batch=4, rate=1e-3), False)
            self.assertLess(repair["repaired"], repair["reused"])
            run(folder).stage1(Plan(epochs=2, batch=4), [0, 2, 3], False)
            second = run(folder).stage2(Plan(epochs=4, batch=4, rate=1e-3), None, 2, False)
            self.assertEqual(len(second["layers"]), 2)
            self.assertLess(second["stage2"], second["stage1"])
            self.assertEqual(sorted(run(folder).evaluate()), ["repaired", "reuse", "stage1", "stage2", "untouched"])
            path, weights = Path(folder) / "out.safetensors", Path(folder) / "weights.safetensors"
            result = run(folder).export(path, weights)
            tensors, metadata = read_tensors(path)
            self.assertEqual((metadata["method"], metadata["layers"], metadata["slope"]), ("kvcar", "4", "0.01"))
            stored = 0
            for kind in KINDS:
                sources = tensors[f"{kind}.sources"]
                for layer in range(LAYERS):
                    width = DIM * int((sources[layer] == np.arange(KV_HEADS) + layer * KV_HEADS).sum())
                    if layer in second["layers"]:
                        shape = tensors[f"layers.{layer}.{kind}.encoder.0.weight"].shape
                        self.assertEqual(shape, (width, width))
                        width //= 2
                        self.assertEqual(tensors[f"layers.{layer}.{kind}.decoder.0.weight"].shape, (2 * width, width))
                    stored += width
            self.assertAlmostEqual(result["saving"], 1 - stored / (2 * LAYERS * KV_HEADS * DIM))
            changed, _ = read_tensors(weights)
            untouched = make().state_dict()
            self.assertNotIn("lm_head.weight", changed)
            self.assertFalse(np.array_equal(changed["model.norm.weight"], untouched["model.norm.weight"].numpy()))

    def test_other_settings_and_steps_out_of_order_are_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            made = run(folder, share=0.25)
            self.assertEqual(json.loads((Path(folder) / "settings.json").read_text())["share"], 0.25)
            with self.assertRaisesRegex(ValueError, "its share is 0.25, not 0.5"):
                run(folder, share=0.5)
            with self.assertRaisesRegex(ValueError, "Nothing to repair"):
                made.repair(Plan(), False)
            with self.assertRaisesRegex(ValueError, "stage 1 lacks"):
                made.stage2(Plan(), [1], None, False)
            with self.assertRaisesRegex(ValueError, "no repaired model"):
                made.export(Path(folder) / "a.safetensors", Path(folder) / "b.safetensors")
            made.stage1(Plan(batch=4), [0], False)
            with self.assertRaisesRegex(ValueError, "gone on from a choice"):
                made.heads({k: (None, 1) for k in KINDS}, True, 4, False)


if __name__ == "__main__":
    unittest.main()
