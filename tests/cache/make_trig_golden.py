"""Make trig_golden.json: cosines, sines, logarithms and powers by mpmath with 400 bits, rounded to float64.

python3 tests/cache/make_trig_golden.py > tests/cache/trig_golden.json && deno fmt tests/cache/trig_golden.json

Made with mpmath 1.3.0. Lists of [angle, cos, sin], [x, ln x] and [base, numerator, denominator, power]; the arguments
are exact float64.
"""
import json
import random
import sys

import mpmath

mpmath.mp.prec = 400
rng = random.Random(5)
LIMIT = 2.0**31


def nearest(x):
    return float(mpmath.mpf(x))


angles = [0.0, 5e-324, 1e-310, 2.2250738585072014e-308, 1e-200, 2.0**-27, 2.0**-26, 0.5, 1.0, 3.0, 1e5, 1e9,
          LIMIT - 2.0**-22, LIMIT - 1]
# Where the quadrant changes, and next to multiples of pi/2, where most digits cancel.
for n in [1, 2, 3, 4, 5, 7, 100, 12345, 2**20, 2**20 + 1, 2**30, 1367130550, 1367130551]:
    for x in [n * mpmath.pi / 2, (n - mpmath.mpf(1) / 2) * mpmath.pi / 2]:
        if x < LIMIT:
            angles += [nearest(x), nearest(x) * (1 - 2.0**-53), nearest(x) * (1 + 2.0**-52)]
# The float64 below 2^31 that are nearest to a multiple of pi/2, by convergents of its continued fraction.
worst = []
for exponent in range(-22, 1):
    step = mpmath.mpf(2)**exponent
    quotient, a, b = step / (mpmath.pi / 2), (0, 1), (1, 0)
    x = quotient
    while True:
        whole = int(mpmath.floor(x))
        a, b = (a[1], whole * a[1] + a[0]), (b[1], whole * b[1] + b[0])
        if b[1] >= 2**53 or b[1] * step >= LIMIT:
            break
        if b[1]:
            angle = b[1] * step
            worst.append((abs(angle - a[1] * mpmath.pi / 2), float(angle)))
        x = 1 / (x - whole)
angles += [angle for _, angle in sorted(set(worst))[:40]]
angles += [rng.random() * 10.0**rng.uniform(-8, 9.3) for _ in range(200)]
angles = sorted({x for x in angles if x < LIMIT})

logs = [5e-324, 1e-310, 2.0**-1022, 0.25, 0.5, 0.7071067811865475, 0.7071067811865476, 1 - 2.0**-53, 1.0, 1 + 2.0**-52,
        1.0001, 1.4142135623730951, 1.4142135623730954, 2.0, 3.0, 10000.0, 500000.0, sys.float_info.max]
logs += [10.0**rng.uniform(-12, 12) for _ in range(100)] + [1 + rng.uniform(-1, 1) * 2.0**-rng.randrange(40)
                                                             for _ in range(60)]
powers = [(theta, -2 * i, dim) for theta, dim in [(1e4, 64), (1e5, 64), (5e5, 128), (1e6, 128), (1e7, 96), (150000.0, 10)]
          for i in sorted({0, 1, dim // 6, dim // 3, dim // 2 - 1})]
powers += [(2.0, -n, 60) for n in (-1740, -61, -1, 0, 1, 30, 59, 60, 1740)]
powers += [(0.01, -3, 7), (1e300, -5, 6), (1e-300, -5, 6), (5e-324, -1, 2), (sys.float_info.max, -99, 100), (1.0, 5, 7),
           (1 + 2.0**-52, -1, 3), (1 - 2.0**-53, 7, 3)]
powers += [(10.0**rng.uniform(0.1, 8), -2 * rng.randrange(64), 128) for _ in range(60)]

print(json.dumps({
    "angles": [[x, nearest(mpmath.cos(mpmath.mpf(x))), nearest(mpmath.sin(mpmath.mpf(x)))] for x in angles],
    "logs": [[x, nearest(mpmath.log(mpmath.mpf(x)))] for x in logs],
    "powers": [[b, n, d, nearest(mpmath.mpf(b)**(mpmath.mpf(n) / d))] for b, n, d in powers],
}))
