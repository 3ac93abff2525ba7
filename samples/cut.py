"""Cut the first tokens out of a .safetensors cache: same tensors, same metadata, fewer tokens.

python3 samples/cut.py IN.safetensors OUT.safetensors TOKENS

Needs nothing beyond Python. `samples/smollm2-256.safetensors` is 256 tokens of a cache dumped from the WikiText-2
validation text (see README.md here).
"""
import json
import math
import struct
import sys

source, target, tokens = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open(source, "rb") as file:
    data = file.read()
length = struct.unpack_from("<Q", data)[0]
header = json.loads(data[8 : 8 + length])
body = memoryview(data)[8 + length :]
out_header: dict = {"__metadata__": header.pop("__metadata__")}
parts: list[bytes] = []
offset = 0
for name, info in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
    begin, end = info["data_offsets"]
    shape = info["shape"]
    axis = 1 if name == "input_ids" else 2  # input_ids [1, T], caches [1, heads, T, dim]
    if shape[axis] < tokens:
        raise SystemExit(f"Cannot cut {name}: it has {shape[axis]} tokens, wanted {tokens}")
    blocks = math.prod(shape[:axis])
    step = (end - begin) // blocks
    kept = step // shape[axis] * tokens
    part = b"".join(body[begin + i * step : begin + i * step + kept] for i in range(blocks))
    out_header[name] = {
        "dtype": info["dtype"],
        "shape": [*shape[:axis], tokens, *shape[axis + 1 :]],
        "data_offsets": [offset, offset + len(part)],
    }
    offset += len(part)
    parts.append(part)
text = json.dumps(out_header, separators=(",", ":")).encode()
text += b" " * (-len(text) % 8)
with open(target, "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text + b"".join(parts))
