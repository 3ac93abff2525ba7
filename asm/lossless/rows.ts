// choose, model: sums of rows → codes of rows → their classes and maps. Arithmetic and its order are those of
// src/stages/lossless/choose.ts and codes.ts, which say why; doubles are the same everywhere.

const MEAN_BINS: u32 = 32;
const BINS_PER_SIGMA: f64 = 3;
const MOST: f64 = 31.0 / 3.0;
const SCALES: i32 = 64;

/** cos of k / 32 turn in 1/65536, a quarter turn of it. */
const QUARTER: usize = memory.data<f64>([65536, 64277, 60547, 54491, 46341, 36410, 25080, 12785, 0]);
/** 2^(k / 4) in 1/65536. */
const QUARTER_OCTAVES: usize = memory.data<f64>([65536, 77936, 92682, 110218]);
/** By direction: which of nine bins each phase takes, and where it turns the sign. */
const FOLDS: usize = memory.data(512, 16);
const TURNED: usize = memory.data(512, 16);
/** Bins by direction in the first quarter turn. */
const BINS: usize = memory.data(16, 16);

for (let direction: u32 = 0; direction < 32; direction++) {
  for (let phase: u32 = 0; phase < 16; phase++) {
    const k = (direction + 2 * phase + 1) & 31, half = k & 15;
    store<u8>(FOLDS + (direction << 4) + phase, min(half, 16 - half));
    store<u8>(TURNED + (direction << 4) + phase, k > 8 && k < 24 ? 128 : 0);
  }
}

/**
 * Codes of rows [begin, end) from their sums over n tokens, into scales and means u8 [rows]. `turning`: rows stand in
 * pairs, and cc, cs, ss are Σ cos², Σ cos · sin, Σ sin² of the tokens' phases.
 */
export function choose(
  sums: usize,
  begin: usize,
  end: usize,
  n: f64,
  turning: bool,
  cc: f64,
  cs: f64,
  ss: f64,
  scales: usize,
  means: usize,
): void {
  if (!turning) {
    for (let row = begin; row < end; row++) {
      const mean = <f64>load<f32>(sums + row * 12) / n;
      const variance = floored(<f64>load<f32>(sums + row * 12, 8) / n - mean * mean, mean * mean);
      const bin = nearestBin(mean * mean / variance, MEAN_BINS - 1);
      store<u8>(scales + row, scaleCode(variance));
      store<u8>(means + row, bin + (mean < 0 && bin > 0 ? 128 : 0));
    }
    return;
  }
  for (let row = begin; row < end; row += 2) {
    const at = sums + row * 12;
    const xc = <f64>load<f32>(at), xs = <f64>load<f32>(at, 4), xx = <f64>load<f32>(at, 8);
    const yc = <f64>load<f32>(at, 12), ys = <f64>load<f32>(at, 16), yy = <f64>load<f32>(at, 20);
    const a = (xc + ys) / n, b = (yc - xs) / n;
    const square = a * a + b * b;
    const x = xx - 2 * (a * xc - b * xs) + a * a * cc - 2 * a * b * cs + b * b * ss;
    const y = yy - 2 * (a * ys + b * yc) + a * a * ss + 2 * a * b * cs + b * b * cc;
    const first = floored(x / n, square), second = floored(y / n, square);
    store<u8>(scales + row, scaleCode(first));
    store<u8>(scales + row, scaleCode(second), 1);
    store<u8>(means + row, nearestBin(square / sqrt(first * second), 255));
    store<u8>(means + row, nearestDirection(a, b), 1);
  }
}

function floored(variance: f64, meanSquare: f64): f64 {
  return max(max(variance, meanSquare / (MOST * MOST)), 1.0 / 1048576.0);
}

function scaleCode(variance: f64): u32 {
  const code = 32 + <i32>((reinterpret<u32>(<f32>variance) + (0x800000 - 0x3504f3)) >>> 23) - 127;
  return min(max(code, 0), SCALES - 1);
}

function nearestBin(square: f64, most: u32): u32 {
  return <u32>min(<f64>most, floor(sqrt(square) * BINS_PER_SIGMA + 0.5));
}

function nearestDirection(a: f64, b: f64): u32 {
  const x = abs(a), y = abs(b);
  let best: u32 = 0;
  let most: f64 = -1;
  for (let direction: u32 = 0; direction <= 8; direction++) {
    // Cosines in 1/65536: those of the quarter turn, and of what is left of it.
    const length = x * load<f64>(QUARTER + (direction << 3)) + y * load<f64>(QUARTER + ((8 - direction) << 3));
    if (length > most) best = direction, most = length;
  }
  const folded = a < 0 ? 16 - best : best;
  return (b < 0 ? 32 - folded : folded) & 31;
}

/**
 * Classes and flips u8 [rows][16], and octaves u8 [rows], of rows [begin, end). Rows that turn stand in pairs; `met`: for
 * each of 16 phases the one that it takes its values from. met is null where rows do not turn.
 */
export function model(
  scales: usize,
  means: usize,
  begin: usize,
  end: usize,
  met: usize,
  classes: usize,
  flips: usize,
  octaves: usize,
): void {
  for (let row = begin; row < end; row++) store<u8>(octaves + row, load<u8>(scales + row) >> 1);
  if (met == 0) {
    for (let row = begin; row < end; row++) {
      const mean = <u32>load<u8>(means + row);
      memory.fill(classes + (row << 4), <u8>((load<u8>(scales + row) & 1) * MEAN_BINS + (mean & 127)), 16);
      memory.fill(flips + (row << 4), <u8>(mean & 128), 16);
    }
    return;
  }
  for (let row = begin; row < end; row += 2) {
    const length = <f64>load<u8>(means + row), direction = <u32>load<u8>(means + row, 1);
    modelRow(scales + row, scales + row + 1, length, direction, direction, met, classes + (row << 4), flips + (row << 4));
    // The second row of the pair is the sine, which is the cosine a quarter turn before.
    const before = (direction - 8) & 31;
    modelRow(scales + row + 1, scales + row, length, direction, before, met, classes + (row << 4) + 16, flips + (row << 4) + 16);
  }
}

/** A row that turns; `own` and `other`: scales of the pair, `from`: the direction that its cosine begins in. */
function modelRow(
  own: usize,
  other: usize,
  length: f64,
  direction: u32,
  from: u32,
  met: usize,
  classes: usize,
  flips: usize,
): void {
  const scale = <u32>load<u8>(own);
  const perCosine = length * ratio(<i32>load<u8>(other) - <i32>scale);
  // Middles of phases lie two directions apart: half of the cosines occur.
  for (let k = (direction + 1) & 1; k <= 8; k += 2) {
    const bin = min(<f64>(MEAN_BINS - 1), floor(perCosine * load<f64>(QUARTER + (k << 3)) / 4294967296.0 + 0.5));
    store<u8>(BINS + k, (scale & 1) * MEAN_BINS + <u32>bin);
  }
  const folds = FOLDS + (from << 4), turned = TURNED + (from << 4);
  if (ASC_FEATURE_SIMD) {
    const phases = v128.load(met);
    v128.store(classes, i8x16.swizzle(v128.load(BINS), i8x16.swizzle(v128.load(folds), phases)));
    v128.store(flips, i8x16.swizzle(v128.load(turned), phases));
    return;
  }
  for (let phase: usize = 0; phase < 16; phase++) {
    const taken = <usize>load<u8>(met + phase);
    store<u8>(classes + phase, load<u8>(BINS + <usize>load<u8>(folds + taken)));
    store<u8>(flips + phase, load<u8>(turned + taken));
  }
}

/** 2^(k / 4) in 1/65536: the geometric mean of two σ over one of them, which lie k half octaves apart. */
function ratio(k: i32): f64 {
  return load<f64>(QUARTER_OCTAVES + (<usize>(k & 3) << 3)) * reinterpret<f64>(<u64>((k >> 2) + 1023) << 52);
}
