"""Golden vectors of the kernels that make_golden.py leaves out, from NumPy and ml_dtypes, by code of its own that follows
the definitions in words: python3 tests/backend/make_kernel_golden.py | deno fmt --ext json - >
tests/backend/kernel_golden.json. Arrays are little-endian, in Base64."""
import base64
import heapq
import json
import math
import ml_dtypes
import numpy as np

F16, F32, F64 = np.float16, np.float32, np.float64
TYPES = {"f32": F32, "f16": F16, "bf16": ml_dtypes.bfloat16}
rng = np.random.default_rng(11)


def text(array):
    array = np.ascontiguousarray(array)
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()


def padded(rows):
    """Rows with zeros up to a multiple of 8 columns."""
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % 8)))


def floats(*shape, scale=1.0):
    return (rng.standard_normal(shape) * scale).astype(F32)


# Layout: every product, difference and sum of binary32 rounded by itself.


def rotation(positions, theta, dim, sign):
    """[tokens][2][dim / 2]: cosines, then sines."""
    angles = np.array(positions, F64)[:, None] * F64(theta) ** (-np.arange(0, dim, 2) / F64(dim))
    return np.stack([np.cos(angles), sign * np.sin(angles)], 1).astype(F32)


def turned(x, table):
    """Half-split pairs of the leading elements of [blocks][tokens][dim], turned by each token's angles."""
    half = table.shape[2]
    c, s = table[None, :, 0], table[None, :, 1]
    a, b, rest = x[..., :half], x[..., half:2 * half], x[..., 2 * half:]
    return np.concatenate([a * c - b * s, b * c + a * s, rest], -1)


def layout(dtype, blocks, positions, dim, rotary, theta, centred):
    tokens = len(positions)
    source = floats(blocks, tokens, dim, scale=3)
    # Numbers that are subnormal in binary16, and both zeros.
    source[0, 0, :6] = [0, -0.0, 2.0**-24, -3 * 2.0**-22, 1e-5, 6e-5]
    source = source.astype(TYPES[dtype])
    mean = floats(blocks, dim) if centred else None
    undo = rotation(positions, theta, rotary, -1) if rotary else None
    redo = rotation(positions, theta, rotary, 1) if rotary else None
    x = source.astype(F32)
    x = turned(x, undo) if rotary else x
    x = x - mean[:, None] if centred else x
    gathered = padded(x.transpose(1, 0, 2).reshape(tokens, -1))
    rows = floats(tokens, blocks * dim, scale=3)
    # Beyond binary16, and in the middle between two of its numbers.
    rows[-1, -4:] = [1e5, -65520, 1 + 2.0**-11, 1 + 3 * 2.0**-11]
    y = rows.reshape(tokens, blocks, dim).transpose(1, 0, 2)
    y = y + mean[:, None] if centred else y
    y = turned(y, redo) if rotary else y
    with np.errstate(over="ignore"):
        scattered = y.astype(TYPES[dtype])
    optional = lambda array: None if array is None else text(array)
    return dict(dtype=dtype, blocks=blocks, positions=positions, dim=dim, rotaryDim=rotary, theta=theta,
                source=text(source), undo=optional(undo), redo=optional(redo), mean=optional(mean),
                gathered=text(gathered), rows=text(padded(rows)), scattered=text(scattered))


def product(tokens, components, features, leading):
    """Both products in binary64, with Σ |x||b| that their bounds are made of."""
    basis = (rng.standard_normal((components, features)) * 0.1).astype(F16)
    basis[0, :3] = [0, 2.0**-24, -1]
    b = basis.astype(F64)
    x, y = floats(tokens, features, scale=3), floats(tokens, components, scale=5)
    both = lambda a, b: dict(result=text(a.astype(F64) @ b), weight=text(np.abs(a.astype(F64)) @ np.abs(b)))
    return dict(tokens=tokens, components=components, features=features, leading=leading, basis=text(basis),
                x=text(padded(x)), projected=both(x, b.T), y=text(padded(y)), reconstructed=both(y, b))


def dense(rows, widths, slope):
    """Layers with biases; negative results of all but the last times the slope."""
    x = floats(rows, widths[0])
    layers, y = [], x
    for i, (inputs, outputs) in enumerate(zip(widths, widths[1:])):
        weights, bias = floats(inputs, outputs, scale=0.3), floats(outputs)
        sums = np.zeros((rows, outputs), F32)
        for k in range(inputs):
            sums = sums + y[:, k:k + 1] * weights[k]
        sums = sums + bias
        own = F32(slope) if i + 2 < len(widths) else F32(1)
        y = np.where(sums < 0, sums * own, sums)
        layers.append(dict(inputs=inputs, outputs=outputs, weights=text(weights), bias=text(bias), slope=float(own)))
    return dict(rows=rows, x=text(x), layers=layers, result=text(y))


def walsh(x):
    """The unscaled transform of the last axis: of both halves first, then their sums and differences."""
    n = x.shape[-1]
    if n == 1:
        return x
    a, b = walsh(x[..., :n // 2]), walsh(x[..., n // 2:])
    return np.concatenate([a + b, a - b], -1)


def rotated(x):
    return walsh(x) * F32(1 / math.sqrt(x.shape[-1]))


def groups(outer, length, inner, group, bits, least, rotate):
    x = floats(outer, length, inner) * np.exp2(rng.integers(-6, 7, (outer, 1, inner))).astype(F32)
    x[-1, :, 0] = 1.5  # no range
    top = F32((1 << bits) - 1)
    values = rotated(x[..., 0])[..., None] if rotate else x
    codes, params, back = np.zeros(x.shape, np.uint8), [], np.zeros(x.shape, F32)
    for o in range(outer):
        for first in range(0, length, group):
            part = values[o, first:first + group]
            low, high = part.min(0), part.max(0)
            span = F32(F16(high - low))
            scale, zero = F16(np.maximum(span, F32(least)) / top), F16(low + F32(0))
            params.append(np.stack([scale, zero], -1))
            s, z = scale.astype(F32), zero.astype(F32)
            with np.errstate(all="ignore"):
                found = np.rint(np.clip((part - z) / s, 0, top))
            codes[o, first:first + group] = np.where(s == 0, 0, found)
            back[o, first:first + group] = s * codes[o, first:first + group].astype(F32) + z
    restored = rotated(back[..., 0])[..., None] if rotate else back
    return dict(outer=outer, length=length, inner=inner, group=group, bits=bits, leastRange=least, rotated=rotate,
                x=text(x), codes=text(codes), params=text(np.array(params)), restored=text(restored))


def ggml(blocks):
    """Blocks of 32 as quantize_row_q8_0_ref and quantize_row_q4_0_ref of ggml-quants.c make them."""
    x = floats(blocks, 32) * np.exp2(rng.integers(-20, 12, (blocks, 1))).astype(F32)
    x[0] = 0
    x[1] = np.arange(-16, 16)
    x[2, ::2] = 0
    coded = {"q8_0": b"", "q4_0": b""}
    back = {"q8_0": [], "q4_0": []}
    one = F32(1)
    for block in x:
        d = np.abs(block).max() / F32(127)
        scaled = block * (one / d if d else F32(0))
        q = (np.sign(scaled) * np.floor(np.abs(scaled.astype(F64)) + 0.5)).astype(np.int8)
        coded["q8_0"] += F16(d).tobytes() + q.tobytes()
        back["q8_0"].append(F32(F16(d)) * q.astype(F32))
        d = block[np.abs(block).argmax()] / F32(-8)
        q = np.minimum(15, (block * (one / d if d else F32(0)) + F32(8.5)).astype(np.int8)).astype(np.uint8)
        coded["q4_0"] += F16(d).tobytes() + (q[:16] | q[16:] << 4).tobytes()
        back["q4_0"].append(F32(F16(d)) * (q.astype(F32) - F32(8)))
    return dict(x=text(x), **{name: dict(coded=base64.b64encode(coded[name]).decode(),
                                         restored=text(np.array(back[name]))) for name in coded})


# Huffman's blocks, as docs/format.md lays them out.


def code_lengths(counts):
    """Huffman's own algorithm."""
    heap = [(count, [symbol]) for symbol, count in enumerate(counts)]
    heapq.heapify(heap)
    lengths = [0] * len(counts)
    while len(heap) > 1:
        a, b = heapq.heappop(heap), heapq.heappop(heap)
        for symbol in a[1] + b[1]:
            lengths[symbol] += 1
        heapq.heappush(heap, (a[0] + b[0], a[1] + b[1]))
    return lengths


def canonical(lengths):
    codes, code, last = {}, 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths)):
        code <<= length - last
        codes[symbol], last = format(code, f"0{length}b"), length
        code += 1
    return codes


def huffman(along, heads, tokens, dim, block_tokens, block_channels, alphabet, foreign, lanes):
    """One layer. The vectors of blocks go along channels or tokens."""
    symbols = np.minimum(alphabet - 1, rng.geometric(0.25, (heads, tokens, dim)) - 1).astype(np.uint8)
    counts = [1 + int((symbols == s).sum()) for s in range(alphabet)]
    lengths = code_lengths(counts[::-1] if foreign else counts)
    codes = canonical(lengths)
    parts = -(-dim // block_channels)
    length = min(dim, block_channels) if along == "channels" else block_tokens
    sets = tokens // block_tokens
    weights = rng.integers(-8, 9, (heads, sets, length, lanes)).astype(F32)
    stream, table, ends, dots = b"", b"", [], []
    for head in range(heads):
        for first in range(0, tokens, block_tokens):
            for part in range(parts):
                block = symbols[head, first:first + block_tokens, part * block_channels:(part + 1) * block_channels]
                vectors = block if along == "channels" else block.T
                coded = []
                for vector in vectors:
                    bits = "".join(codes[s] for s in vector.tolist())
                    pad = -len(bits) % 8
                    coded.append((int(bits + "0" * pad, 2).to_bytes((len(bits) + pad) // 8, "big"), pad))
                raw = sum(len(c) for c, _ in coded) > vectors.size
                if raw:
                    coded = [(vector.tobytes(), 0) for vector in vectors]
                data = b"".join(c for c, _ in coded)
                table += (len(stream).to_bytes(4, "little") + len(data).to_bytes(2, "little")
                          + int(raw).to_bytes(2, "little"))
                end = 0
                for c, pad in coded:
                    end += len(c)
                    ends.append((end - 1) * 8 + pad)
                stream += data
                if part == 0:
                    dots.append(vectors.astype(F64) @ weights[head, first // block_tokens].astype(F64))
    return dict(along=along, heads=heads, tokens=tokens, dim=dim, lanes=lanes, sets=sets, alphabet=alphabet,
                raw=sum(table[at] for at in range(6, len(table), 8)),
                symbols=text(symbols), lengths=text(np.array(lengths, np.uint8)), weights=text(weights),
                table=base64.b64encode(table).decode(), vectors=text(np.array(ends, np.uint16)),
                codes=base64.b64encode(stream).decode(), dots=text(np.array(dots).astype(F32)))


def histogram(rows, tokens, alphabet):
    symbols = rng.integers(0, min(256, alphabet + 3), (rows, tokens)).astype(np.uint8)
    counts = np.array([np.bincount(row, minlength=256)[:alphabet] for row in symbols], np.uint32)
    return dict(rows=rows, tokens=tokens, alphabet=alphabet, symbols=text(symbols), counts=text(counts))


def transpose(tokens, stride, rows, chunk):
    symbols = rng.integers(0, 256, (tokens, stride)).astype(np.uint8)
    parts = [symbols[at:at + chunk, :rows].T.tobytes() for at in range(0, tokens, chunk)]
    return dict(tokens=tokens, stride=stride, rows=rows, chunk=chunk, symbols=text(symbols),
                transposed=base64.b64encode(b"".join(parts)).decode())


print(json.dumps(dict(
    layout=[layout("f16", 3, [0, 1, 17, 1000, 131071], 16, 16, 1e4, True), layout("bf16", 2, [5, 900, 70000], 48, 32, 5e5, True),
            layout("f32", 2, [3, 4, 5], 10, 6, 1e4, True), layout("f16", 2, [2, 30], 10, 10, 1e6, False),
            layout("bf16", 3, [0, 0, 0], 8, 0, 1, True)],
    product=[product(5, 12, 40, 8), product(3, 33, 19, 33)],
    dense=[dense(9, [20, 12, 7], 0.01)],
    groups=[groups(2, 40, 8, 32, 4, 0, False), groups(6, 64, 1, 32, 2, 0, False), groups(4, 64, 1, 64, 4, 1e-5, True),
            groups(3, 16, 4, 16, 8, 0, False)],
    ggml=ggml(12),
    huffman=[huffman("channels", 2, 128, 20, 64, 128, 22, False, 1), huffman("tokens", 1, 128, 5, 128, 64, 9, False, 4),
             huffman("channels", 1, 128, 7, 64, 128, 40, True, 4)],
    histogram=[histogram(3, 70, 16), histogram(2, 33, 256)],
    transpose=[transpose(37, 12, 9, 16), transpose(64, 16, 16, 32)],
), indent=1))
