"""Golden streams of the entropy coder, by an implementation of its own that follows docs/format.md only:
`python3 tests/stages/make_rans_golden.py > tests/stages/rans_golden.json`. Arrays are little-endian, in hexadecimal."""
import json
import random
import struct

NEXT = [0, 4, 5, 1, 6, 2, 3, 7, 1, 5, 4, 0, 7, 3, 2, 6]


def frequencies(rng, bits, spread):
    """A random table that sums to 2^bits; with spread 0 one symbol has it all."""
    if spread == 0:
        return [0] * 3 + [1 << bits] + [0] * 252
    table = [0] * 256
    for _ in range(1 << bits):
        k = round(rng.gauss(0, spread))
        table[min(253, 2 * k - 1 if k > 0 else -2 * k)] += 1
    for escape in (254, 255):
        donor = max(range(256), key=table.__getitem__)
        table[donor] -= 1
        table[escape] = 1
    return table


def leb128(value):
    out = bytearray()
    while True:
        out.append(value & 127 | (128 if value > 127 else 0))
        value >>= 7
        if value == 0:
            return bytes(out)


def tables_of(case, row, state):
    if case["variant"] == "plain":
        return [case["tableOf"][row]] * case["tokens"]
    classes = case["classes"][16 * row:16 * row + 16]
    return [2 * classes[kind] + (s >> 2) for kind, s in zip(case["kinds"], state)]


def code(case, levels):
    """Symbols, tables of the symbols, and escapes of the levels."""
    symbols, tables, escapes = [], [], b""
    state = [0] * case["tokens"]
    for row in range(case["rows"]):
        now = tables_of(case, row, state)
        for t, table in enumerate(now):
            k = levels[row * case["tokens"] + t]
            z = 2 * k - 1 if k > 0 else -2 * k
            if z >= case["limits"][table]:
                escapes += leb128(z - case["limits"][table])
                z = 254 if k % 2 else 255
            symbols.append(z)
            state[t] = NEXT[2 * state[t] + k % 2]
        tables += now
    return symbols, tables, escapes


def rans(case, symbols, tables):
    states, words = [1 << 16] * min(32, case["tokens"]), []
    for i in reversed(range(len(symbols))):
        lane = i % case["tokens"] % 32
        table = case["frequencies"][tables[i]]
        f, start, x = table[symbols[i]], sum(table[:symbols[i]]), states[lane]
        if x >= f << (32 - case["bits"]):
            words.insert(0, x & 0xFFFF)
            x >>= 16
        states[lane] = (x // f << case["bits"]) + start + x % f
    return struct.pack(f"<{len(states)}I", *states) + struct.pack(f"<{len(words)}H", *words)


def make(seed, bits, rows, tokens, variant, spreads, scale):
    rng = random.Random(seed)
    count = len(spreads)
    case = {"variant": variant, "bits": bits, "rows": rows, "tokens": tokens}
    case["frequencies"] = [frequencies(rng, bits, spread) for spread in spreads]
    # The first code without a frequency; where there is one symbol only, the code after it.
    case["limits"] = [table.index(0) or 4 for table in case["frequencies"]]
    if variant == "plain":
        case["tableOf"] = [rng.randrange(count) for _ in range(rows)]
    else:
        case["classes"] = [rng.randrange(count // 2) for _ in range(16 * rows)]
        case["kinds"] = [rng.randrange(16) for _ in range(tokens)]
        case["next"] = NEXT
    levels = [round(rng.gauss(0, scale)) for _ in range(rows * tokens)]
    if scale > 0:
        for i, k in enumerate([2**24, -(2**24), 300, -301]):
            levels[7 * i + 1] = k
    else:
        levels = [2] * len(levels)
    symbols, tables, escapes = code(case, levels)
    stream = rans(case, symbols, tables)
    flat = [f for table in case["frequencies"] for f in table]
    fields = {"frequencies": ("H", flat), "limits": ("B", case["limits"])}
    for name, form in {"tableOf": "H", "classes": "B", "kinds": "B", "next": "B"}.items():
        if name in case:
            fields[name] = (form, case[name])
    fields |= {"levels": ("i", levels), "symbols": ("B", symbols), "escapes": ("B", escapes), "stream": ("B", stream)}
    arrays = {name: struct.pack(f"<{len(values)}{form}", *values).hex() for name, (form, values) in fields.items()}
    return {**{name: case[name] for name in ("variant", "bits", "rows", "tokens")}, **arrays}


print(json.dumps([
    make(1, 11, 4, 64, "plain", [1.5, 6], 3),
    make(2, 12, 3, 77, "plain", [1.5, 20], 9),
    make(3, 12, 2, 33, "plain", [0], 0),
    make(4, 11, 5, 70, "trellis", [0.7, 0.7, 2, 2, 8, 8], 3),
    make(5, 12, 9, 20, "trellis", [1, 1, 5, 5], 2),
], indent=2))
