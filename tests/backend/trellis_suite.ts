/**
 * Decoding of the trellis on a GPU against the reference, without the test runner: part of kernel_suite.ts.
 *
 * @module
 */
import type { Backend } from "../../src/backend/backend.ts";
import { levelStride, TRELLIS_STATUS } from "../../src/backend/gpu/trellis.ts";
import { escapeValues } from "../../src/stages/entropy/escape_values.ts";
import { escapeLevels } from "../../src/stages/entropy/escapes.ts";
import { componentMajor, uploadSide } from "../../src/stages/quantize/trellis/gpu_side.ts";
import { trellisContexts } from "../../src/stages/quantize/trellis/model.ts";
import { encodeTrellisReference } from "../../src/stages/quantize/trellis/reference.ts";
import { withScratch } from "../../src/stages/scratch.ts";
import { coefficients, COSTS, fallingModel } from "../stages/trellis/cases.ts";

/** Checks by name: what differs, or "". */
export function trellisChecks(backend: Backend): [kernel: string, run: () => Promise<string>][] {
  if ((backend.gpu?.trellis ?? null) === null) return [];
  // The second has more groups of escapes than a workgroup sums at once.
  return [[33, 40], [1100, 3]].map(([components, tokens]) => [
    `trellis ${components} × ${tokens}`,
    () => decodeDifference(backend, components, tokens),
  ]);
}

async function decodeDifference(backend: Backend, components: number, tokens: number): Promise<string> {
  const trellis = backend.gpu!.trellis!;
  const sigma = 200;
  const model = fallingModel(components, { sigma });
  const y = coefficients(components, tokens, components, { sigma }).map((v) => Math.max(-1e5, Math.min(1e5, v)));
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
