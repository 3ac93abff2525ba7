"""
Writes lowrank_golden.json: a tiny random model (Qwen2: biases, GQA), ReCalKV fitted to it, its cache, and what the factors
give from the model's hidden states. Run with what tests/tools/requirements.txt lists.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from kvzlib.lowrank_fit import FitOptions, artefact, fit  # noqa: E402
from kvzlib.lowrank_model import KINDS, advance, begin, projection_inputs, weight_of  # noqa: E402
from kvzlib.model import rope_facts  # noqa: E402
from kvzlib.rope import rotation  # noqa: E402
from kvzlib.safefile import write_tensors  # noqa: E402

LAYERS, KV_HEADS, DIM, TOKENS = 2, 4, 8, 14
CONFIG = Qwen2Config(
    vocab_size=60,
    hidden_size=64,
    intermediate_size=48,
    num_hidden_layers=LAYERS,
    num_attention_heads=8,
    num_key_value_heads=KV_HEADS,
    initializer_range=0.3,
)


def make() -> Qwen2ForCausalLM:
    torch.manual_seed(1)
    model = Qwen2ForCausalLM(CONFIG).float().eval()
    with torch.no_grad():
        for layer in model.model.layers:
            for linear in (layer.self_attn.k_proj, layer.self_attn.v_proj):
                linear.bias.normal_()
    return model


def coded(x: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(x, np.float32).tobytes()).decode()


def by_heads(y: np.ndarray) -> np.ndarray:
    return y.reshape(TOKENS, KV_HEADS, DIM).transpose(1, 0, 2)


random = np.random.default_rng(3)
sequences = [random.integers(0, 60, 64) for _ in range(3)]
options = FitOptions(group_size=2, multiple=4, removed=0.4)
fitted = fit(make(), sequences, options)
facts = {
    "model": "tiny",
    "architecture": "qwen2",
    "rope": json.dumps(rope_facts(CONFIG)),
    "kv_heads": str(KV_HEADS),
    "dim": str(DIM),
}
tensors, metadata = artefact(fitted, sequences, facts, options)
with tempfile.TemporaryDirectory() as folder:
    write_tensors(Path(folder) / "a.safetensors", tensors, metadata)
    file = (Path(folder) / "a.safetensors").read_bytes()

model = make()
turn = rotation(rope_facts(CONFIG), np.arange(TOKENS))
state = begin(model, random.integers(0, 60, TOKENS))
out: dict[str, dict[str, list[np.ndarray]]] = {name: {kind: [] for kind in KINDS} for name in ("cache", "16", "4")}
for n in range(LAYERS):
    x = projection_inputs(model, n, state)
    for kind in KINDS:
        weight, bias = weight_of(model, n, kind)
        given = {"cache": x @ weight.T + bias}
        for bits in (16, 4):
            given[str(bits)] = fitted[n][kind].module(DIM, bits)(torch.from_numpy(x).float()).numpy()
        for name, y in given.items():
            heads = by_heads(y)
            out[name][kind].append(turn.apply(heads) if kind == "key" else heads)
    advance(model, n, state)

golden = {
    "tokens": TOKENS,
    "artefact": base64.b64encode(file).decode(),
    **{name: {kind: coded(np.stack(parts)) for kind, parts in kinds.items()} for name, kinds in out.items()},
}
Path(__file__).with_name("lowrank_golden.json").write_text(json.dumps(golden, indent=2) + "\n")
