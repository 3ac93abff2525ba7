"""Decodes the golden files of recipe kvz by an implementation of its own that follows docs/format.md only, for kvz's decoder
to be compared with:

    python3 tests/codec/kvz_golden/decode.py > tests/codec/kvz_golden/restored.json

Integers are exact, what follows them is done in float32 operation by operation with numpy (made with 2.4). Of each file it
prints SHA-256 digests: of the levels of every chunk, i32 [components][tokens], and of the restored keys and values,
[layers][heads][tokens][dim] in the file's element type."""
import hashlib
import json
import math
import struct
import sys
import zlib
from decimal import Decimal, getcontext
from pathlib import Path

import numpy as np

getcontext().prec = 60
NEXT = [0, 4, 6, 2, 4, 0, 2, 6, 1, 5, 7, 3, 5, 1, 3, 7]
SINKS, WINDOW, FILE = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD
f32 = np.float32


# Framing

def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def read_frame(data, kind):
    """Header and records (tag, chunk, tokens, payload) in file order."""
    assert data[:8] == b"\x89KVZ" + kind + b"\r\n\x1a" and struct.unpack_from("<HH", data, 8) == (1, 0)
    at = 16 + struct.unpack_from("<I", data, 12)[0]
    assert struct.unpack_from("<I", data, at)[0] == crc32c(data[:at])
    header, records, entries = json.loads(data[16:at]), [], b""
    at += 4
    while True:
        fields = data[at:at + 36]
        assert struct.unpack_from("<I", data, at + 36)[0] == crc32c(fields)
        tag, chunk, tokens, codec, raw, stored, crc = struct.unpack("<4sIIB3xQQI", fields)
        payload = data[at + 40:at + 40 + stored]
        assert crc == crc32c(payload)
        if tag == b"INDX":
            assert payload == entries
            assert data[at + 40 + stored:-4] == struct.pack("<QQ", at, len(data)) + b"KVZE"
            return header, records
        entries += fields + struct.pack("<Q", at)
        if codec == 1:
            inflate = zlib.decompressobj(-15)
            payload = inflate.decompress(payload)
            assert inflate.eof and not inflate.unused_data
        assert len(payload) == raw
        records.append((tag.decode().rstrip(), chunk, tokens, payload))
        at += 40 + stored


# Entropy streams

def rans(stream, rows, tokens, bits, table_of, after=lambda t, s: None):
    """Symbols [rows][tokens]; table_of(row, t) gives the frequencies, after(t, s) is told of each symbol."""
    lanes = min(32, tokens) if rows else 0
    states = list(struct.unpack_from(f"<{lanes}I", stream))
    words = struct.unpack_from(f"<{(len(stream) - 4 * lanes) // 2}H", stream, 4 * lanes)
    assert len(stream) % 2 == 0 and all(x >= 1 << 16 for x in states)
    slots, used = {}, 0
    symbols = np.zeros((rows, tokens), np.uint8)
    for row in range(rows):
        for t in range(tokens):
            table = table_of(row, t)
            key = id(table)
            if key not in slots:
                assert sum(table) == 1 << bits
                slots[key] = [(s, sum(table[:s])) for s in range(256) for _ in range(table[s])]
            slot = states[t % 32] % (1 << bits)
            s, start = slots[key][slot]
            x = table[s] * (states[t % 32] >> bits) + slot - start
            if x < 1 << 16:
                x = x << 16 | words[used]
                used += 1
            states[t % 32] = x
            symbols[row, t] = s
            after(t, s)
    assert used == len(words) and all(x == 1 << 16 for x in states)
    return symbols


def unzigzag(z):
    return (z + 1) // 2 if z % 2 else -(z // 2)


def decode_levels(symbols, escapes, tables, table_of):
    """Levels [C][tokens]; table_of[c][t] is the table of each symbol."""
    levels, at = np.zeros(symbols.shape, np.int32), 0
    for c in range(symbols.shape[0]):
        for t in range(symbols.shape[1]):
            z, table = int(symbols[c, t]), tables[table_of[c, t]]
            limit = min(254, table.index(0) if 0 in table else 254)
            if z >= 254:
                odd, z, shift = z == 254, limit, 0
                while True:
                    byte = escapes[at]
                    at += 1
                    z += (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        break
                assert unzigzag(z) % 2 == odd and abs(unzigzag(z)) <= 1 << 24
            else:
                assert z < limit
            levels[c, t] = unzigzag(z)
    assert at == len(escapes)
    return levels


# Profile

def read_profile(path):
    header, records = read_frame(path.read_bytes(), b"P")
    assert header["method"] == "kvz"
    sections = {}
    for tag, chunk, _, payload in records:
        sections.setdefault(tag, {})[chunk] = payload
    array = lambda tag, form: np.frombuffer(b"".join(p for _, p in sorted(sections.get(tag, {}).items())), form)
    model, C, T = header["model"], header["components"], len(header["steps"])
    F = model["layers"] * model["kvHeads"] * (model["keyDim"] + model["valueDim"])
    basis_tables = [[int(f) for f in row] + [0] * 128 for row in array("BTAB", "<u2").reshape(-1, 128)]
    chosen = array("BCLS", "u1")
    codes = rans(array("BASI", "u1").tobytes(), C, F, 12, lambda row, t: basis_tables[chosen[row]])
    basis = np.array([[unzigzag(int(z)) for z in row] for row in codes]) * array("BMUL", "u1")[:, None]
    assert np.abs(basis).max() <= 63
    return {
        "model": model,
        "fingerprint": header["fingerprint"],
        "basis": basis.astype(np.int64),
        "mean": array("MEAN", "<f4"),
        "scale": array("SCAL", "<f4"),
        "steps": header["steps"],
        "rho32": array("RHO", "i1").reshape(T, 5, C).astype(np.int64),
        "logSigma": array("SIGM", "<i2").reshape(T, 5, C).astype(np.int64),
        "tables": [[int(f) for f in row] for row in array("TABL", "<u2").reshape(128, 256)],
    }


# Recipe

def power(base, exponent):
    return float(Decimal(base) ** exponent)


def step_of(s):
    octaves = s // 60
    return math.ldexp(power(2, Decimal(octaves * 60 - s) / 60), -octaves)


def decode_chunk(profile, most, tokens, streams):
    """Rows [tokens][F] in float32 before RoPE, and the levels."""
    side = streams["SIDE"]
    C = len(side) - 2 - 4 * tokens
    assert 1 <= C <= most
    s = struct.unpack_from("<h", side)[0]
    mode, energy, low, high = np.frombuffer(side, "u1", 4 * tokens, 2).reshape(4, tokens).astype(int)
    distance = low + 256 * high
    offset = 2 * (np.frombuffer(side, "u1", C, 2 + 4 * tokens).astype(int) - 2)
    assert abs(s) <= 1920 and (mode < 5).all() and (energy < 3).all() and (abs(offset) <= 4).all()
    assert (distance <= np.arange(tokens)).all()

    nearest = min(range(len(profile["steps"])), key=lambda i: (abs(profile["steps"][i] - s), profile["steps"][i]))
    rho32, logSigma = profile["rho32"][nearest][:, :C], profile["logSigma"][nearest][:, :C]
    base = np.clip((logSigma + s + 6) // 12 + 12, 0, 63)
    state, table_of = [0] * tokens, np.zeros((C, tokens), int)

    def table(c, t):
        k = min(63, max(0, base[mode[t], c] + offset[c] + 2 * (energy[t] - 1)))
        table_of[c, t] = 2 * k + (state[t] >> 2)
        return profile["tables"][table_of[c, t]]

    def after(t, z):
        state[t] = NEXT[2 * state[t] + ((z + 1 >> 1) & 1)]

    symbols = rans(streams["SYMB"], C, tokens, 11, table, after)
    levels = decode_levels(symbols, streams["ESCP"], profile["tables"], table_of)

    quarters = np.zeros((C, tokens), np.int64)
    for t in range(tokens):
        sigma = 0
        for c in range(C):
            k = int(levels[c, t])
            r = 2 * k - (0 if sigma < 4 else (k > 0) - (k < 0))
            p = 0
            if distance[t]:
                p = (int(rho32[mode[t], c]) * int(quarters[c, t - distance[t]]) + 16) >> 5
            quarters[c, t] = p + 4 * r
            sigma = NEXT[2 * sigma + (k & 1)]
    assert (quarters >= -32768).all() and (quarters <= 32767).all()

    sums = quarters.T @ profile["basis"][:C]
    factor = profile["scale"] * f32(step_of(s) / 4)
    return sums.astype(f32) * factor + profile["mean"], levels


def e4m3(q):
    exponent, fraction = q >> 3 & 15, q & 7
    assert q & 127 != 127
    value = math.ldexp(fraction, -9) if exponent == 0 else math.ldexp(8 + fraction, exponent - 10)
    return -value if q & 128 else value


def decode_sinks(model, tokens, dim, payload):
    """[blocks][tokens][dim] before RoPE."""
    blocks = model["layers"] * model["kvHeads"]
    scales = np.frombuffer(payload, "<f2", blocks).astype(f32)
    codes = np.frombuffer(payload, "u1", offset=2 * blocks).reshape(blocks, tokens, dim)
    values = np.array([e4m3(q) for q in range(256) if q & 127 != 127], f32)
    return values[np.where(codes < 128, codes, codes - 1)] * scales[:, None, None]


def rope(x, positions, spec):
    """Half-split pairs of [blocks][tokens][dim]."""
    if spec is None:
        return x
    assert "scaling" not in spec
    half = spec["dim"] // 2
    frequencies = [power(Decimal(spec["theta"]), Decimal(-2 * i) / spec["dim"]) for i in range(half)]
    angles = [[p * f for f in frequencies] for p in positions]
    cos = np.array([[math.cos(a) for a in row] for row in angles]).astype(f32)
    sin = np.array([[math.sin(a) for a in row] for row in angles]).astype(f32)
    a, b = x[..., :half], x[..., half:2 * half]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin, x[..., 2 * half:]], axis=-1)


def to_bytes(x, dtype):
    """float32 → elements, rounded to nearest even."""
    if dtype == "bf16":
        bits = x.astype("<f4").view("<u4").astype(np.uint64)
        return ((bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)).astype("<u2")
    return x.astype({"f16": "<f2", "f32": "<f4"}[dtype]).view({"f16": "<u2", "f32": "<u4"}[dtype])


def decode_file(profiles, path):
    header, records = read_frame(path.read_bytes(), b"C")
    profile = profiles[header["profileFingerprint"]]
    assert header["recipe"]["name"] == "kvz" and header["recipe"]["version"] == 1
    model, dtype, width = header["model"], header["dtype"], {"f16": 2, "bf16": 2, "f32": 4}[header["dtype"]]
    assert {key: model[key] for key in profile["model"]} == profile["model"]
    regions = {}
    for tag, chunk, tokens, payload in records:
        regions.setdefault(chunk, (tokens, {}))[1][tag] = payload
    C = struct.unpack("<H", regions.pop(FILE)[1]["PLAN"])[0]
    blocks, dims = model["layers"] * model["kvHeads"], {"key": model["keyDim"], "value": model["valueDim"]}
    parts, digests, at = {"key": [], "value": []}, [], 0
    for chunk, (tokens, streams) in regions.items():
        positions = [header["firstPosition"] + at + t for t in range(tokens)]
        at += tokens
        if chunk not in (SINKS, WINDOW):
            rows, levels = decode_chunk(profile, C, tokens, streams)
            digests.append(hashlib.sha256(levels.astype("<i4").tobytes()).hexdigest())
        begin = 0
        for kind, dim in dims.items():
            if chunk == WINDOW:
                planes = np.frombuffer(streams["KRAW" if kind == "key" else "VRAW"], "u1").reshape(width, -1)
                raw = np.ascontiguousarray(planes.T).view(f"<u{width}").reshape(blocks, tokens, dim)
                parts[kind].append(raw)
                continue
            if chunk == SINKS:
                x = decode_sinks(model, tokens, dim, streams["KSNK" if kind == "key" else "VSNK"])
            else:
                x = rows[:, begin:begin + blocks * dim].reshape(tokens, blocks, dim).transpose(1, 0, 2)
                begin += blocks * dim
            assert x.dtype == f32
            parts[kind].append(to_bytes(rope(x, positions, model["rope"] if kind == "key" else None), dtype))
    restored = {kind: np.concatenate(list_, axis=1) for kind, list_ in parts.items()}
    return {
        "tokens": at,
        "levels": digests,
        **{kind: hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest() for kind, x in restored.items()},
    }


if __name__ == "__main__":
    here = Path(__file__).parent
    golden = {profile["fingerprint"]: profile for profile in map(read_profile, here.glob("*.kvzp"))}
    json.dump({path.name: decode_file(golden, path) for path in sorted(here.glob("*.kvz"))}, sys.stdout, indent=2)
    print()
