import { assert, assertAlmostEquals, assertEquals, assertRejects } from "deno-std/assert";
import { createWasmBackend } from "../../../src/backend/wasm/create.ts";
import { CalibrateKernels } from "../../../src/backend/wasm/calibrate_kernels.ts";
import { TrellisKernels } from "../../../src/backend/wasm/trellis_kernels.ts";
import { layOutSafetensors } from "../../../src/adapters/safetensors_file.ts";
import { f16ToNumber } from "../../../src/cache/elements.ts";
import type { ModelSpec } from "../../../src/cache/types.ts";
import { memorySource } from "../../../src/container/bytes.ts";
import { KvzFormatError, KvzMismatchError } from "../../../src/errors.ts";
import { GramAccumulator } from "../../../src/profile/gram.ts";
import { calibrateKvz } from "../../../src/profile/kvz/calibrate.ts";
import { forwardMatrix } from "../../../src/profile/kvz/forward.ts";
import { roundBasis } from "../../../src/profile/kvz/int7.ts";
import { fitJoint } from "../../../src/profile/kvz/joint_fitter.ts";
import {
  fromTriangles,
  readSensitivity,
  toTriangles,
  trianglesLength,
  weightingOf,
} from "../../../src/profile/kvz/sensitivity.ts";
import { train } from "../../../src/profile/kvz/train.ts";
import { normal, uniform } from "../../stages/trellis/cases.ts";
import { SMALL_MODEL, syntheticCache } from "../../synthetic.ts";
import { symmetricEigenJacobi } from "./jacobi.ts";

const MODEL: ModelSpec = { layers: 2, kvHeads: 1, keyDim: 3, valueDim: 2, rope: null };
const FEATURES = 10;
const kernels = await CalibrateKernels.open("auto");

/** A random symmetric positive matrix of every block. */
function randomBlocks(model: ModelSpec, dim: number, seed: number): Float64Array {
  const next = normal(seed);
  const count = model.layers * model.kvHeads;
  const out = new Float64Array(count * dim * dim);
  for (let b = 0; b < count; b++) {
    const half = Float64Array.from({ length: dim * dim }, next);
    for (let i = 0; i < dim; i++) {
      for (let j = 0; j < dim; j++) {
        for (let k = 0; k < dim; k++) out[(b * dim + i) * dim + j] += half[i * dim + k] * half[j * dim + k];
      }
    }
  }
  return out;
}

Deno.test("Jacobi: eigenpairs of a symmetric matrix, to the last bits", () => {
  for (const n of [1, 2, 7, 64]) {
    const matrix = randomBlocks({ ...MODEL, layers: 1 }, n, n);
    const { values, vectors } = symmetricEigenJacobi(matrix, n);
    const scale = Math.max(...values);
    for (let k = 0; k < n; k++) {
      for (let i = 0; i < n; i++) {
        let product = 0;
        let dot = 0;
        for (let j = 0; j < n; j++) {
          product += matrix[i * n + j] * vectors[k * n + j];
          dot += vectors[i * n + j] * vectors[k * n + j];
        }
        assertAlmostEquals(product, values[k] * vectors[k * n + i], 1e-11 * scale);
        assertAlmostEquals(dot, i === k ? 1 : 0, 1e-12);
      }
    }
  }
});

/** Heads as wide as Gemma's have 256. */
for (const dim of [5, 96]) {
  Deno.test(`weightings of ${dim}: root · root is what is stored, root · inverse the identity`, () => {
    const { stored, root, inverse } = weightingOf(kernels, randomBlocks(MODEL, dim, 4), dim);
    const tolerance = 1e-12 * dim * dim;
    for (let b = 0; b < 2; b++) {
      for (let i = 0; i < dim; i++) {
        for (let j = 0; j < dim; j++) {
          let [square, identity] = [0, 0];
          for (let k = 0; k < dim; k++) {
            square += root[(b * dim + i) * dim + k] * root[(b * dim + k) * dim + j];
            identity += root[(b * dim + i) * dim + k] * inverse[(b * dim + k) * dim + j];
          }
          assertAlmostEquals(square, f16ToNumber(stored[(b * dim + i) * dim + j]), tolerance);
          assertAlmostEquals(identity, i === j ? 1 : 0, tolerance);
        }
      }
    }
  });
}

Deno.test("the joint fit is the spectrum of the weighted covariance; what is cut is its tail", () => {
  const gram = new GramAccumulator(kernels, FEATURES);
  const rows = 400;
  const next = normal(8);
  const mixing = Float64Array.from({ length: FEATURES * FEATURES }, next);
  const x = new Float32Array(rows * FEATURES);
  for (let t = 0; t < rows; t++) {
    const z = Float64Array.from({ length: FEATURES }, (_, i) => next() / (1 + i));
    for (let f = 0; f < FEATURES; f++) {
      for (let k = 0; k < FEATURES; k++) x[t * FEATURES + f] += mixing[f * FEATURES + k] * z[k];
      x[t * FEATURES + f] += f;
    }
  }
  gram.add(x, rows, FEATURES);
  const weights = {
    key: weightingOf(kernels, randomBlocks(MODEL, 3, 20), 3),
    value: weightingOf(kernels, randomBlocks(MODEL, 2, 21), 2),
  };
  const options = { rank: 4, svd: "exact", seed: 0 } as const;
  const { variance, back, mean, totalVariance } = fitJoint(kernels, gram, MODEL, () => weights, options);
  // A as one matrix [features][features].
  const A = new Float64Array(FEATURES * FEATURES);
  for (const [kind, begin] of [["key", 0], ["value", 6]] as const) {
    const { dim, root } = weights[kind];
    for (let b = 0; b < 2; b++) {
      for (let i = 0; i < dim; i++) {
        for (let j = 0; j < dim; j++) {
          A[(begin + b * dim + i) * FEATURES + begin + b * dim + j] = root[(b * dim + i) * dim + j];
        }
      }
    }
  }
  const weigh = (v: ArrayLike<number>) =>
    Float64Array.from({ length: FEATURES }, (_, i) => {
      let sum = 0;
      for (let j = 0; j < FEATURES; j++) sum += A[i * FEATURES + j] * v[j];
      return sum;
    });
  const covariance = new Float64Array(FEATURES * FEATURES);
  const weighted: Float64Array[] = [];
  for (let t = 0; t < rows; t++) {
    const row = weigh(x.subarray(t * FEATURES, (t + 1) * FEATURES).map((value, f) => value - mean[f]));
    weighted.push(row);
    for (let i = 0; i < FEATURES; i++) {
      for (let j = 0; j < FEATURES; j++) covariance[i * FEATURES + j] += row[i] * row[j] / rows;
    }
  }
  const exact = [...symmetricEigenJacobi(covariance, FEATURES).values].sort((a, b) => b - a);
  assertAlmostEquals(totalVariance, exact.reduce((a, b) => a + b), 1e-4 * exact[0]);
  for (let c = 0; c < 4; c++) assertAlmostEquals(variance[c], exact[c], 1e-4 * exact[0]);
  // q = A · back is orthonormal, and projecting on it leaves the tail.
  const q = Array.from({ length: 4 }, (_, c) => weigh(back.subarray(c * FEATURES, (c + 1) * FEATURES)));
  for (let a = 0; a < 4; a++) {
    for (let b = 0; b < 4; b++) {
      assertAlmostEquals(q[a].reduce((sum, value, i) => sum + value * q[b][i], 0), a === b ? 1 : 0, 1e-6);
    }
  }
  let left = 0;
  for (const row of weighted) {
    const rest = row.slice();
    for (const axis of q) {
      const coefficient = row.reduce((sum, value, i) => sum + value * axis[i], 0);
      for (let i = 0; i < FEATURES; i++) rest[i] -= coefficient * axis[i];
    }
    left += rest.reduce((sum, value) => sum + value * value, 0) / rows;
  }
  assertAlmostEquals(left, exact.slice(4).reduce((a, b) => a + b), 1e-3 * exact[0]);
});

Deno.test("rounding: entries in seven bits, its cost within the share of the step's noise", () => {
  const [features, components] = [200, 30];
  const next = normal(5);
  const back = Float64Array.from({ length: components * features }, next);
  const weight = Float64Array.from({ length: features }, () => 0.5 + Math.abs(next()));
  const variance = Float64Array.from({ length: components }, (_, c) => 1e-4 * 0.8 ** c);
  const step = 0.5;
  const { basis, scales } = roundBasis(back, features, weight, variance, step);
  assert(basis.every((value) => Math.abs(value) <= 63));
  let [cost, coarse] = [0, 0];
  for (let c = 0; c < components; c++) {
    for (let f = 0; f < features; f++) {
      const error = back[c * features + f] - scales[f] * basis[c * features + f];
      cost += weight[f] * error * error * variance[c];
    }
    if (basis.subarray(c * features, (c + 1) * features).every((value) => value % 2 === 0)) coarse++;
  }
  assert(coarse > 0, "no row is coarse");
  // 6 % of a quarter of a squared step a component.
  assert(cost <= 0.06 * 0.25 * step * step * components, `${cost}`);
});

Deno.test("triangles hold symmetric blocks", () => {
  const next = uniform(3);
  const triangles = Uint16Array.from({ length: trianglesLength(SMALL_MODEL) }, () => 60000 * next());
  const blocks = fromTriangles(triangles, SMALL_MODEL);
  assertEquals(toTriangles(blocks, SMALL_MODEL), triangles);
  for (let i = 0; i < 10; i++) for (let j = 0; j < 10; j++) assertEquals(blocks[i * 10 + j], blocks[j * 10 + i]);
});

function sensitivityFile(model: ModelSpec, change: (values: Float32Array) => void = () => {}): Uint8Array {
  const shapes = Array.from({ length: model.layers }, (_, layer) =>
    (["key", "value"] as const).map((kind) => {
      const dim = kind === "key" ? model.keyDim : model.valueDim;
      return { name: `layers.${layer}.${kind}.fisher`, dtype: "F32", shape: [model.kvHeads, dim, dim] };
    })).flat();
  const { head, tensors, byteLength } = layOutSafetensors(shapes, {});
  const out = new Uint8Array(byteLength);
  out.set(head);
  for (const { begin, end } of tensors.values()) {
    const values = new Float32Array((end - begin) / 4).fill(0.5);
    change(values);
    out.set(new Uint8Array(values.buffer), begin);
  }
  return out;
}

Deno.test("sensitivity files: read, damaged, of another model, with NaN", async () => {
  const bytes = sensitivityFile(SMALL_MODEL);
  const { source, key } = await readSensitivity(memorySource(bytes), SMALL_MODEL);
  assertEquals([source, key.length, key[0]], ["fisher", 3 * 2 * 100, 0.5]);
  await assertRejects(() => readSensitivity(memorySource(bytes.subarray(0, 300)), SMALL_MODEL), KvzFormatError);
  const other = memorySource(sensitivityFile({ ...SMALL_MODEL, kvHeads: 3 }));
  await assertRejects(() => readSensitivity(other, SMALL_MODEL), KvzMismatchError, "shape");
  const deeper = memorySource(sensitivityFile({ ...SMALL_MODEL, layers: 4 }));
  await assertRejects(() => readSensitivity(deeper, SMALL_MODEL), KvzMismatchError, "layers");
  const spoiled = memorySource(sensitivityFile(SMALL_MODEL, (values) => values[3] = NaN));
  await assertRejects(() => readSensitivity(spoiled, SMALL_MODEL), KvzFormatError, "NaN");
});

Deno.test("training: prediction is learned, the same result twice", async () => {
  const kernels = await TrellisKernels.open();
  const [components, tokens] = [40, 200];
  const next = normal(12);
  const variance = Float64Array.from({ length: components }, (_, c) => 0.9 ** c);
  const coefficients = new Float32Array(tokens * components);
  for (let t = 0; t < tokens; t++) {
    for (let c = 0; c < components; c++) {
      const before = t === 0 ? 0 : coefficients[(t - 1) * components + c];
      coefficients[t * components + c] = 0.8 * before + 0.6 * Math.sqrt(variance[c]) * next();
    }
  }
  const options = { steps: [60], lambda: 0.3 };
  const trained = train(kernels, [{ tokens, coefficients }], variance, options);
  // Neighbours resemble each other: the mode that most tokens use predicts about 0.8, and its residuals are smaller than
  // the coefficients.
  const [{ rho32, logSigma }] = trained.stepSets;
  const best = [0, 1, 2, 3, 4].map((mode) => rho32[mode * components] / 32);
  assert(best.some((rho) => Math.abs(rho - 0.8) < 0.1), `${best}`);
  assert(Math.min(...[0, 1, 2, 3, 4].map((mode) => logSigma[mode * components])) < -30);
  const [a, b] = [1, 2].map(() => train(kernels, [{ tokens, coefficients }], variance, options));
  assertEquals(a, b);
});

Deno.test("calibration: deterministic, the way there belongs to the way back, bad input refused", async () => {
  const caches = [1, 2].map((seed) => syntheticCache(300, { seed }));
  const options = { svd: "exact", sensitivity: memorySource(sensitivityFile(SMALL_MODEL, fillIdentity)) } as const;
  const profile = await calibrateKvz(caches, options);
  assertEquals((await calibrateKvz(caches, options)).fingerprint, profile.fingerprint);
  assertEquals(profile.sensitivity, "fisher");
  const { components: C, features: F, basis, scales } = profile;
  const forward = Float32Array.from(await forwardMatrix(profile, await createWasmBackend()), f16ToNumber);
  // Rows of weak components are rounded coarsely, as their variance allows, but see nothing of the leading ones.
  assert(C > 3);
  for (let a = 0; a < C; a++) {
    for (let b = 0; b < 3; b++) {
      let dot = 0;
      for (let f = 0; f < F; f++) dot += forward[a * F + f] * scales[f] * basis[b * F + f];
      assertAlmostEquals(dot, a === b ? 1 : 0, 0.05);
    }
  }
  await assertRejects(() => calibrateKvz([]), RangeError, "0 tokens");
  await assertRejects(() => calibrateKvz(caches, { rank: 0 }), RangeError, "rank");
  await assertRejects(() => calibrateKvz(caches, { ratio: NaN }), RangeError, "ratio");
  await assertRejects(() => calibrateKvz([caches[0], caches[0]]), KvzMismatchError, "same sequence");
});

/** Blocks of the identity: plain PCA. */
function fillIdentity(values: Float32Array): void {
  const dim = values.length === 2 * 100 ? 10 : 6;
  values.fill(0);
  for (let i = 0; i < values.length; i += dim * dim) for (let j = 0; j < dim; j++) values[i + j * dim + j] = 1;
}
