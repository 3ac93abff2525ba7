"""Make mlx_golden.json: prompt caches saved by mlx-lm itself, one for each layout of the file.

pip install 'mlx[cpu]==0.32.4' mlx-lm==0.31.3 && python3 tests/adapters/make_mlx_golden.py >old
pip install mlx-lm==0.32.2 && python3 tests/adapters/make_mlx_golden.py >new
jq -s add old new >tests/adapters/mlx_golden.json

With the name of a file, print what mlx-lm loads from it instead.
"""
import base64
import json
import os
import sys
import tempfile

import mlx.core as mx
import mlx_lm
from mlx_lm.models import cache as mlx_cache

KVCache = mlx_cache.KVCache
TOKENS, HEADS, KEY, VALUE = 5, 2, 4, 2


def element(layer, kind, head, token, i):
    """Exact in all types: the test computes the same."""
    return layer * 64 + (32 if kind == "value" else 0) + head * 16 + token * 2 + i * 0.25


def tensor(layer, kind, dim, begin, end, dtype):
    rows = [[[element(layer, kind, h, t, i) for i in range(dim)] for t in range(begin, end)] for h in range(HEADS)]
    return mx.array([rows]).astype(dtype)


def dump(path):
    layers, metadata = mlx_cache.load_prompt_cache(path, return_metadata=True)
    out = []
    for layer in layers:
        # What attention gets when one more token of ones is added, and the position that token has.
        offset = layer.offset
        keys, values = layer.keys[..., :offset, :], layer.values[..., :offset, :]
        ones = mx.ones((1, keys.shape[1], 1, keys.shape[3]), keys.dtype)
        more = layer.update_and_fetch(ones, mx.ones((1, keys.shape[1], 1, values.shape[3]), keys.dtype))
        out.append({
            "class": type(layer).__name__,
            "dtype": str(keys.dtype),
            "offset": offset,
            "keys": keys.astype(mx.float32).tolist(),
            "values": values.astype(mx.float32).tolist(),
            "next": [list(tensor.shape) for tensor in more] + [layer.offset],
        })
    return {"metadata": metadata, "layers": out}


if len(sys.argv) > 1:
    print(json.dumps(dump(sys.argv[1])))
    sys.exit()

for cls in (KVCache, mlx_cache.QuantizedKVCache, mlx_cache.RotatingKVCache):
    cls.step = 4  # Small files in which there is room for more tokens all the same.
files = {}
with tempfile.TemporaryDirectory() as folder:
    for name, dtype in [("f16", mx.float16), ("bf16", mx.bfloat16), ("f32", mx.float32)]:
        layers = [KVCache() for _ in range(2)]
        for begin, end in [(0, 3), (3, TOKENS)]:
            for i, layer in enumerate(layers):
                layer.update_and_fetch(
                    tensor(i, "key", KEY, begin, end, dtype), tensor(i, "value", VALUE, begin, end, dtype)
                )
        path = os.path.join(folder, f"{name}.safetensors")
        metadata = {} if name == "f32" else {"model": "org/model", "tokenizer_config": "{}"}
        mlx_cache.save_prompt_cache(path, layers, metadata)
        files[name] = base64.b64encode(open(path, "rb").read()).decode()
    others = {
        "quantized": mlx_cache.QuantizedKVCache(group_size=32, bits=8),
        "rotating": mlx_cache.RotatingKVCache(max_size=8, keep=2),
    }
    for name, layer in others.items():
        layer.update_and_fetch(mx.ones((1, 1, 2, 32)), mx.ones((1, 1, 2, 32)))
        path = os.path.join(folder, f"{name}.safetensors")
        mlx_cache.save_prompt_cache(path, [layer], {})
        files[name] = base64.b64encode(open(path, "rb").read()).decode()
print(json.dumps({mlx_lm.__version__: files}))
