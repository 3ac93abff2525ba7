/**
 * The trellis on a GPU against the reference, both ways, without the test runner: part of kernel_suite.ts.
 *
 * @module
 */
import type { Backend } from "../../src/backend/backend.ts";
import { levelStride, TRELLIS_STATUS } from "../../src/backend/gpu/trellis.ts";
import { escapeValues } from "../../src/stages/entropy/escape_values.ts";
import { escapeLevels } from "../../src/stages/entropy/escapes.ts";
import { componentMajor, tokenMajor, uploadSide } from "../../src/stages/quantize/trellis/gpu_side.ts";
import { trellisContexts } from "../../src/stages/quantize/trellis/model.ts";
import { encodeTrellisReference } from "../../src/stages/quantize/trellis/reference.ts";
import { withScratch } from "../../src/stages/scratch.ts";
import { stepOf } from "../../src/stages/quantize/trellis/step.ts";
import { largeEnough, toSubsteps } from "../../src/stages/quantize/trellis/substeps.ts";
import { coefficients, COSTS, fallingModel, uniform } from "../stages/trellis/cases.ts";
import { codeDifference, encodeBatch } from "./trellis_encoding.ts";

/** Checks by name: what differs, or "". */
export function trellisChecks(backend: Backend): [kernel: string, run: () => Promise<string>][] {
  if ((backend.gpu?.trellis ?? null) === null) return [];
  // The second has more groups of escapes than a workgroup sums at once, the third more tokens than it compares at once.
  return [[33, 40], [1100, 3], [9, 270]].flatMap(([components, tokens]) => [
    [`trellis decode ${components} × ${tokens}`, () => decodeDifference(backend, components, tokens)],
    [`trellis encode ${components} × ${tokens}`, () => encodeDifference(backend, components, tokens)],
    [`coefficients ${components} × ${tokens}`, () => coefficientsDifference(backend, components, tokens)],
  ]);
}

/** Two chunks, whole and after a prefix. */
async function encodeDifference(backend: Backend, components: number, tokens: number): Promise<string> {
  const models = [200, 4].map((sigma) => fallingModel(components, { sigma }));
  const ys = [200, 4].map((sigma, i) => clamped(coefficients(components, tokens, i, { sigma })));
  const found = await encodeBatch(backend, models, ys, tokens, 0.3, null);
  const codes = ys.map((y, i) => encodeTrellisReference(models[i], y, tokens, 0.3));
  const [grown] = await encodeBatch(backend, [models[0]], [ys[1]], tokens, 0.3, codes[0]);
  const more = encodeTrellisReference(models[0], ys[1], tokens, 0.3, codes[0]);
  const differences = [...found, grown].map((chunk, i) => codeDifference(chunk, models[i % 2], [...codes, more][i]));
  return differences.find((difference) => difference !== "") ?? "";
}

/** float32 → sixteenths of the step that is chosen for them. */
async function coefficientsDifference(backend: Backend, components: number, tokens: number): Promise<string> {
  const { encoder } = backend.gpu!.trellis!;
  const next = uniform(components);
  const values = Float32Array.from({ length: components * tokens }, () => (next() - 0.5) * 2 ** (40 * next() - 20));
  return await withScratch(backend, async (scratch) => {
    const [first, second] = [scratch.upload(values), scratch.upload(new Float32Array(values.length))];
    const [largest, batch] = [scratch.alloc(16), { chunks: 1, components, tokens }];
    const buffers = { first, second, stride: components, gain: 1 };
    encoder.magnitudes(buffers, batch, largest);
    const [most, sum] = new Float64Array((await backend.read(largest, 0, 16)).buffer);
    const { y, s } = toSubsteps(values, components, tokens, 300);
    const step = largeEnough(most, sum, 300);
    if (step !== s) return `the step is ${step}, expected ${s}`;
    const rows = scratch.alloc(tokens * levelStride(components) * 4);
    encoder.substeps(buffers, batch, 0, scratch.upload(Float64Array.of(16 / stepOf(s))), rows);
    const wanted = tokenMajor(y, components, tokens, new Int32Array(tokens * levelStride(components)));
    const found = new Int32Array((await backend.read(rows)).buffer);
    const at = wanted.findIndex((value, i) => value !== found[i]);
    return at < 0 ? "" : `row element ${at} is ${found[at]}, expected ${wanted[at]}`;
  });
}

function clamped(y: Int32Array): Int32Array {
  return y.map((value) => Math.max(-1e5, Math.min(1e5, value)));
}

async function decodeDifference(backend: Backend, components: number, tokens: number): Promise<string> {
  const trellis = backend.gpu!.trellis!;
  const sigma = 200;
  const model = fallingModel(components, { sigma });
  const y = clamped(coefficients(components, tokens, components, { sigma }));
  const code = encodeTrellisReference(model, y, tokens, 0.3);
  const coded = escapeLevels(code.levels, components, tokens, trellisContexts(model, code), COSTS.limits);
  return await withScratch(backend, async (scratch) => {
    const batch = { chunks: 1, components, tokens };
    const models = trellis.uploadModels([model]);
    const side = uploadSide(scratch, batch, [code], [0]);
    const values = [...escapeValues(coded.escapes)];
    const escapes = {
      values: scratch.upload(Uint32Array.from([...values, 0])),
      begins: scratch.upload(Uint32Array.of(0, values.length)),
    };
    const quarters = scratch.upload(new Uint8Array(tokens * levelStride(components) * 2).fill(0x55));
    const status = scratch.alloc(8);
    trellis.decode(models, batch, side, scratch.upload(coded.symbols), escapes, quarters, status);
    const [code32] = new Uint32Array((await backend.read(status, 0, 8)).buffer);
    const found = componentMajor(new Int16Array((await backend.read(quarters)).buffer), components, tokens);
    models.free();
    if (code32 !== TRELLIS_STATUS.ok) return `status is ${code32}, of ${values.length} escapes`;
    const at = found.findIndex((value, i) => value !== code.reconstruction[i]);
    return at < 0 ? "" : `quarter ${at} is ${found[at]}, expected ${code.reconstruction[at]}`;
  });
}
