"""Tests of the model export: python -m unittest discover tests/tools"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from gguf import GGMLQuantizationType, dequantize, quantize

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
sys.path.insert(0, str(Path(__file__).parent))

import export_model  # noqa: E402
import tiny_llama as tiny  # noqa: E402
from kvzlib.hf_files import config_of  # noqa: E402
from kvzlib.llama import LlamaModel, read_llama, replace_weights  # noqa: E402
from kvzlib.onnx_capture import build_capture  # noqa: E402
from kvzlib.onnx_llama import build_model  # noqa: E402
from kvzlib.safefile import write_tensors  # noqa: E402
from kvzlib.weights import from_gguf  # noqa: E402

IDS = np.array([3, 79, 41, 5, 5, 60, 17])
POSITIONS = np.arange(len(IDS))


class Graph:
    """One of the two graphs in onnxruntime."""

    def __init__(self, model: LlamaModel, build: Any) -> None:
        options = onnxruntime.SessionOptions()
        # Errors are raised; they need not be printed too.
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(build(model).SerializeToString(), options)
        self.inputs = [i.name for i in self.session.get_inputs()]

    def run(
        self,
        ids: np.ndarray,
        positions: np.ndarray,
        past: list[dict[str, np.ndarray]] | None = None,
        bias: np.ndarray | None = None,
        source: list[int] | None = None,
        keep: int = 0,
        mask: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """All outputs of one sequence, or of a batch when `ids` has two axes."""
        ids, positions = np.atleast_2d(ids), np.atleast_2d(positions)
        batch, length = ids.shape
        empty = np.zeros((tiny.KV_HEADS, 0, tiny.DIM))
        past = past or [{"key": empty, "value": empty}] * tiny.LAYERS
        before = past[0]["key"].shape[-2]
        feeds = {
            "input_ids": ids,
            "position_ids": positions,
            "attention_mask": np.ones((batch, before + length), np.int64) if mask is None else mask,
            "num_logits_to_keep": np.array(keep),
        }
        for n, layer in enumerate(past):
            for kind in ("key", "value"):
                x = layer[kind].astype(np.float32)
                feeds[f"past_key_values.{n}.{kind}"] = np.repeat(x[None], batch, axis=0)
        if "attention_bias" in self.inputs:
            shape = (tiny.LAYERS, tiny.KV_HEADS, before)
            feeds["attention_bias"] = (np.zeros(shape) if bias is None else bias).astype(np.float32)
            feeds["layer_source"] = np.array(range(tiny.LAYERS) if source is None else source)
        names = [o.name for o in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, feeds)))


class ExportTest(unittest.TestCase):
    """Models in a folder of their own."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def write(self, **options: Any) -> Path:
        path = self.folder / "Tiny.Q4_1.gguf"
        self.weights = tiny.write_gguf(path, **options)
        return path

    def graphs(self, model: LlamaModel) -> list[Graph]:
        return [Graph(model, build_model), Graph(model, build_capture)]

    def assert_close(self, found: np.ndarray, expected: np.ndarray, message: str = "") -> None:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max(), err_msg=message)

    def assert_outputs(self, found: dict[str, np.ndarray], expected: Any) -> None:
        logits, layers = expected
        self.assert_close(found["logits"][0], logits, "logits")
        for n, layer in enumerate(layers):
            for kind in ("key", "value"):
                self.assert_close(found[f"present.{n}.{kind}"][0], layer[kind], f"{kind} of layer {n}")


class Graphs(ExportTest):
    def setUp(self):
        super().setUp()
        self.model = read_llama(self.write())
        self.both = self.graphs(self.model)
        self.capture = self.both[1]
        self.first = tiny.forward(self.weights, IDS, POSITIONS)

    def past(self, keep: list[int] | None = None) -> list[dict[str, np.ndarray]]:
        tokens = list(range(len(IDS))) if keep is None else keep
        return [{kind: layer[kind][:, tokens] for kind in ("key", "value")} for layer in self.first[1]]

    def test_prefill_equals_numpy(self):
        for graph in self.both:
            self.assert_outputs(graph.run(IDS, POSITIONS), self.first)

    def test_continues_a_past(self):
        ids, positions = np.array([9, 33, 70]), np.arange(7, 10)
        expected = tiny.forward(self.weights, ids, positions, self.past())
        for graph in self.both:
            self.assert_outputs(graph.run(ids, positions, self.past()), expected)
            self.assert_outputs(
                graph.run(ids[:1], positions[:1], self.past()),
                tiny.forward(self.weights, ids[:1], positions[:1], self.past()),
            )

    def test_positions_need_not_be_those_of_the_buffer(self):
        past, ids, positions = self.past([0, 1, 4, 6]), np.array([9, 33]), np.array([50, 57])
        expected = tiny.forward(self.weights, ids, positions, past)
        for graph in self.both:
            self.assert_outputs(graph.run(ids, positions, past), expected)

    def test_logits_of_the_last_tokens_alone(self):
        for graph in self.both:
            for keep in (1, 3, len(IDS), 99):
                logits = graph.run(IDS, POSITIONS, keep=keep)["logits"][0]
                self.assertEqual(len(logits), min(keep, len(IDS)))
                self.assert_close(logits, self.first[0][-keep:])

    def test_a_batch_is_its_sequences(self):
        other = IDS[::-1].copy()
        expected = tiny.forward(self.weights, other, POSITIONS)
        for graph in self.both:
            found = graph.run(np.stack([IDS, other]), np.stack([POSITIONS] * 2))
            self.assert_outputs(found, self.first)
            self.assert_outputs({name: x[1:] for name, x in found.items()}, expected)

    def test_padding_counts_for_nothing(self):
        mask = np.array([[0, 0, 1, 1, 1, 1, 1]])
        positions = np.array([1, 1, 0, 1, 2, 3, 4])
        found = self.capture.run(IDS, positions, mask=mask)["logits"][0]
        self.assertTrue(np.isfinite(found).all())
        self.assert_close(found[2:], tiny.forward(self.weights, IDS[2:], np.arange(5))[0])
        padded = np.array([[1, 1, 1, 1, 1, 0, 0]])
        for graph in self.both:
            found = graph.run(IDS, POSITIONS, mask=padded)["logits"][0]
            self.assert_close(found[:5], self.first[0][:5])

    def test_capture_gives_queries_and_inputs(self):
        ids, positions = np.array([9, 33, 70]), np.array([7, 9, 20])
        found = self.capture.run(ids, positions, self.past())
        _, layers = tiny.forward(self.weights, ids, positions, self.past())
        for n, layer in enumerate(layers):
            for name in ("query", "rotated_query", "attention_input"):
                self.assert_close(found[f"{name}.{n}"][0], layer[name], f"{name} of layer {n}")
        head = self.weights.get("lm_head.weight", self.weights["model.embed_tokens.weight"])
        self.assert_close(found["final_hidden"][0] @ head.T, found["logits"][0], "logits of the final hidden states")
        last = self.capture.run(ids, positions, self.past(), keep=1)
        self.assert_close(last["final_hidden"][0], found["final_hidden"][0][-1:], "of the last token")

    def test_a_bias_of_minus_infinity_evicts(self):
        ids, positions = np.array([9, 33]), np.array([7, 8])
        bias = np.zeros((tiny.LAYERS, tiny.KV_HEADS, len(IDS)))
        bias[:, :, [2, 5]] = -np.inf
        evicted = self.capture.run(ids, positions, self.past(), bias)["logits"]
        without = self.capture.run(ids, positions, self.past([0, 1, 3, 4, 6]))["logits"]
        self.assert_close(evicted, without)
        # One layer, one head; and values that are no eviction.
        bias[:] = np.random.default_rng(1).standard_normal(bias.shape)
        bias[1, 0, :4] = -np.inf
        expected = tiny.forward(self.weights, ids, positions, self.past(), bias)
        self.assert_outputs(self.capture.run(ids, positions, self.past(), bias), expected)
        self.assertGreater(np.abs(expected[0] - tiny.forward(self.weights, ids, positions, self.past())[0]).max(), 0.1)

    def test_with_the_whole_past_evicted_new_tokens_see_themselves(self):
        bias = np.full((tiny.LAYERS, tiny.KV_HEADS, len(IDS)), -np.inf)
        found = self.capture.run(np.array([9, 33]), np.array([7, 8]), self.past(), bias)
        self.assert_close(found["logits"][0], tiny.forward(self.weights, np.array([9, 33]), np.array([7, 8]))[0])

    def test_a_layer_may_use_the_cache_of_an_earlier_one(self):
        ids, positions = np.array([9, 33]), np.array([7, 8])
        expected = tiny.forward(self.weights, ids, positions, self.past(), source=[0, 0])
        self.assert_outputs(self.capture.run(ids, positions, self.past(), source=[0, 0]), expected)
        plain = tiny.forward(self.weights, ids, positions, self.past())
        self.assertGreater(np.abs(expected[0] - plain[0]).max(), 0.1)
        for wrong in ([1, 1], [0, 2], [-1, 1], [0, -1]):
            with self.assertRaisesRegex(Exception, "(?i)sequence.*index|index.*sequence"):
                self.capture.run(ids, positions, self.past(), source=wrong)

    def test_the_graphs_are_what_transformers_js_expects(self):
        shapes = {i.name: i.shape for i in self.both[0].session.get_inputs()}
        self.assertEqual(shapes["num_logits_to_keep"], [])
        past = ["batch_size", tiny.KV_HEADS, "past_sequence_length", tiny.DIM]
        for n in range(tiny.LAYERS):
            self.assertEqual([shapes[f"past_key_values.{n}.{kind}"] for kind in ("key", "value")], [past, past])
        outputs = [o.name for o in self.both[0].session.get_outputs()]
        self.assertEqual(
            outputs, ["logits", *(f"present.{n}.{kind}" for n in range(tiny.LAYERS) for kind in ("key", "value"))]
        )

    def test_capture_has_standard_operators_alone(self):
        model = build_capture(self.model)
        self.assertEqual([o.domain for o in model.opset_import], [""])
        self.assertEqual({node.domain for node in model.graph.node}, {""})


class Types(ExportTest):
    def test_unpacked_weights_are_those_of_ggml(self):
        x = np.random.default_rng(3).standard_normal((6, 64)).astype(np.float32)
        for kind in ("Q4_0", "Q4_1", "Q8_0", "F32", "F16", "BF16"):
            number = GGMLQuantizationType[kind]
            raw = quantize(x, number)
            np.testing.assert_array_equal(from_gguf(raw, kind, (6, 64)).floats(), dequantize(raw, number), kind)
        self.assertIsNone(from_gguf(raw, "Q5_0", (6, 64)))

    def test_a_model_of_each_type(self):
        for kind in ("Q4_0", "Q4_1", "Q8_0", "F16", "BF16", "F32", "Q5_0"):
            for tied in (True, False):
                with self.subTest(kind=kind, tied=tied):
                    model = read_llama(self.write(kinds=(kind,), embedding=kind, tied=tied))
                    expected = tiny.forward(self.weights, IDS, POSITIONS)
                    for graph in self.graphs(model):
                        self.assert_outputs(graph.run(IDS, POSITIONS), expected)
                    count = 7 * tiny.LAYERS + 2 - tied
                    notes = [f"{count} tensors of type Q5_0 are stored as float32"] if kind == "Q5_0" else []
                    self.assertEqual(model.notes, notes)

    def test_four_bits_stay_four_bits(self):
        model = read_llama(self.write(kinds=("Q4_1",)))
        linears = sum(w.codes.size for name, w in model.weights.items() if "proj" in name)
        for build in (build_model, build_capture):
            stored = [t for t in build(model).graph.initializer if t.name.endswith("_proj.weight.codes")]
            self.assertEqual(sum(len(t.raw_data) for t in stored), linears // 2)


class ChangedWeights(ExportTest):
    def change(self, model: LlamaModel, tensors: dict[str, tuple[str, np.ndarray]]) -> int:
        path = self.folder / "changed.safetensors"
        write_tensors(path, tensors, {})
        return replace_weights(model, path)

    def test_take_the_place_of_the_files(self):
        random = np.random.default_rng(5)
        for head in (False, True):
            model = read_llama(self.write())
            changed = {
                "model.layers.0.self_attn.q_proj.weight": "F32",
                "model.layers.1.self_attn.k_proj.weight": "F16",
                "model.layers.1.mlp.down_proj.weight": "BF16",
                "model.layers.1.input_layernorm.weight": "F32",
                "lm_head.weight" if head else "model.embed_tokens.weight": "F16",
            }
            tensors = {}
            for name, dtype in changed.items():
                # Values that all three types hold exactly.
                x = random.integers(-64, 64, model.shapes()[name]) / 128
                tensors[name] = (dtype, x)
                self.weights[name] = x
            self.assertEqual(self.change(model, tensors), 5)
            self.assertEqual(model.tied, not head)
            self.assertEqual(config_of(model)["tie_word_embeddings"], not head)
            expected = tiny.forward(self.weights, IDS, POSITIONS)
            for graph in self.graphs(model):
                self.assert_outputs(graph.run(IDS, POSITIONS), expected)

    def test_are_refused_by_name(self):
        model = read_llama(self.write())
        for name, dtype, shape, message in (
            ("model.layers.2.mlp.up_proj.weight", "F32", (96, 64), "weight model.layers.2.mlp.up_proj.weight is not"),
            ("model.norm.weight", "F32", (65,), r"model.norm.weight has shape \(65,\), expected \(64,\)"),
            ("model.norm.weight", "I32", (64,), "model.norm.weight is int32, expected float32, float16 or bfloat16"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                self.change(model, {name: (dtype, np.zeros(shape))})
        path = self.folder / "changed.safetensors"
        for broken in (b"", b"\x10\0\0\0\0\0\0\0{", b"\x02\0\0\0\0\0\0\0{]"):
            path.write_bytes(broken)
            with self.assertRaisesRegex(ValueError, "Cannot read changed.safetensors: "):
                replace_weights(model, path)


class Refusals(ExportTest):
    def test_what_is_not_understood_is_named(self):
        for options, message in (
            ({"architecture": "qwen2"}, "architecture qwen2, expected llama"),
            ({"leave_out": "blk.1.ffn_up.weight"}, "has no tensor blk.1.ffn_up.weight"),
            ({"extra": {"blk.0.attn_q.bias": np.zeros(64, np.float32)}}, "tensor blk.0.attn_q.bias is not known"),
            ({"metadata": {"llama.rope.scaling.type": "yarn"}}, "RoPE scaling yarn"),
            ({"extra": {"rope_freqs.weight": np.full(8, 2, np.float32)}}, "rope_freqs.weight is not the scaling"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                read_llama(self.write(**options))

    def test_other_files(self):
        whole = self.write().read_bytes()
        path = self.folder / "Broken.gguf"
        for data in (b"", b"not a model at all", whole[:200], whole[: len(whole) // 2]):
            path.write_bytes(data)
            with self.assertRaisesRegex(ValueError, "Cannot read .*Broken.gguf: not a whole GGUF file"):
                read_llama(path)

    def test_command(self):
        path, out = str(self.write()), self.folder / "out"
        with self.assertRaisesRegex(FileNotFoundError, "nothing.gguf is not a file"):
            export_model.main(["--gguf", "nothing.gguf", "-o", str(out)])
        with self.assertRaisesRegex(FileNotFoundError, "nothing.safetensors is not a file"):
            export_model.main(["--gguf", path, "--weights", "nothing.safetensors", "-o", str(out)])
        with self.assertRaisesRegex(ValueError, "the GGUF file has no tokenizer"):
            export_model.main(["--gguf", path, "-o", str(out)])
        self.assertFalse(out.exists())
        out.mkdir()
        (out / "config.json").write_text("{}")
        with self.assertRaisesRegex(FileExistsError, "it holds another model"):
            export_model.main(["--gguf", path, "-o", str(out)])


class Rope(ExportTest):
    def test_scaling(self):
        linear = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
        model = read_llama(self.write(metadata=linear))
        plain = tiny.THETA ** (-np.arange(8) / 8)
        np.testing.assert_allclose(model.inverse_frequencies(), plain / 4, rtol=1e-6)
        self.assertEqual(config_of(model)["rope_scaling"], {"rope_type": "linear", "factor": 4.0})
        # As llama.cpp's converter computes them for Llama 3.
        factors = []
        for frequency in plain:
            length = 2 * np.pi / frequency
            smooth = (8192 / length - 1) / 3
            factors.append(1 if length < 2048 else 8 if length > 8192 else 1 / ((1 - smooth) / 8 + smooth))
        model = read_llama(self.write(extra={"rope_freqs.weight": np.array(factors, np.float32)}))
        self.assertEqual(model.rope["scaling"]["type"], "llama3")
        self.assertEqual(config_of(model)["rope_scaling"]["factor"], 8.0)
        np.testing.assert_allclose(model.inverse_frequencies(), plain / factors, rtol=1e-5)


class Folder(ExportTest):
    def test_holds_what_transformers_js_reads(self):
        try:
            from tokenizers import Tokenizer
            from transformers.integrations.gguf import convert_gguf_tokenizer  # noqa: F401
        except ImportError as missing:
            self.skipTest(f"{missing.name} is not installed")
        path, out = self.write(tokenizer=True), self.folder / "out"
        arguments = ["--gguf", str(path), "-o", str(out), "--json"]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            export_model.main(arguments)
        record = json.loads(printed.getvalue())
        self.assertEqual((record["model"], record["folder"]), ("Tiny", str(out)))
        files = {str(p.relative_to(out)): p.stat().st_size for p in out.rglob("*") if p.is_file()}
        self.assertEqual(record["files"], {name: size for name, size in files.items() if name != "export.json"})
        tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
        self.assertEqual(tokenizer.encode("<|im_start|>abc!").ids, [1, 79, 69, 3])
        config = json.loads((out / "tokenizer_config.json").read_text())
        self.assertEqual((config["bos_token"], config["eos_token"]), ("<|im_start|>", "<|im_end|>"))
        self.assertEqual(config["chat_template"], "{{ messages[0]['content'] }}")
        self.assertEqual(json.loads((out / "config.json").read_text())["bos_token_id"], 1)
        with self.assertRaisesRegex(FileExistsError, "use --force to replace it"):
            export_model.main(arguments)
        # What an interrupted export left, or one of an older format, is no obstacle.
        for found in ({"format": export_model.FORMAT}, record | {"format": 0}):
            (out / "export.json").write_text(json.dumps(found))
            (out / "onnx/model.onnx").unlink()
            with contextlib.redirect_stdout(io.StringIO()):
                export_model.main(arguments)
            self.assertTrue((out / "onnx/model.onnx").exists())


if __name__ == "__main__":
    unittest.main()
