/**
 * The way there of the joint transform: coefficient = Σ (x − µ) · forward, keys and values each for themselves on the
 * backend, with a matrix whose entries are brought into the range that it takes.
 *
 * @module
 */
import { type Backend, type DeviceBuffer, paddedLength } from "../../backend/backend.ts";
import type { Kind } from "../../cache/types.ts";
import type { ChunkContext } from "../stage.ts";
import { dimOf, featureRange, type IntegerBasis, type IntegerGeometry, withinDevice } from "./integer_basis.ts";
import { type Coefficients, PcaTransform } from "./pca.ts";

/** Coefficients of a kind's features; those of a token are the sum of both kinds' times the gain. */
export class ForwardTransform implements Disposable {
  /** A power of two: what the coefficients have to be multiplied with. */
  readonly gain: number;
  readonly #components: number;
  readonly #kinds: Readonly<Record<Kind, PcaTransform>>;

  /** @param forward binary16 bits [components][features] */
  constructor(backend: Backend, geometry: IntegerGeometry, basis: IntegerBasis, forward: Uint16Array) {
    const { bits, gain } = withinDevice(forward);
    this.gain = gain;
    this.#components = basis.components;
    const open = (kind: Kind) => openKind(backend, geometry, basis, bits, kind);
    this.#kinds = { key: open("key"), value: open("value") };
  }

  /**
   * The leading components, and up to seven more, as projections take a multiple of 8 or all: f32 [tokens][stride] in a
   * buffer that is used again for the next chunk.
   */
  encode(kind: Kind, source: Uint8Array | DeviceBuffer, ctx: ChunkContext, components: number): Coefficients {
    return this.#kinds[kind].encode(source, ctx, Math.min(this.#components, paddedLength(components)));
  }

  [Symbol.dispose](): void {
    this.#kinds.key[Symbol.dispose]();
    this.#kinds.value[Symbol.dispose]();
  }
}

function openKind(
  backend: Backend,
  geometry: IntegerGeometry,
  { components, features, mean }: IntegerBasis,
  forward: Uint16Array,
  kind: Kind,
): PcaTransform {
  const { layers, heads, rope, dtype } = geometry;
  const [begin, end] = featureRange(geometry, kind, 0, layers);
  const part = new Uint16Array(components * (end - begin));
  for (let c = 0; c < components; c++) {
    part.set(forward.subarray(c * features + begin, c * features + end), c * (end - begin));
  }
  return new PcaTransform(backend, {
    layers,
    heads,
    dim: dimOf(geometry, kind),
    dtype,
    rope: kind === "key" ? rope : null,
    mean: mean.slice(begin, end),
    basis: part,
    components,
  });
}
