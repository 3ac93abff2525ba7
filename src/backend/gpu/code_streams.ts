/**
 * The five streams of chunks of recipe kvtc on a GPU, taken straight to coefficients: codes by width, component after
 * component, and low and high bytes of shifts and scales. `splitCodes` and `splitParams` (src/stages/quantize) define them.
 *
 * @module
 */
import { type DeviceBuffer, type DevicePlan, type QuantGroup, TYPE_BITS } from "../backend.ts";
import { requireBytes, requireCounts } from "../check.ts";

/** Streams of one or more chunks, those of a chunk after those of the one before. */
export interface DeviceStreams {
  /** Codes of the components of each type, rows [chunks][components of the type][tokens]. */
  readonly int2: DeviceBuffer;
  readonly int4: DeviceBuffer;
  readonly fp8: DeviceBuffer;
  /** Low and high bytes of shifts and scales, [chunks][shift, scale][groups][tokens]. */
  readonly low: DeviceBuffer;
  readonly high: DeviceBuffer;
}

/** How codes lie: packed, each row padded to whole bytes, or a byte each, as an entropy coder has them. */
export type CodeForm = "packed" | "bytes";

/** Chunks of one length. */
export interface ChunkBatch {
  readonly chunks: number;
  /** Tokens of each. */
  readonly tokens: number;
}

/** The kernels. Calls enqueue. */
export interface GpuCodeStreams {
  /**
   * Backend.unpack, then Backend.dequantize, in one pass: coefficients f32 [chunks][tokens][stride] of the streams. `stride`
   * is a multiple of 4. Codes of form "bytes" are taken as they are, also where they have more bits than their type.
   */
  restore(
    streams: DeviceStreams,
    form: CodeForm,
    plan: DevicePlan,
    batch: ChunkBatch,
    coefficients: DeviceBuffer,
    stride: number,
  ): void;

  /** Shifts and scales u16 [chunks][tokens][groups][2] → their low and high bytes, as {@linkcode DeviceStreams} have them. */
  splitParams(params: DeviceBuffer, groups: number, batch: ChunkBatch, low: DeviceBuffer, high: DeviceBuffer): void;
}

/** Bytes of a row of codes of a type. */
export function codeRowBytes(type: number, tokens: number, form: CodeForm): number {
  return form === "bytes" ? tokens : Math.ceil(tokens * TYPE_BITS[type] / 8);
}

/** Components of each type before each component: its row in the stream of its type; 0 outside any group. */
export function codeRows(plan: Pick<DevicePlan, "groups" | "components">): Uint32Array<ArrayBuffer> {
  const rows = new Uint32Array(plan.components);
  const before = [0, 0, 0, 0];
  for (const { first, size, type } of plan.groups) {
    for (let c = first; c < first + size; c++) rows[c] = before[type]++;
  }
  return rows;
}

/** Bytes that a chunk has in each stream. */
export function streamBytes(
  groups: readonly QuantGroup[],
  tokens: number,
  form: CodeForm,
): Record<keyof DeviceStreams, number> {
  const rows = [0, 0, 0, 0];
  for (const { size, type } of groups) rows[type] += size;
  const [int2, int4, fp8] = [1, 2, 3].map((type) => rows[type] * codeRowBytes(type, tokens, form));
  const params = 2 * groups.length * tokens;
  return { int2, int4, fp8, low: params, high: params };
}

/** @throws {RangeError} when sizes do not fit together, or a buffer is too short. */
export function requireStreams(
  streams: DeviceStreams,
  form: CodeForm,
  { groups, components }: DevicePlan,
  { chunks, tokens }: ChunkBatch,
  coefficients: DeviceBuffer,
  stride: number,
): void {
  const what = "restore streams";
  requireCounts(what, { chunks, tokens, stride });
  if (stride % 4 !== 0 || stride < components) {
    throw new RangeError(
      `Cannot ${what}: "stride" is ${stride}, expected a multiple of 4 of at least the plan's ${components} components`,
    );
  }
  const bytes = streamBytes(groups, tokens, form);
  for (const name of ["int2", "int4", "fp8", "low", "high"] as const) {
    requireBytes(what, name, streams[name].byteLength, chunks * bytes[name]);
  }
  requireBytes(what, "coefficients", coefficients.byteLength, chunks * tokens * stride * 4);
}

/** @throws {RangeError} when a buffer is too short. */
export function requireParams(
  params: DeviceBuffer,
  groups: number,
  { chunks, tokens }: ChunkBatch,
  low: DeviceBuffer,
  high: DeviceBuffer,
): void {
  const what = "split shifts and scales";
  requireCounts(what, { groups, chunks, tokens });
  const count = chunks * tokens * groups;
  requireBytes(what, "params", params.byteLength, 4 * count);
  requireBytes(what, "low", low.byteLength, 2 * count);
  requireBytes(what, "high", high.byteLength, 2 * count);
}
