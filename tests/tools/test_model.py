"""Caches of models whose layers rotate differently, against transformers' own forward pass and rotary embedding."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import kl_of_restored  # noqa: E402
from kvzlib.caches import read_cache, write_cache  # noqa: E402
from kvzlib.model import LoadedModel, layer_rope_facts, rope_facts  # noqa: E402
from kvzlib.sensitivity import FisherBlocks  # noqa: E402
from kvzlib.windows import add_text_arguments, choose_windows  # noqa: E402

TOKENS, SPLIT = 24, 16
SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.3,
}
ROPES = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    "full_attention": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0},
}


def gemma(window: int) -> LoadedModel:
    torch.manual_seed(1)
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    config = Gemma3TextConfig(
        **SIZES, layer_types=kinds, rope_parameters=ROPES, sliding_window=window, attn_implementation="eager"
    )
    model = Gemma3ForCausalLM(config).eval()
    return LoadedModel(model, None, "tiny", config.model_type, rope_facts(config), layer_rope_facts(config))


def llama() -> LoadedModel:
    torch.manual_seed(1)
    config = LlamaConfig(**SIZES)
    return LoadedModel(LlamaForCausalLM(config).eval(), None, "tiny", config.model_type, rope_facts(config))


IDS = np.random.default_rng(2).integers(0, 50, TOKENS)


class Model(unittest.TestCase):
    def test_facts_of_layers_that_rotate_differently(self):
        model = gemma(8)
        self.assertIsNone(model.rope)
        self.assertEqual([facts["theta"] for facts in model.layer_ropes], [100.0, 1e4, 100.0])
        self.assertEqual(model.layer_ropes[1]["scaling"], {"type": "linear", "factor": 2.0})
        self.assertNotIn("scaling", model.layer_ropes[0])
        self.assertIsNone(llama().layer_ropes)
        self.assertEqual(llama().rope["dim"], 8)

    def test_keys_are_before_rope_and_of_all_tokens(self):
        model = gemma(8)
        rotated: list[torch.Tensor] = []
        for layer in model.model.model.layers:
            layer.self_attn.k_norm.register_forward_hook(lambda _m, _i, out: rotated.append(out))
        layers = model.cache(IDS)
        for n, (keys, values) in enumerate(layers):
            self.assertEqual(keys.shape, (1, 2, TOKENS, 8))
            self.assertEqual(values.shape, (1, 2, TOKENS, 8))
            wanted = rotated[n] if rotated[n].shape == keys.shape else rotated[n].transpose(1, 2)
            np.testing.assert_allclose(keys, wanted.detach().numpy(), atol=1e-4)

    def test_reading_on_after_a_restored_cache_is_reading_it_all(self):
        # A window of 8 tokens: what has left it must not be seen again, though the cache holds it.
        for name, model in (("gemma", gemma(8)), ("llama", llama())):
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "cache.safetensors"
                facts = {"model": model.id, "rope": json.dumps(model.rope)}
                write_cache(file, model.cache(IDS[:SPLIT]), IDS[:SPLIT], facts, "f32")
                cache = read_cache(file)
                logits = model.read_on(model.past(cache.keys, cache.values), IDS[SPLIT:])
                with torch.inference_mode():
                    whole = model.model(torch.from_numpy(IDS)[None]).logits[0, SPLIT:]
                np.testing.assert_allclose(logits.numpy(), whole.numpy(), atol=2e-3)
                shifted = cache.keys + 0.3
                changed = model.read_on(model.past(shifted, cache.values), IDS[SPLIT:])
                self.assertGreater(float((changed - whole).abs().max()), 0.02)

    def test_sensitivity_watches_each_layer(self):
        model = gemma(64)
        blocks = FisherBlocks(2)
        blocks.add(model.model, IDS, torch.Generator().manual_seed(0))
        for kind in ("key", "value"):
            self.assertEqual([mean.shape for mean in blocks.mean(kind)], [(2, 8, 8)] * 3)

    def test_caches_without_rotation_are_their_own_features(self):
        model = gemma(8)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "cache.safetensors"
            write_cache(file, model.cache(IDS), IDS, {"rope": "null"}, "f32")
            cache = read_cache(file)
        rows = cache.features("key")
        np.testing.assert_array_equal(rows.reshape(TOKENS, 3, 2, 8).transpose(1, 2, 0, 3), cache.keys)
        np.testing.assert_array_equal(cache.unfeatures("key", rows), cache.keys)


class Characters(LoadedModel):
    """A model whose tokens are characters."""

    def tokenize(self, text: str) -> list[int]:
        return [ord(c) for c in text]


class Windows(unittest.TestCase):
    def choose(self, bos: int | None, *words: str) -> list[tuple[str, list[int]]]:
        model = Characters(None, SimpleNamespace(bos_token_id=bos), "tiny", "llama", None)
        parser = argparse.ArgumentParser()
        add_text_arguments(parser, sequences=2, length=4)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "a.txt"
            file.write_text("abcdefgh")
            return choose_windows(model, parser.parse_args(["--texts", str(file), *words]))

    def test_the_first_token_is_one_of_the_length(self):
        self.assertEqual([ids for _, ids in self.choose(2, "--bos")], [[2, *b"abc"], [2, *b"def"]])
        self.assertEqual([ids for _, ids in self.choose(2)], [[*b"abcd"], [*b"efgh"]])
        with self.assertRaisesRegex(ValueError, "has no first token"):
            self.choose(None, "--bos")


class Agreement(unittest.TestCase):
    def test_kl_and_perplexity_of_known_distributions(self):
        p, q = torch.tensor([[0.5, 0.5], [0.9, 0.1]]), torch.tensor([[0.25, 0.75], [0.9, 0.1]])
        found = kl_of_restored.agreement(p.log(), q.log(), np.array([0, 1]))
        self.assertAlmostEqual(found["kl"], (0.5 * np.log(2) + 0.5 * np.log(2 / 3)) / 2, places=6)
        self.assertAlmostEqual(found["perplexityBefore"], 2, places=5)
        self.assertAlmostEqual(found["perplexityAfter"], 1 / 0.75, places=5)
        self.assertEqual(kl_of_restored.agreement(p.log(), p.log(), np.array([0, 1]))["kl"], 0)

    def test_settings(self):
        name, compress, decompress = kl_of_restored.parse_setting("kvz 1=--profile 'a b.kvzp' --step 1")
        self.assertEqual((name, decompress), ("kvz 1", ["--profile", "a b.kvzp"]))
        self.assertEqual(compress, ["--profile", "a b.kvzp", "--step", "1"])
        self.assertEqual(kl_of_restored.parse_setting("l=--recipe lossless")[2], [])
        with self.assertRaisesRegex(ValueError, "expected NAME=OPTIONS"):
            kl_of_restored.parse_setting("--step 1")


if __name__ == "__main__":
    unittest.main()
