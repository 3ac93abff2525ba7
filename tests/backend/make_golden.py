"""Golden vectors of the backend kernels, from NumPy and ml_dtypes: python3 tests/backend/make_golden.py > tests/backend/golden.ts"""
import ml_dtypes
import numpy as np

F32 = np.float32
E4M3 = ml_dtypes.float8_e4m3fn


def half(x):
    return F32(np.float16(x))


def line(name, doc, values):
    text = ", ".join(str(int(v)) for v in np.asarray(values).reshape(-1))
    print(f"\n/** {doc} */\n// deno-fmt-ignore\nexport const {name}: readonly number[] = [{text}];")


def encode_e4m3(x):
    return np.clip(x, F32(-448), F32(448)).astype(E4M3).view(np.uint8)


def quantize(x, kind):
    """Codes, shift, scale of one token's group, every operation rounded to float32."""
    if kind == 3:
        scale = half(F32(np.abs(x).max()) / F32(448))
        codes = np.zeros(len(x), np.uint8) if scale == 0 else encode_e4m3(x / scale)
        return codes, F32(0), scale
    levels = F32(3 if kind == 1 else 15)
    shift = half(x.min() + F32(0))
    scale = half(F32(x.max() - x.min()) / levels)
    if scale == 0:
        return np.zeros(len(x), np.uint8), shift, scale
    return np.clip(np.rint((x - shift) / scale), 0, levels).astype(np.uint8), shift, scale


def pack(codes, bits):
    """[tokens][components] codes, component by component, first token in the lowest bits."""
    out = []
    for column in codes.T:
        spread = ((column[:, None] >> np.arange(bits, dtype=np.uint8)) & 1).reshape(-1)
        out.append(np.packbits(spread, bitorder="little"))
    return np.concatenate(out)


rng = np.random.default_rng(7)
print("/**\n * Golden vectors of the kernels, computed with NumPy and ml_dtypes:\n"
      " * `python3 tests/backend/make_golden.py > tests/backend/golden.ts`.\n *\n * @module\n */")

edge = [0, -0.0, 1, -1, 1 / 3, 2.0**-24, 2.0**-25, 2.0**-25 * 1.0000001, -(2.0**-26), 6.097555e-05, 65504, 65519.996, 65520,
        -65520, 1e30, 3.4028235e38, 1e-40, np.inf, -np.inf, 2049, 2051, 1.00048828125, 1.00146484375]
floats = np.concatenate([np.array(edge, F32), (rng.standard_normal(41) * 10.0 ** rng.integers(-9, 6, 41)).astype(F32)])
with np.errstate(all="ignore"):
    line("FLOATS", "Float32 bits.", floats.view(np.uint32))
    line("FLOATS_F16", "FLOATS as binary16.", floats.astype(np.float16).view(np.uint16))
    line("FLOATS_BF16", "FLOATS as bfloat16.", floats.astype(ml_dtypes.bfloat16).view(np.uint16))
    line("E4M3_VALUES", "The value of every E4M3 code as float32 bits.",
         np.arange(256, dtype=np.uint8).view(E4M3).astype(F32).view(np.uint32))
    row = np.concatenate([[448], rng.standard_normal(60) * 10.0 ** rng.integers(-4, 3, 60), [0, -0.0, 2.0**-10]]).astype(F32)
    line("E4M3_ROW", "A row whose largest magnitude is 448, so that its scale is 1: float32 bits.", np.clip(row, -448, 448).view(np.uint32))
    line("E4M3_CODES", "Codes of E4M3_ROW.", encode_e4m3(row))

    tokens, components = 5, 44
    groups = [(0, 1, 3), (1, 1, 1), (2, 16, 2), (20, 16, 1), (36, 4, 3), (41, 3, 2)]
    x = (rng.standard_normal((tokens, components)) * np.geomspace(40, 0.01, components)).astype(F32)
    x[1, 2:18] = 1.5
    x[2, 20:36] = 0
    x[3, 36:40] = [1e-7, -2e-7, 0, 3e-8]
    x[4, 2:18] = np.linspace(-1e-6, 2e-6, 16)
    symbols = np.zeros((tokens, components), np.uint8)
    params = np.zeros((tokens, len(groups), 2), np.uint16)
    back = np.zeros((tokens, components), F32)
    for t in range(tokens):
        for g, (first, size, kind) in enumerate(groups):
            codes, shift, scale = quantize(x[t, first:first + size], kind)
            symbols[t, first:first + size] = codes
            params[t, g] = [np.float16(shift).view(np.uint16), np.float16(scale).view(np.uint16)]
            values = codes.view(E4M3).astype(F32) * scale if kind == 3 else codes.astype(F32) * scale + shift
            back[t, first:first + size] = values
    line("PLAN", "Groups: first component, size, type.", groups)
    line("COEFFICIENTS", f"[{tokens}][{components}] float32 bits.", x.view(np.uint32))
    line("SYMBOLS", "Codes of COEFFICIENTS under PLAN.", symbols)
    line("PARAMS", "Shift and scale of each token and group, binary16 bits.", params)
    line("PACKED", "SYMBOLS packed.",
         np.concatenate([pack(symbols[:, f:f + n], (0, 2, 4, 8)[kind]) for f, n, kind in groups]))
    line("RESTORED", "SYMBOLS dequantized, float32 bits.", back.view(np.uint32))
