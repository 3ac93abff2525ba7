"""Make ggml_golden.json: rows quantized by the `gguf` Python package, which follows ggml's reference quantizers.

python3 tests/adapters/make_ggml_golden.py > tests/adapters/ggml_golden.json && deno fmt tests/adapters/ggml_golden.json

Made with gguf 0.19.0 and numpy 2.4.6.
"""
import json

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

random = np.random.default_rng(7)
rows = {
    "normal": random.normal(size=64),
    "outlier": np.concatenate([random.normal(size=31), [40.0], random.normal(size=31) * 1e-3, [-9.0]]),
    "zero": np.zeros(32),
    "tiny": random.normal(size=32) * 1e-6,
    "ties": np.concatenate([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -126.5], np.zeros(25)]),
    "negative-extreme": np.concatenate([[-8.0, 7.5, 8.0, 0.5, -0.5], np.linspace(-7, 7, 27)]),
}
out = {}
for name, row in rows.items():
    x = row.astype(np.float32)
    entry = {"row": x.tolist()}
    for kind in ("Q8_0", "Q4_0"):
        quantized = quantize(x, GGMLQuantizationType[kind])
        entry[kind.lower()] = {
            "bytes": quantized.tobytes().hex(),
            "values": dequantize(quantized, GGMLQuantizationType[kind]).tolist(),
        }
    out[name] = entry
print(json.dumps(out))
