"""The mean of sensitivities: against sums by hand, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

TOOLS = Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

from kvzlib.safefile import read_tensors, write_tensors  # noqa: E402
from kvzlib.sensitivity_merge import Sensitivity, merge_sensitivities  # noqa: E402

NAMES = ["layers.0.key.fisher", "layers.0.value.fisher"]


def sensitivity(seed: int, sequences: int = 9, model: str = "m", dim: int = 4) -> Sensitivity:
    rng = np.random.default_rng(seed)
    blocks = {name: rng.random((2, dim, dim)).astype(np.float32) for name in NAMES}
    facts = {"model": model, "architecture": "llama", "rope": "{}", "length": "64"}
    return blocks, {**facts, "sequences": str(sequences), "tokens": str(48 * sequences)}


class SensitivityMergeTest(unittest.TestCase):
    def test_weighs_files_however_many_sequences_they_are_of(self) -> None:
        a, b = sensitivity(1, 9), sensitivity(2, 27)
        blocks, facts = merge_sensitivities([("a", a), ("b", b)], [1, 3])
        for name in NAMES:
            np.testing.assert_allclose(blocks[name], (a[0][name] + 3.0 * b[0][name]) / 4, rtol=1e-6)
        self.assertEqual(facts["sequences"], "36")
        self.assertEqual(facts["tokens"], str(48 * 36))
        self.assertEqual([part["weight"] for part in json.loads(facts["merged"])], [1, 3])
        self.assertEqual([part["sequences"] for part in json.loads(facts["merged"])], ["9", "27"])

    def test_refuses_what_is_not_of_one_model(self) -> None:
        a = sensitivity(1)
        for other, message in [(sensitivity(2, model="n"), "b with a: its model is n"), (sensitivity(2, dim=6), "shapes")]:
            with self.assertRaisesRegex(ValueError, message):
                merge_sensitivities([("a", a), ("b", other)], [1, 1])

    def test_refuses_files_that_are_none(self) -> None:
        good, (blocks, facts) = sensitivity(1), sensitivity(2)
        for other in (({"key.basis": blocks[NAMES[0]]}, facts), ({}, facts), (blocks, {"model": "m"})):
            with self.assertRaisesRegex(ValueError, "Cannot merge b: it is no file of tools/sensitivity.py"):
                merge_sensitivities([("a", good), ("b", other)], [1, 1])

    def test_refuses_weights_that_are_none(self) -> None:
        pair = [("a", sensitivity(1)), ("b", sensitivity(2))]
        for weights in ([1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")], [1.0, float("inf")]):
            with self.assertRaisesRegex(ValueError, "weight"):
                merge_sensitivities(pair, weights)
        with self.assertRaisesRegex(ValueError, "1 files"):
            merge_sensitivities(pair[:1], [1.0])

    def test_the_command_writes_the_mean(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / name for name in ("a.safetensors", "b.safetensors", "mean.safetensors")]
            given = [sensitivity(seed) for seed in (1, 2)]
            for path, (blocks, facts) in zip(paths, given):
                write_tensors(path, {name: ("F32", block) for name, block in blocks.items()}, facts)
            command = [sys.executable, str(TOOLS / "sensitivity.py"), "--merge", *map(str, paths[:2]), "-o", str(paths[2])]
            subprocess.run(command, check=True, capture_output=True)
            blocks, facts = read_tensors(paths[2])
            for name in NAMES:
                np.testing.assert_allclose(blocks[name], (given[0][0][name] + given[1][0][name]) / 2, rtol=1e-6)
            self.assertEqual(facts["sequences"], "18")
            again = subprocess.run(command, capture_output=True, text=True)
            self.assertNotEqual(again.returncode, 0)
            self.assertIn("it exists", again.stderr)
            texts = subprocess.run(command[:-1] + ["x", "--texts", "a.txt"], capture_output=True, text=True)
            self.assertNotEqual(texts.returncode, 0)
            self.assertIn("--merge takes files that are there already", texts.stderr)
            alone = subprocess.run(command[:2] + ["--model", "x", "--weights", "1", "-o", "y"], capture_output=True, text=True)
            self.assertIn("--weights is of the files of --merge", alone.stderr)


if __name__ == "__main__":
    unittest.main()
