/**
 * Prediction and trellis-coded quantization on the WebAssembly kernels: the same integers as reference.ts.
 *
 * @module
 */
import type { TrellisKernels } from "../../../backend/wasm/trellis_kernels.ts";
import { PROXY_BUCKETS, proxyCosts } from "./cost.ts";
import { CLASSES, type TrellisModel } from "./model.ts";
import { checkEncoderInput, type CodedPrefix, reconstructionTooLarge, type TrellisCode } from "./reference.ts";
import type { TrellisSide } from "./side.ts";

type Alloc = (byteLength: number) => number;

/**
 * Codes a chunk.
 *
 * @param y coefficients in sixteenths of the step, [components][tokens] (without those of the prefix)
 * @param lambda weight of a bit against a squared error of a step
 * @throws {RangeError} when sizes do not fit, a coefficient is beyond ±100,000 or λ out of range
 */
export function encodeTrellis(
  kernels: TrellisKernels,
  model: TrellisModel,
  y: Int32Array,
  tokens: number,
  lambda: number,
  prefix: CodedPrefix | null = null,
): TrellisCode {
  const weight = checkEncoderInput(model, y, tokens, lambda);
  const { exports } = kernels;
  const { components } = model;
  const first = prefix?.refs.length ?? 0;
  const total = first + tokens;
  const count = components * total;
  return kernels.scoped((alloc) => {
    const words = layOut(alloc, model, total, weight);
    const work = alloc(words.table.length * 4);
    kernels.write(work, words.table);
    const { address } = words;
    kernels.write(address.bits, model.bits);
    kernels.write(address.limits, model.limits);
    kernels.write(address.rho32, model.rho32);
    kernels.write(address.base, model.base);
    kernels.write(address.costs, proxyCosts(model, weight));
    kernels.write(address.refs, new Int16Array(total).fill(-1));
    kernels.write(address.modes, new Uint8Array(total));
    kernels.write(address.energies, new Uint8Array(total).fill(1));
    kernels.write(address.offsets, prefix?.offsets ?? new Int8Array(components));
    const spare = alloc(count * 4);
    if (prefix !== null) {
      kernels.write(spare, prefix.levels);
      exports.transpose32(spare, components, first, address.levels, components);
      kernels.write(spare, prefix.reconstruction);
      exports.transpose16(spare, components, first, address.reconstruction, components);
      kernels.write(address.refs, prefix.refs);
      kernels.write(address.modes, prefix.modes);
      kernels.write(address.energies, prefix.energies);
    }
    kernels.write(spare, y);
    exports.transpose32(spare, components, tokens, address.rows + first * components * 4, components);

    exports.predictTokens(work, first, total);
    exports.chooseEnergies(work, first, total);
    if (prefix === null) {
      exports.rememberStates(work);
      exports.chooseOffsets(work);
    }
    exports.chooseEnergies(work, first, total);
    exports.quantizeTokens(work, first, total);

    exports.transpose32(address.levels, total, components, spare, total);
    const levels = kernels.read(spare, new Int32Array(count));
    exports.transpose16(address.reconstruction, total, components, spare, total);
    return {
      s: model.s,
      refs: kernels.read(address.refs, new Int16Array(total)),
      modes: kernels.read(address.modes, new Uint8Array(total)),
      energies: kernels.read(address.energies, new Uint8Array(total)),
      offsets: kernels.read(address.offsets, new Int8Array(components)),
      levels,
      reconstruction: kernels.read(spare, new Int16Array(count)),
    };
  });
}

/**
 * Reconstructs a chunk from its levels: coefficients in quarters of the step, [components][tokens].
 *
 * @throws {KvzFormatError} when one leaves 16 bits.
 */
export function decodeTrellis(
  kernels: TrellisKernels,
  model: Pick<TrellisModel, "components" | "rho32">,
  levels: Int32Array,
  side: Pick<TrellisSide, "refs" | "modes">,
  tokens: number,
): Int16Array {
  const { components, rho32 } = model;
  return kernels.scoped((alloc) => {
    const put = (array: ArrayBufferView) => {
      const address = alloc(array.byteLength);
      kernels.write(address, array);
      return address;
    };
    const [at, rho, refs, modes] = [put(levels), put(rho32), put(side.refs), put(side.modes)];
    const states = alloc(tokens);
    const out = alloc(components * tokens * 2);
    if (!kernels.exports.decodeTrellis(at, components, tokens, rho, refs, modes, states, out)) {
      throw reconstructionTooLarge();
    }
    return kernels.read(out, new Int16Array(components * tokens));
  });
}

/** Takes the memory of an encoder's work, and makes its table in the order of asm/trellis/work.ts. */
function layOut(alloc: Alloc, model: TrellisModel, tokens: number, weight: number) {
  const { components, bits, limits, rho32, base } = model;
  const count = components * tokens;
  const address = {
    bits: alloc(bits.byteLength),
    limits: alloc(limits.byteLength),
    rho32: alloc(rho32.byteLength),
    base: alloc(base.byteLength),
    costs: alloc(CLASSES * PROXY_BUCKETS * 4),
    rows: alloc(count * 4),
    reconstruction: alloc(count * 2),
    levels: alloc(count * 4),
    states: alloc(count),
    refs: alloc(tokens * 2),
    modes: alloc(tokens),
    energies: alloc(tokens),
    offsets: alloc(components),
    candidates: alloc(components * 16),
    decisions: alloc(components),
    predicted: alloc(components * 4),
  };
  return { address, table: Uint32Array.of(components, tokens, weight, ...Object.values(address)) };
}
