/**
 * Checks of the trellis kernels' arguments, and models as bytes, for all GPUs.
 *
 * @module
 */
import { MODES, TABLES, type TrellisModel } from "../../stages/quantize/trellis/model.ts";
import { requireBytes, requireCounts } from "../check.ts";
import type { DeviceBuffer } from "../backend.ts";
import {
  type CodedBuffers,
  type CoefficientBuffers,
  type DeviceModels,
  type EscapeBuffers,
  levelStride,
  type SideBuffers,
  type TrellisBatch,
} from "./trellis.ts";

/** Most components and most tokens of a chunk: 28 bits hold the place of a symbol. */
export const MAX_TRELLIS = 4096;

/** @throws {RangeError} when there are no models, or their components or tables differ. */
export function requireModels(models: readonly TrellisModel[]): void {
  const [first, ...rest] = models;
  if (first === undefined) throw new RangeError("Cannot upload models: there are none");
  const { components, bits, limits } = first;
  if (bits.length !== TABLES * 256 || limits.length !== TABLES) {
    throw new RangeError(
      `Cannot upload models: there are ${bits.length} costs and ${limits.length} limits, expected ${TABLES} · 256 and ` +
        `${TABLES}`,
    );
  }
  for (const model of rest) {
    if (model.components !== components || !same(model.bits, bits) || !same(model.limits, limits)) {
      throw new RangeError("Cannot upload models: their components or tables differ");
    }
  }
  for (const { rho32, base } of models) {
    if (rho32.length !== MODES * components || base.length !== MODES * components) {
      throw new RangeError(
        `Cannot upload models: one has ${rho32.length} factors and ${base.length} classes, expected ${MODES} × ${components}`,
      );
    }
  }
}

function same(a: Uint8Array | Uint16Array, b: Uint8Array | Uint16Array): boolean {
  return a === b || (a.length === b.length && a.every((value, i) => value === b[i]));
}

/** One array after the other. */
export function joined<T extends Int8Array | Uint8Array>(parts: readonly T[], to: T): T {
  parts.forEach((part, i) => to.set(part, i * part.length));
  return to;
}

/** @throws {RangeError} when a batch has more than kernels and their grids take. */
function requireBatch(what: string, { chunks, components, tokens }: TrellisBatch): void {
  requireCounts(what, { chunks, components, tokens });
  for (const [name, value] of Object.entries({ components, tokens })) {
    if (value < 1 || value > MAX_TRELLIS) {
      throw new RangeError(`Cannot ${what}: "${name}" is ${value}, expected 1 to ${MAX_TRELLIS}`);
    }
  }
  if (chunks > 65535) throw new RangeError(`Cannot ${what}: "chunks" is ${chunks}, expected at most 65535`);
}

/**
 * Checks what all calls have in common.
 *
 * @throws {RangeError} when a count is out of range, or a buffer too short.
 */
export function requireTrellis(what: string, models: DeviceModels, batch: TrellisBatch, side: SideBuffers): void {
  requireBatch(what, batch);
  const { chunks, components, tokens } = batch;
  if (components !== models.components) {
    throw new RangeError(
      `Cannot ${what}: "components" is ${components}, expected those of the models, ${models.components}`,
    );
  }
  requireBytes(what, "models", side.models.byteLength, chunks * 4);
  requireBytes(what, "words", side.words.byteLength, chunks * tokens * 4);
  requireBytes(what, "offsets", side.offsets.byteLength, (chunks * components + 3) & ~3);
}

/** @throws {RangeError} when an argument of `decode` does not fit. */
export function requireDecoding(
  models: DeviceModels,
  batch: TrellisBatch,
  side: SideBuffers,
  symbols: DeviceBuffer,
  escapes: EscapeBuffers,
  quarters: DeviceBuffer,
  status: DeviceBuffer,
): void {
  const what = "decode trellis";
  requireTrellis(what, models, batch, side);
  const { chunks, components, tokens } = batch;
  requireBytes(what, "symbols", symbols.byteLength, chunks * components * tokens);
  requireBytes(what, "begins", escapes.begins.byteLength, (chunks + 1) * 4);
  requireBytes(what, "quarters", quarters.byteLength, chunks * tokens * levelStride(components) * 2);
  requireBytes(what, "status", status.byteLength, chunks * 8);
}

/** @throws {RangeError} when an argument of `contexts` does not fit. */
export function requireContextBuffers(
  models: DeviceModels,
  batch: TrellisBatch,
  side: SideBuffers,
  classes: DeviceBuffer,
  kinds: DeviceBuffer,
): void {
  const what = "make contexts";
  requireTrellis(what, models, batch, side);
  requireBytes(what, "classes", classes.byteLength, batch.chunks * batch.components * 16);
  requireBytes(what, "kinds", kinds.byteLength, batch.chunks * batch.tokens);
}

/** Groups of 32 tokens of a row. */
export function tokenGroups(tokens: number): number {
  return (tokens + 31) >> 5;
}

/** @throws {RangeError} when λ in 1/256 is no whole number from 0 to 4096. */
export function requireWeight(weight: number): void {
  if (!(Number.isInteger(weight) && weight >= 0 && weight <= 4096)) {
    throw new RangeError(`Cannot upload weight: it is ${weight}, expected a whole number from 0 to 4096`);
  }
}

/** @throws {RangeError} when coefficients do not fit a batch. */
export function requireCoefficients(what: string, coefficients: CoefficientBuffers, batch: TrellisBatch): void {
  const { first, second, stride } = coefficients;
  const { chunks, components, tokens } = batch;
  requireBatch(what, batch);
  requireCounts(what, { stride });
  if (stride < components) {
    throw new RangeError(`Cannot ${what}: "stride" is ${stride}, expected ${components} or more`);
  }
  for (const [name, buffer] of Object.entries({ first, second })) {
    requireBytes(what, name, buffer.byteLength, chunks * tokens * stride * 4);
  }
}

/** @throws {RangeError} when an argument of `encode` does not fit. */
export function requireEncoding(
  models: DeviceModels,
  batch: TrellisBatch,
  first: number,
  rows: DeviceBuffer,
  coded: CodedBuffers,
  side: SideBuffers,
): void {
  const what = "encode trellis";
  requireTrellis(what, models, batch, side);
  requireCounts(what, { first });
  const { chunks, components, tokens } = batch;
  const count = chunks * tokens * levelStride(components);
  requireBytes(what, "rows", rows.byteLength, count * 4);
  requireBytes(what, "levels", coded.levels.byteLength, count * 2);
  requireBytes(what, "reconstruction", coded.reconstruction.byteLength, count * 2);
}

/** @throws {RangeError} when an argument that `symbols` and `escapes` have in common does not fit. */
export function requireCodedLevels(
  what: string,
  models: DeviceModels,
  batch: TrellisBatch,
  side: SideBuffers,
  levels: DeviceBuffer,
  places: DeviceBuffer,
  lengths: DeviceBuffer,
): void {
  requireTrellis(what, models, batch, side);
  const { chunks, components, tokens } = batch;
  requireBytes(what, "levels", levels.byteLength, chunks * tokens * levelStride(components) * 2);
  requireBytes(what, "places", places.byteLength, chunks * components * tokenGroups(tokens) * 4);
  requireBytes(what, "lengths", lengths.byteLength, chunks * 4);
}
