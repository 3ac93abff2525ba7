"""Make kivi_golden.json: KIVI's quantizer (quant/new_pack.py) in binary16 arithmetic, operation by operation, in numpy. All arrays as
little-endian bytes in hexadecimal.

python3 tests/recipes/make_kivi_golden.py > tests/recipes/kivi_golden.json && deno fmt tests/recipes/kivi_golden.json

Made with numpy 2.4.6.
"""
import json

import numpy as np

TOKENS, DIM, GROUP = 64, 64, 32


def quantize(groups, bits):
    """Groups along the last axis: codes, scale, zero, all as the authors' code has them in half precision."""
    low = groups.min(axis=-1, keepdims=True)
    high = groups.max(axis=-1, keepdims=True)
    scale = ((high - low) / np.float16(2**bits - 1)).astype(np.float16)
    shifted = (groups - low).astype(np.float16)
    codes = np.round(np.clip((shifted / scale).astype(np.float16), 0, 2**bits - 1))
    return codes.astype(np.uint8), scale[..., 0], low[..., 0]


random = np.random.default_rng(11)
x = random.normal(size=(TOKENS, DIM)) * np.exp(random.normal(size=DIM)) + random.normal(size=DIM)
x = x.astype(np.float16)
out = {"x": x.tobytes().hex()}
for bits in (2, 4):
    # Keys: channels over 32 tokens, [token groups][dim][32].
    keys = x.reshape(TOKENS // GROUP, GROUP, DIM).transpose(0, 2, 1)
    codes, scale, zero = quantize(keys, bits)
    key = {"codes": np.ascontiguousarray(codes.transpose(0, 2, 1)).tobytes().hex()}
    # Values: tokens over 32 channels.
    values = x.reshape(TOKENS, DIM // GROUP, GROUP)
    vcodes, vscale, vzero = quantize(values, bits)
    value = {"codes": vcodes.tobytes().hex()}
    for entry, s, z in ((key, scale, zero), (value, vscale, vzero)):
        entry["scale"] = np.ascontiguousarray(s).tobytes().hex()
        entry["zero"] = np.ascontiguousarray(z).tobytes().hex()
    out[str(bits)] = {"key": key, "value": value}
print(json.dumps(out))
