/**
 * The way there from what a profile stores: forward = A² · (scales · basis), since the basis is A⁻¹ q and the forward
 * matrix A q. The basis has been rounded, and its rows B are no longer orthogonal in A²: where single directions weigh far
 * more than others, what the rounding of many weak rows leaves along a strong one is as large as the strong one itself.
 * So the strong rows S are taken by least squares, (B_S A² B_Sᵀ)⁻¹ B_S A², and what they leave in the others is taken out.
 *
 * All of it is products of rows with a matrix, which the backend has kernels for.
 *
 * @module
 */
import type { Backend } from "../../backend/backend.ts";
import { KINDS } from "../../cache/types.ts";
import { withinDevice } from "../../stages/transform/integer_basis.ts";
import { featuresOf } from "../statistics.ts";
import { invertGram } from "./gram_inverse.ts";
import { RowProducts } from "./row_products.ts";
import { kindDim } from "./sensitivity.ts";
import type { KvzProfile } from "./types.ts";

/** Leading components solved for; the rest has too little variance to leave much in any other. */
const STRONG = 512;

/** The forward matrix as binary16 bits, [components][features]; the backend computes, and is left as it was. */
export async function forwardMatrix(profile: KvzProfile, backend: Backend): Promise<Uint16Array> {
  const { components, features, basis, scales } = profile;
  const strong = Math.min(STRONG, components);
  const device = new RowProducts(backend, Math.max(features, strong));
  try {
    const forward = await weighted(profile, device);
    const back = new Float32Array(strong * features);
    for (let at = 0; at < back.length; at += features) {
      for (let f = 0; f < features; f++) back[at + f] = basis[at + f] * scales[f];
    }
    const crosses = await device.product(forward, await device.halves(back, features));
    // What to take of the strong rows out of each: 1 − G⁻¹ of themselves, with G their own crosses, X G⁻¹ of the others.
    const beyond = Float32Array.from(invertGram(crosses.subarray(0, strong * strong), strong));
    for (let s = 0; s < strong; s++) beyond[s * strong + s] -= 1;
    // G is close to 1 and so is its inverse: what is beyond it loses nothing that counts in binary16.
    const shares = await device.product(crosses, await device.halves(beyond, strong));
    for (let i = 0; i < shares.length; i++) shares[i] = i < beyond.length ? -beyond[i] : crosses[i] + shares[i];
    return await device.difference(forward, shares, await device.halves(forward.subarray(0, back.length), features));
  } finally {
    device[Symbol.dispose]();
  }
}

/** A² times every row of scales · basis, [components][features]: block by block of the sensitivity. */
async function weighted(profile: KvzProfile, device: RowProducts): Promise<Float32Array> {
  const { model, components, features, basis, scales } = profile;
  const blocks = withinDevice(profile.sensitivityBlocks);
  const out = new Float32Array(components * features);
  const sizes = featuresOf(model);
  let [first, at] = [0, 0];
  for (const kind of KINDS) {
    const dim = kindDim(model, kind);
    const rows = new Float32Array(components * dim);
    for (let begin = first; begin < first + sizes[kind]; begin += dim, at += dim * dim) {
      for (let c = 0, from = begin, to = 0; c < components; c++, from += features) {
        for (let i = 0; i < dim; i++) rows[to++] = basis[from + i] * scales[begin + i];
      }
      const block = { bits: blocks.bits.subarray(at, at + dim * dim), length: dim, gain: blocks.gain };
      const products = await device.product(rows, block);
      for (let c = 0, to = begin, from = 0; c < components; c++, to += features) {
        for (let i = 0; i < dim; i++) out[to + i] = products[from++];
      }
    }
    first += sizes[kind];
  }
  return out;
}
