"""Tests of the Python tools: python -m unittest discover tests/tools"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from kvzlib import allocate, caches, codec, profile, quantizer, rope, safefile, streams, texts  # noqa: E402
from kvzlib.quantizer import Group  # noqa: E402


class Quantizer(unittest.TestCase):
    def test_e4m3_is_nearest_ties_to_even(self):
        finite = np.array([c for c in range(127)])
        values = quantizer.E4M3_VALUES[finite].astype(np.float64)
        middles = (values[1:] + values[:-1]) / 2
        x = np.concatenate([values, middles, np.random.default_rng(0).uniform(0, 470, 5000)])
        distance = np.abs(np.minimum(x, 448)[:, None] - values)
        nearest = distance.min(axis=1, keepdims=True)
        # Of two equally near neighbours the even code wins.
        expected = [min((c for c in finite[row == d]), key=lambda c: c % 2) for row, d in zip(distance, nearest)]
        np.testing.assert_array_equal(quantizer.e4m3_encode(x.astype(np.float32)), expected)
        np.testing.assert_array_equal(quantizer.e4m3_encode(-x.astype(np.float32)), np.array(expected) + 128)

    def test_constant_and_zero_groups(self):
        x = np.array([[0.1] * 16, [0.0] * 16], np.float32)
        for kind in (1, 2, 3):
            groups = [Group(0, 16, kind)]
            symbols, params = quantizer.quantize(x, groups)
            back = quantizer.dequantize(symbols, params, groups)
            np.testing.assert_array_equal(back[1], 0)
            np.testing.assert_allclose(back[0], 0.1, rtol=2e-3)
            if kind != 3:
                self.assertEqual(symbols.max(), 0)

    def test_error_is_at_most_half_a_step(self):
        x = np.random.default_rng(1).standard_normal((50, 64)).astype(np.float32)
        for kind in (1, 2):
            groups = [Group(0, 64, kind)]
            symbols, params = quantizer.quantize(x, groups)
            scale = params.view(np.float16)[:, 0, 1].astype(np.float32)
            error = np.abs(quantizer.dequantize(symbols, params, groups) - x)
            # Half a step, and what rounding shift and scale to binary16 may add at the far end.
            self.assertLess((error / scale[:, None]).max(), 0.52)
            self.assertEqual(symbols.max(), 2 ** quantizer.TYPE_BITS[kind] - 1)


class Allocation(unittest.TestCase):
    def test_error_table_equals_the_quantizer(self):
        sample = np.random.default_rng(2).standard_normal((300, 70)).astype(np.float32) * np.linspace(
            9, 0.1, 70, dtype=np.float32
        )
        energy, errors = allocate.error_table(sample)
        np.testing.assert_allclose(energy, (sample.astype(np.float64) ** 2).sum(0))
        for (n, size), (t, kind) in itertools.product(enumerate(allocate.GROUP_SIZES), enumerate(allocate.GROUP_TYPES)):
            for last in range(0, 70, 3):
                if last < size - 1:
                    self.assertEqual(errors[last, n, t], np.inf)
                    continue
                block = np.ascontiguousarray(sample[:, last - size + 1 : last + 1])
                groups = [Group(0, size, kind)]
                back = quantizer.dequantize(*quantizer.quantize(block, groups), groups)
                expected = ((back - block).astype(np.float64) ** 2).sum()
                np.testing.assert_allclose(errors[last, n, t], expected, rtol=1e-5, atol=1e-9)

    def test_equals_brute_force(self):
        sizes, random = (1, 2, 3), np.random.default_rng(3)
        for trial in range(30):
            rank = int(random.integers(1, 7))
            energy = np.sort(random.exponential(size=rank) * 4)[::-1]
            errors = np.full((rank, 3, 3), np.inf)
            for i, (n, size) in itertools.product(range(rank), enumerate(sizes)):
                if size <= i + 1:
                    errors[i, n] = energy[i - size + 1 : i + 1].sum() * random.uniform(0, 1.1, 3)
            budget = int(random.integers(0, 160))

            def search(i: int, bits: int) -> float:
                """Least error of components i … rank − 1."""
                if i == rank:
                    return 0.0
                least = energy[i] + search(i + 1, bits)
                for n, size in enumerate(sizes):
                    for t, kind in enumerate((1, 2, 3)):
                        cost = size * quantizer.TYPE_BITS[kind] + 32
                        if i + size <= rank and cost <= bits:
                            least = min(least, errors[i + size - 1, n, t] + search(i + size, bits - cost))
                return least

            groups, error = allocate.allocate(energy, errors, budget, sizes)
            self.assertLessEqual(allocate.bits_of(groups), budget)
            self.assertAlmostEqual(error, search(0, budget), places=9, msg=f"trial {trial}")
            covered = sum(errors[g.first + g.size - 1, sizes.index(g.size), g.type - 1] for g in groups)
            dropped = set(range(rank)) - {c for g in groups for c in range(g.first, g.first + g.size)}
            self.assertAlmostEqual(covered + sum(energy[c] for c in dropped), error, places=9)


class Streams(unittest.TestCase):
    def test_round_trip(self):
        groups = [Group(0, 1, 1), Group(1, 16, 3), Group(20, 64, 2), Group(84, 16, 1)]
        x = np.random.default_rng(4).standard_normal((37, 100)).astype(np.float32)
        symbols, params = quantizer.quantize(x, groups)
        parts = streams.code_streams(symbols, groups)
        self.assertEqual([len(p) for p in parts], [17 * 10, 64 * 19, 16 * 37])
        np.testing.assert_array_equal(streams.symbols_of(parts, groups, 37), symbols)
        np.testing.assert_array_equal(streams.params_of(streams.param_streams(params), groups, 37), params)
        self.assertEqual(streams.inflate(streams.deflate_bytes(parts[0])), parts[0])

    def test_first_token_lies_in_the_lowest_bits(self):
        self.assertEqual(
            streams.pack_codes(np.array([[1], [2], [3], [0], [1]], np.uint8), [Group(0, 1, 1)]), bytes([0b00111001, 1])
        )


class Rope(unittest.TestCase):
    def test_rotates_pairs_as_complex_numbers_and_back(self):
        x = np.random.default_rng(5).standard_normal((2, 9, 12))
        turn = rope.rotation({"theta": 1e4, "dim": 8}, np.arange(100, 109))
        y = turn.apply(x)
        angles = np.arange(100, 109)[:, None] * 1e4 ** (-np.arange(4) / 4)
        z = (x[..., :4] + 1j * x[..., 4:8]) * np.exp(1j * angles)
        np.testing.assert_allclose(y, np.concatenate([z.real, z.imag, x[..., 8:]], axis=-1), atol=1e-12)
        np.testing.assert_allclose(turn.undo(y), x, atol=1e-12)

    def test_scaling_equals_transformers(self):
        try:
            from transformers import LlamaConfig
            from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
        except ImportError as missing:
            self.skipTest(f"{missing.name} is not installed")
        for scaling in (
            {"type": "linear", "factor": 4.0},
            {
                "type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
            {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1},
        ):
            parameters = {k: v for k, v in scaling.items() if k != "type"}
            config = LlamaConfig(
                hidden_size=512,
                num_attention_heads=4,
                head_dim=128,
                max_position_embeddings=32768,
                rope_parameters={"rope_type": scaling["type"], "rope_theta": 1e6, **parameters},
            )
            expected, factor = ROPE_INIT_FUNCTIONS[scaling["type"]](config, "cpu")
            mine, mine_factor = rope.frequencies({"theta": 1e6, "dim": 128, "scaling": scaling})
            np.testing.assert_allclose(mine, expected.numpy(), rtol=1e-5)
            self.assertAlmostEqual(mine_factor, factor, places=6)


class Texts(unittest.TestCase):
    def test_left_out_regions_never_enter_a_window(self):
        with tempfile.TemporaryDirectory() as folder:
            plain, lines = Path(folder, "a.txt"), Path(folder, "b.jsonl")
            plain.write_text("".join(chr(97 + i // 10) for i in range(100)))
            lines.write_text("".join(json.dumps({"question": f"q{n}", "answer": f"a{n}"}) + "\n" for n in range(1, 7)))
            skips = texts.parse_skips([f"{plain}:20-40", "a.txt:90-95"], ["b.jsonl:3-4"], [str(plain), str(lines)])
            segments = texts.read_segments(plain, skips)
            self.assertEqual([len(s) for s in segments], [20, 50, 5])
            self.assertEqual(set("".join(segments)), set("abefghij"))
            records = texts.read_segments(lines, skips)
            self.assertEqual(records[1], "Question: q5\nAnswer: a5\n\nQuestion: q6\nAnswer: a6")
            windows = texts.token_windows(segments, lambda s: [ord(c) for c in s], 8)
            self.assertEqual(len(windows), 2 + 6)
            with self.assertRaisesRegex(ValueError, "not among the texts"):
                texts.parse_skips(["c.txt:0-5"], [], [str(plain)])
            with self.assertRaisesRegex(ValueError, "expected FILE:BEGIN-END"):
                texts.parse_skips(["a.txt:9"], [], [str(plain)])

    def test_share_and_spread(self):
        self.assertEqual(texts.share(16, [50, 25, 25]), [8, 4, 4])
        self.assertEqual(sum(texts.share(7, [3, 3, 3])), 7)
        self.assertEqual(texts.spread(10, 2), [2, 7])
        self.assertEqual(texts.spread(5, 5), [0, 1, 2, 3, 4])
        with self.assertRaisesRegex(ValueError, "the text has 5"):
            texts.spread(5, 6)


def synthetic_cache(path: Path, seed: int, tokens: int = 200, dtype: str = "f16") -> None:
    """A cache of 3 layers, 2 heads, 8 dimensions, of rank about 6 before RoPE."""
    random = np.random.default_rng(seed)
    spec = {"theta": 1e4, "dim": 8, "pairing": "half-split", "first_position": 0}
    turn = rope.rotation(spec, np.arange(tokens))
    stacks = []
    for kind in range(2):
        mixing = np.random.default_rng(100 + kind).standard_normal((6, 48)) * 2.0 ** -np.arange(6)[:, None]
        x = random.standard_normal((tokens, 6)) @ mixing + 0.3 + random.standard_normal((tokens, 48)) * 0.01
        x = x.reshape(tokens, 3, 2, 8).transpose(1, 2, 0, 3)
        stacks.append(turn.apply(x) if kind == 0 else x)
    layers = [(stacks[0][n][None], stacks[1][n][None]) for n in range(3)]
    caches.write_cache(path, layers, np.arange(tokens), {"model": "synthetic", "rope": json.dumps(spec)}, dtype)


class Codec(unittest.TestCase):
    def test_fit_and_evaluate(self):
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder, f"{n}.safetensors") for n in range(4)]
            for n, path in enumerate(paths):
                synthetic_cache(path, n)
            fitted = profile.fit(paths[:3], rank=40, sinks=4, rows=200, seed=0)
            saved = Path(folder, "p.safetensors")
            profile.save_profile(saved, fitted, {"sinks": "4"})
            loaded = profile.load_profile(saved)
            cache = caches.read_cache(paths[3])
            reports = [codec.evaluate(cache, loaded, {"key": r, "value": r}, 4, 32) for r in (3.0, 6.0)]
            for kind in ("key", "value"):
                np.testing.assert_array_equal(loaded[kind].basis, fitted[kind].basis)
                gram = loaded[kind].basis.astype(np.float64) @ loaded[kind].basis.T.astype(np.float64)
                np.testing.assert_allclose(gram, np.eye(40), atol=2e-3)
                self.assertLess(reports[0][kind]["relativeError"], 0.05)
                self.assertLess(reports[0][kind]["relativeError"], reports[1][kind]["relativeError"])
                self.assertLessEqual(reports[1][kind]["bitsPerToken"], 16 * 48 // 6)
            # RoPE left in place would cost the fit its rank: the same values as "value" must code no worse than keys.
            self.assertLess(reports[0]["key"]["relativeErrorCentred"], 0.1)

    def test_files_are_those_of_the_safetensors_library(self):
        try:
            from safetensors.numpy import load_file, save_file
        except ImportError as missing:
            self.skipTest(f"{missing.name} is not installed")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "a.safetensors")
            synthetic_cache(path, 9)
            theirs = load_file(path)
            mine, metadata = safefile.read_tensors(path)
            self.assertEqual(sorted(theirs), sorted(mine))
            for name, x in mine.items():
                np.testing.assert_array_equal(x, theirs[name])
            again = Path(folder, "b.safetensors")
            save_file({k: v.copy() for k, v in theirs.items()}, again, metadata)
            self.assertEqual(list(safefile.read_header(again)[0].items()), list(safefile.read_header(path)[0].items()))

    def test_refuses_files_that_are_no_safetensors(self):
        for data, message in (
            (b"", "0 bytes is no .safetensors"),
            (b"short", "5 bytes is no .safetensors"),
            (b"\xff" * 16, "header of 18446744073709551615 bytes"),
            ((4).to_bytes(8, "little") + b"{]{]", "its header is no JSON"),
            ((4).to_bytes(8, "little") + b"\xff\xfe\xfd\xfc", "its header is no JSON"),
        ):
            with tempfile.TemporaryDirectory() as folder, self.assertRaisesRegex(ValueError, message):
                path = Path(folder, "a.safetensors")
                path.write_bytes(data)
                safefile.read_header(path)

    def test_bf16_rounds_to_nearest_even(self):
        x = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, -3.14159, 1e-40], np.float32)
        np.testing.assert_array_equal(safefile.from_bf16(safefile.to_bf16(x))[:3], [1.0, 1.0, 1 + 2**-6])

    def test_refuses_what_the_type_cannot_hold(self):
        spec = json.dumps({"theta": 1e4, "dim": 4, "pairing": "half-split"})
        for bad, message in ((np.nan, "key of layer 0 holds NaN"), (1e5, "exceeds the range of f16")):
            x = np.full((1, 1, 2, 4), bad)
            with tempfile.TemporaryDirectory() as folder, self.assertRaisesRegex(ValueError, message):
                caches.write_cache(Path(folder, "a"), [(x, x)], np.arange(2), {"rope": spec}, "f16")


if __name__ == "__main__":
    unittest.main()
