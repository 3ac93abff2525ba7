"""
Writes kvpress_golden.json: what kvpress keeps of small random inputs.

    pip install kvpress==0.5.5 torch==2.14.1
    python tests/evict/make_kvpress_golden.py

Every decision is taken by kvpress's own `compress`: values carry the index of their token, so that what is kept can be
read off. Inputs where a decision hangs on rounding (a gap below 1e-4 of the score) are refused.
"""

import base64
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from kvpress import PyramidKVPress, SnapKVPress, StreamingLLMPress, ThinKPress
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

LAYERS, HEADS, KV_HEADS, DIM, TOKENS = 4, 4, 2, 8, 72
HIDDEN = HEADS * DIM


def packed(tensor: torch.Tensor) -> str:
    return base64.b64encode(tensor.detach().numpy().astype("<f4").tobytes()).decode()


def indices(press, layer) -> list[list[int]]:
    """Tokens that each KV head keeps, rising."""
    values = torch.arange(TOKENS, dtype=torch.float32)[None, None, :, None].expand(1, KV_HEADS, TOKENS, DIM).clone()
    _, kept = press.compress(layer.module, layer.hidden, layer.keys.clone(), values, None, layer.kwargs)
    return [sorted(int(x) for x in head[:, 0]) for head in kept[0]]


def check_gap(press, layer, kept: int) -> None:
    scores = press.score(layer.module, layer.hidden, layer.keys, layer.keys, None, layer.kwargs)[0]
    for head in scores:
        ranked = torch.sort(head, descending=True).values
        assert ranked[kept - 1] - ranked[kept] > 1e-4 * ranked[kept], "a tie"


def main() -> None:
    torch.manual_seed(20)
    config = LlamaConfig(
        hidden_size=HIDDEN, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, num_hidden_layers=LAYERS,
        head_dim=DIM, attn_implementation="eager",
    )
    rotary = LlamaRotaryEmbedding(config)
    layers = []
    for n in range(LAYERS):
        module = LlamaAttention(config, n)
        torch.nn.init.normal_(module.q_proj.weight, std=0.5)
        hidden = torch.randn(1, TOKENS, HIDDEN)
        cos_sin = rotary(hidden, torch.arange(TOKENS)[None])
        kwargs = {"position_embeddings": cos_sin, "hidden_states": hidden}
        keys = torch.randn(1, KV_HEADS, TOKENS, DIM) * torch.linspace(0.4, 1.6, DIM)
        queries = ThinKPress(window_size=TOKENS).compute_window_queries(module, hidden, cos_sin)
        layers.append(SimpleNamespace(module=module, hidden=hidden, keys=keys, kwargs=kwargs, queries=queries))

    cases = []
    for window, kernel, keep in [(8, 5, 0.5), (4, 3, 0.25), (16, 7, 0.375)]:
        press = SnapKVPress(compression_ratio=1 - keep, window_size=window, kernel_size=kernel)
        for layer in layers:
            check_gap(press, layer, int(TOKENS * keep))
        cases.append({
            "recipe": "snapkv", "options": {"window": window, "kernel": kernel, "keep": keep},
            "kept": [indices(press, layer) for layer in layers],
        })
    for window, beta, keep in [(4, 2, 0.5), (4, 4, 0.5), (8, 20, 0.25)]:
        press = PyramidKVPress(compression_ratio=1 - keep, window_size=window, kernel_size=5, beta=beta)
        for layer in layers:
            check_gap(press, layer, press.get_layer_budget(layer.module, TOKENS))
        cases.append({
            "recipe": "pyramidkv", "options": {"window": window, "beta": beta, "keep": keep, "budgets": "kvpress"},
            "kept": [indices(press, layer) for layer in layers],
        })
    for keep, sinks in [(0.25, 4), (0.5, 1)]:
        press = StreamingLLMPress(compression_ratio=1 - keep, n_sink=sinks)
        cases.append({
            "recipe": "streamingllm", "options": {"keep": keep, "sinks": sinks},
            "kept": [indices(press, layer) for layer in layers],
        })
    # H2O is not in kvpress: its score by PyTorch, attention of all queries summed over queries and group.
    keep = 0.25
    count = int(TOKENS * keep)
    kept = []
    for layer in layers:
        heads = []
        for head in range(KV_HEADS):
            group = layer.queries[0, head * 2:head * 2 + 2].double()
            scores = group @ layer.keys[0, head].double().T / DIM**0.5
            mask = torch.full((TOKENS, TOKENS), float("-inf"), dtype=torch.float64).triu(1)
            sums = torch.softmax(scores + mask, -1).sum((0, 1))
            recent = count // 2
            chosen = torch.topk(sums[:TOKENS - recent], count - recent).indices.tolist()
            heads.append(sorted(chosen) + list(range(TOKENS - recent, TOKENS)))
        kept.append(heads)
    cases.append({"recipe": "h2o", "options": {"keep": keep}, "kept": kept})

    channels = []
    for prune, window in [(0.4, 32), (0.5, 8)]:
        press = ThinKPress(key_channel_compression_ratio=prune, window_size=window)
        kept = []
        for layer in layers:
            keys, _ = press.compress(
                layer.module, layer.hidden, layer.keys.clone(), layer.keys.clone(), None, layer.kwargs)
            kept.append([[j for j in range(DIM) if bool((head[:, j] != 0).any())] for head in keys[0]])
        channels.append({"options": {"prune": prune, "queries": window, "recent": 0}, "kept": kept})

    budgets = []
    for n in (1, 2, 30):
        for tokens in (100, 777, 4096):
            for keep in (0.125, 0.25, 0.5, 0.9):
                for window, beta in ((64, 20), (32, 20), (8, 3), (16, 1)):
                    press = PyramidKVPress(compression_ratio=1 - keep, window_size=window, beta=beta)
                    of = lambda i: SimpleNamespace(config=SimpleNamespace(num_hidden_layers=n), layer_idx=i)
                    found = [press.get_layer_budget(of(i), tokens) for i in range(n)]
                    budgets.append([n, tokens, window, beta, keep, found])

    golden = {
        "model": {"layers": LAYERS, "kvHeads": KV_HEADS, "keyDim": DIM, "tokens": TOKENS, "heads": HEADS},
        "keys": [packed(layer.keys[0]) for layer in layers],
        "queries": [packed(layer.queries[0]) for layer in layers],
        "cases": cases,
        "channels": channels,
        "budgets": budgets,
    }
    Path(__file__).with_name("kvpress_golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


main()
