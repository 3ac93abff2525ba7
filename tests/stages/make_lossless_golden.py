"""Golden chunks of recipe lossless, by an encoder of its own that follows docs/format.md only. It takes whatever codes of
rows it is given, so that decoders are tested on more than what kvz's encoder would choose:
`python3 tests/stages/make_lossless_golden.py > tests/stages/lossless_golden.json`. Arrays in hexadecimal."""
import json
import random
import struct

COSINES = [65536, 64277, 60547, 54491, 46341, 36410, 25080, 12785, 0]
QUARTERS = [65536, 77936, 92682, 110218]
WIDTH = {"f16": 2, "bf16": 2, "f32": 4}


def cosine(j):
    j %= 32
    j = min(j, 32 - j)
    return COSINES[j] if j <= 8 else -COSINES[16 - j]


def octaves(k):
    return QUARTERS[k % 4] * 2 ** (k // 4)


def elements(rng, dtype, count):
    """Bits of elements: mostly like a cache's, some with any bits."""
    out = []
    for _ in range(count):
        value = rng.gauss(0, 1) * 2 ** rng.randint(-3, 3)
        f32 = struct.unpack("<I", struct.pack("<f", value))[0]
        bits = f32 if dtype == "f32" else f32 >> 16
        if dtype == "f16":
            bits = struct.unpack("<H", struct.pack("<e", value))[0]
        out.append(rng.getrandbits(8 * WIDTH[dtype]) if rng.random() < 0.05 else bits)
    return out


def split(x, dtype, base):
    """Symbol, five-bit rest, lower bytes from the highest, exponent apart or None."""
    if dtype == "f16":
        return x >> 8, 0, [x & 255], None
    high, lower = (x, []) if dtype == "bf16" else (x >> 16, [x >> 8 & 255, x & 255])
    field = high >> 7 & 255
    e = field - base if 1 <= field - base <= 31 else 0
    return high >> 15 << 7 | e << 2 | high >> 5 & 3, high & 31, lower, None if e else field


def five(rests):
    out = bytearray((len(rests) + 1) // 2 + (len(rests) + 7) // 8)
    for i, rest in enumerate(rests):
        out[i // 2] |= (rest & 15) << 4 * (i % 2)
        out[(len(rests) + 1) // 2 + i // 8] |= (rest >> 4) << i % 8
    return bytes(out)


def table(counts):
    """Any table that has all the symbols."""
    f = [0] * 256
    for s in counts:
        f[s] = 1
    f[max(counts, key=counts.get)] += 4096 - sum(f)
    return f


def pack(f):
    out, s = bytearray(), 0
    while s < 256:
        out += bytes([f[s]]) if f[s] < 128 else bytes([128 | f[s] & 127, f[s] >> 7])
        s += 1
        if f[s - 1] == 0:
            zeros = 0
            while s < 256 and f[s] == 0:
                zeros, s = zeros + 1, s + 1
            out.append(zeros)
    return bytes(out)


def rans(rows, tables):
    """rows: symbols of each row; tables: the table of each symbol."""
    tokens = len(rows[0])
    states, words = [1 << 16] * min(32, tokens), []
    for row, chosen in reversed(list(zip(rows, tables))):
        for t in reversed(range(tokens)):
            f, start, x = chosen[t][row[t]], sum(chosen[t][:row[t]]), states[t % 32]
            if x >= f << 20:
                words.insert(0, x & 0xFFFF)
                x >>= 16
            states[t % 32] = (x // f << 12) + start + x % f
    return struct.pack(f"<{len(states)}I", *states) + struct.pack(f"<{len(words)}H", *words)


def make(seed, dtype, mode, blocks, dim, tokens, turns, first, coded_planes):
    rng = random.Random(seed)
    pairs, n = len(turns), tokens * dim
    data = elements(rng, dtype, blocks * n)
    base = 0 if dtype == "f16" else 110

    order = [(b, i + h * pairs) for i in range(pairs) for b in range(blocks) for h in (0, 1)]
    order += [(b, i) for b in range(blocks) for i in range(2 * pairs, dim)]
    parts = [split(x, dtype, base) for x in data]
    symbols = [[parts[(b * tokens + t) * dim + i][0] for t in range(tokens)] for b, i in order]

    planes = []
    if dtype != "f16":
        planes.append(b"".join(five([p[1] for p in parts[b * n:b * n + n]]) for b in range(blocks)))
    planes += [bytes(p[2][k] for p in parts) for k in range(len(parts[0][2]))]
    apart = [[p[3] for p in parts[b * n:b * n + n] if p[3] is not None] for b in range(blocks)]
    escapes = b""
    if any(apart):
        escapes = struct.pack(f"<{blocks}I", *map(len, apart)) + bytes(e for block in apart for e in block)

    phases = [[(first + t) * turn % 2 ** 32 >> 28 for t in range(tokens)] for turn in turns]
    groups = []  # [rows, phases]
    for pair in range(pairs):
        if groups and groups[-1][1] == phases[pair]:
            groups[-1][0] += 2 * blocks
        else:
            groups.append([2 * blocks, phases[pair]])
    if 2 * pairs < dim:
        groups.append([blocks * (dim - 2 * pairs), None])

    contexts, stored = bytearray([mode, base, sum(1 << i for i in coded_planes)]), b"".join(map(bytes, symbols))
    if mode > 0:
        if mode == 1:
            of_block = [rng.randrange(64) for _ in range(blocks)]
            scales, means = [of_block[b] for b, _ in order], [0] * len(order)
            contexts += bytes(of_block)
        else:
            scales = [rng.randrange(28, 40) for _ in order]
            means = [rng.randrange(32) + 128 * rng.randrange(2) for _ in order]
            for row in range(0, 2 * blocks * pairs, 2):
                means[row:row + 2] = [rng.randrange(256), rng.randrange(32)]
            contexts += bytes(scales) + bytes(means)
        mapped, classes, at = [], [], 0
        for count, kinds in groups:
            for row in range(at, at + count):
                chosen, out = [], []
                for t in range(tokens):
                    if kinds is None:
                        bin, flip = means[row] & 127, means[row] > 127
                    else:
                        pair, half = row & ~1, row & 1
                        c = cosine(means[pair + 1] + 2 * kinds[t] + 1 - 8 * half)
                        q = octaves(scales[row ^ 1] - scales[row])
                        bin = min(31, (2 * means[pair] * q * abs(c) + 2 ** 32) // 2 ** 33)
                        flip = c < 0
                    s = symbols[row][t]
                    chosen.append(32 * (scales[row] % 2) + bin)
                    out.append((s & 128 ^ 128 * flip) | (s - 4 * (scales[row] // 2)) & 127)
                classes.append(chosen)
                mapped.append(out)
            at += count
        counts = {}
        for row, chosen in zip(mapped, classes):
            for s, c in zip(row, chosen):
                counts.setdefault(c, {}).setdefault(s, 0)
                counts[c][s] += 1
        tables = {c: table(counts[c]) for c in counts}
        contexts += bytes(sum(1 << k for k in range(8) if 8 * i + k in tables) for i in range(8))
        for c in sorted(tables):
            contexts += pack(tables[c])
        streams, at = [], 0
        for count, _ in groups:
            rows = range(at, at + count)
            streams.append(rans([mapped[r] for r in rows], [[tables[c] for c in classes[r]] for r in rows]))
            at += count
        contexts += b"".join(struct.pack("<I", len(stream)) for stream in streams)
        stored = b"".join(streams)
    for i in coded_planes:
        f = table({s: planes[i].count(s) for s in set(planes[i])})
        planes[i] = rans([planes[i]], [[f] * len(planes[i])])
        contexts += pack(f) + struct.pack("<I", len(planes[i]))
    return {
        "dtype": dtype, "blocks": blocks, "dim": dim, "tokens": tokens, "turns": turns, "first": first,
        "elements": b"".join(x.to_bytes(WIDTH[dtype], "little") for x in data).hex(),
        "contexts": contexts.hex(), "symbols": stored.hex(), "planes": b"".join(planes).hex(), "escapes": escapes.hex(),
    }


CASES = [
    (1, "f16", 2, 2, 6, 40, [683565276, 21616232], 0, []),
    (2, "f16", 1, 3, 5, 17, [], 0, [0]),
    (3, "f16", 0, 1, 4, 3, [683565276], 9, []),
    (4, "bf16", 2, 2, 5, 35, [683565276, 40000], 2000000000, []),
    (5, "bf16", 0, 2, 3, 7, [], 0, [0]),
    (6, "f32", 2, 2, 4, 33, [100000], 100, [2]),
    (7, "f32", 1, 1, 7, 9, [4294967295], 3, [0, 1]),
]
print(json.dumps([make(*case) for case in CASES], indent=1))
