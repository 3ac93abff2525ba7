"""Make kvquant_golden.json: KVQuant as its authors' simulation has it (quant/kvquant/simquant_module_quantizer.py: percentiles, outlier
masks, normalization, weighted k-means, Q-Norm), written anew in numpy, float64 but where said otherwise. One layer of two heads; a row is a
token of all heads. Arrays as base64 of their bytes.

python3 tests/recipes/make_kvquant_golden.py > tests/recipes/kvquant_golden.json && deno fmt tests/recipes/kvquant_golden.json

Made with numpy 2.4.6.
"""
import base64
import json
from fractions import Fraction

import numpy as np

TOKENS, HEADS, DIM, PERCENT = 96, 2, 12, 1
CHANNELS = HEADS * DIM
T = 1 - PERCENT / 200


def text(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def nearest(y, poles):
    """Index of the nearest pole, the first of two."""
    return np.abs(y[..., None] - poles).argmin(axis=-1)


def lloyd(values, weights, count):
    """Weighted k-means on a line, from weighted quantiles, as scikit-learn runs Lloyd's algorithm: up to 50 rounds."""
    order = np.argsort(values, kind="stable")
    values, weights = values[order], weights[order]
    cumulative = np.cumsum(weights)
    starts = np.searchsorted(cumulative, (np.arange(count) + 0.5) / count * cumulative[-1], side="right")
    centres = values[starts]
    for _ in range(50):
        label = nearest(values, centres)
        own = [label == k for k in range(count)]
        # scikit-learn moves a centre without points elsewhere; here it stays.
        moved = np.array([np.average(values[o], weights=weights[o]) if o.any() else c for o, c in zip(own, centres)])
        if np.allclose(moved, centres, rtol=0, atol=1e-12):
            break
        centres = moved
    return centres


def value_range(rows):
    """Outliers, least and greatest of a token, found online."""
    upper, lower = np.quantile(rows, T, axis=1), np.quantile(rows, 1 - T, axis=1)
    mask = (rows >= upper[:, None]) | (rows <= lower[:, None])
    inner = np.where(mask, np.median(rows, axis=1)[:, None], rows)
    return mask, inner.min(axis=1)[:, None], inner.max(axis=1)[:, None]


random = np.random.default_rng(5)
out = {"tokens": TOKENS, "heads": HEADS, "dim": DIM}
for kind in ("key", "value"):
    x = random.standard_t(3, size=(TOKENS, CHANNELS)) * np.exp(random.normal(size=CHANNELS)) + 3 * random.normal(size=CHANNELS)
    x = x.astype(np.float16).astype(np.float64)
    weights = np.exp(random.normal(size=CHANNELS))
    if kind == "key":
        low = np.percentile(x, 100 * (1 - T), axis=0).astype(np.float32).astype(np.float64)[None]
        high = np.percentile(x, 100 * T, axis=0).astype(np.float32).astype(np.float64)[None]
        mask = (x < low) | (x > high)
    else:
        mask, low, high = value_range(x)
    middle, half = (high + low) / 2, (high - low) / 2
    y = (x - middle) / half
    # Elements as a cache has them: [heads][tokens][dim].
    heads = lambda rows: rows.reshape(TOKENS, HEADS, DIM).transpose(1, 0, 2)
    entry = {"x": text(heads(x).astype(np.float16)), "weights": text(weights.astype(np.float32)), "outliers": int(mask.sum())}
    if kind == "key":
        entry["thresholds"] = text(np.stack([low[0], high[0]], axis=1).astype(np.float32))
    weights = weights.astype(np.float32).astype(np.float64)
    for bits in (2, 3, 4):
        poles = lloyd(y[~mask], np.broadcast_to(weights, x.shape)[~mask], 2**bits).astype(np.float32).astype(np.float64)
        coded = poles[nearest(y, poles)]
        mean, spread = y[~mask].mean(), y[~mask].std()
        scale = np.float32(spread / coded[~mask].std())
        offset = np.float32(mean - coded[~mask].mean() * (spread / coded[~mask].std()))
        entry[str(bits)] = {"codebook": text(poles.astype(np.float32)), "norm": [float(scale), float(offset)]}
        for name, level in (("plain", coded), ("qnorm", (coded * float(scale) + float(offset)).astype(np.float32).astype(np.float64))):
            if name == "qnorm" and bits != 2:
                continue
            restored = np.where(mask, x, middle + half * level).astype(np.float32)
            entry[str(bits)][name] = text(heads(restored).astype(np.float16))
    out[kind] = entry
# Elements at or beyond the quantile, by exact arithmetic: [channels, percent, how many].
out["aSide"] = [
    [n, p, sum(1 for i in range(n) if i >= (1 - Fraction(str(p)) / 200) * (n - 1))]
    for n in (3, 10, 64, 192, 200, 201, 401, 1024, 2001, 4096) for p in (0.1, 0.5, 1)
]
print(json.dumps(out))
