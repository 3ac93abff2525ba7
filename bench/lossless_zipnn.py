"""ZipNN (PyPI, arXiv 2411.05239) on a file of plain elements, one thread. Prints one JSON object.

python3 bench/lossless_zipnn.py FILE f16|bf16|f32 RUNS
"""

import json
import sys
import time

import zipnn

path, dtype, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
name = {"f16": "float16", "bf16": "bfloat16", "f32": "float32"}[dtype]
with open(path, "rb") as file:
    data = file.read()
coder = zipnn.ZipNN(bytearray_dtype=name, threads=1)
compress = restore = float("inf")
for _ in range(runs):
    # It works in place.
    source = bytearray(data)
    begin = time.perf_counter()
    packed = coder.compress(source)
    between = time.perf_counter()
    restored = coder.decompress(packed)
    restore = min(restore, time.perf_counter() - between)
    compress = min(compress, between - begin)
    if bytes(restored) != data:
        sys.exit("ZipNN does not restore the elements")
print(json.dumps({"bytes": len(packed), "compress": 1000 * compress, "restore": 1000 * restore}))
