/**
 * KVTC's quantizer stage (paper §3.2): groups of neighbouring PCA coefficients share a per-token fp16 shift and scale;
 * widths come from the plan of the dynamic program. Yields two streams, packed codes and shifts with scales.
 *
 * @module
 */
import { type Backend, type DevicePlan, packedLength, type QuantGroup } from "../../backend/backend.ts";
import { type DeviceStreams, type GpuCodeStreams, streamBytes } from "../../backend/gpu/code_streams.ts";
import type { GpuEntropy } from "../../backend/gpu/entropy.ts";
import { asUint16 } from "../../cache/elements.ts";
import { KvzFormatError, KvzUnsupportedError } from "../../errors.ts";
import type { Coefficients } from "../transform/pca.ts";
import { Scratch } from "../scratch.ts";
import type { ChunkContext, DeviceStage } from "../stage.ts";
import { codeLengths, type CodeStreams, joinCodes, splitCodes } from "./code_streams.ts";
import { joinParams, type ParamStreams, splitParams } from "./params_layout.ts";

/** What the quantizer leaves of a chunk. */
export interface QuantStreams {
  /** Packed codes by width, component-major (code_streams.ts). */
  readonly codes: CodeStreams;
  /** Shifts and scales, 2 · 2 bytes a token and group, low and high bytes apart (params_layout.ts). */
  readonly params: ParamStreams;
}

/** Exponent bits of binary16: all set means infinity or NaN. */
const F16_EXPONENT = 0x7c00;

/** The quantizer stage for one kind and plan. */
export class GroupQuantizer implements DeviceStage<Coefficients, QuantStreams> {
  readonly name = "groups";
  readonly #backend: Backend;
  readonly #plan: DevicePlan;
  readonly #coefficients: (tokens: number) => Coefficients;

  /** @param coefficients gives the buffer that `decode` fills, usually the transform stage's own. */
  constructor(backend: Backend, groups: readonly QuantGroup[], coefficients: (tokens: number) => Coefficients) {
    this.#backend = backend;
    this.#plan = backend.uploadPlan(groups);
    this.#coefficients = coefficients;
  }

  /** Stream lengths for a number of tokens. */
  lengths(tokens: number): { codes: [number, number, number]; params: [number, number] } {
    const plane = this.#plan.groups.length * tokens * 2;
    return { codes: codeLengths(this.#plan.groups, tokens), params: [plane, plane] };
  }

  /**
   * @throws {KvzUnsupportedError} when a coefficient does not fit binary16, so that its group has no shift or scale.
   */
  async encode(x: Coefficients, ctx: ChunkContext): Promise<QuantStreams> {
    return await this.extend(null, 0, x, ctx);
  }

  /**
   * Encodes `ctx.tokens` further tokens behind the `oldTokens` of `old`, whose codes stay as they are: appending never
   * quantizes a token twice.
   */
  async extend(
    old: QuantStreams | null,
    oldTokens: number,
    x: Coefficients,
    ctx: ChunkContext,
  ): Promise<QuantStreams> {
    const backend = this.#backend;
    const { groups, components } = this.#plan;
    const tokens = oldTokens + ctx.tokens;
    const codeBytes = packedLength(groups, tokens);
    const scratch = new Scratch(backend);
    try {
      const symbols = scratch.alloc(tokens * components);
      const params = scratch.alloc(ctx.tokens * groups.length * 4);
      const packed = scratch.alloc(codeBytes);
      if (old === null) {
        backend.quantize(x.buffer, x.stride, ctx.tokens, this.#plan, symbols, params);
      } else {
        const fresh = scratch.alloc(ctx.tokens * components);
        backend.unpack(scratch.upload(joinCodes(old.codes, groups, oldTokens)), this.#plan, oldTokens, symbols);
        backend.quantize(x.buffer, x.stride, ctx.tokens, this.#plan, fresh, params);
        backend.write(symbols, await backend.read(fresh, 0, ctx.tokens * components), oldTokens * components);
      }
      backend.pack(symbols, this.#plan, tokens, packed);
      const freshParams = asUint16(await backend.read(params, 0, ctx.tokens * groups.length * 4));
      this.#requireFinite(freshParams, groups.length, ctx);
      let allParams = freshParams;
      if (old !== null) {
        allParams = new Uint16Array(tokens * groups.length * 2);
        allParams.set(joinParams(old.params, oldTokens, groups.length));
        allParams.set(freshParams, oldTokens * groups.length * 2);
      }
      return {
        codes: splitCodes(await backend.read(packed, 0, codeBytes), groups, tokens),
        params: splitParams(allParams, tokens, groups.length),
      };
    } finally {
      scratch.free();
    }
  }

  /**
   * Like {@linkcode encode}, with everything left on a GPU, in rows, a byte a code. `scratch` has what it takes until they are
   * used; whoever reads the high bytes of shifts and scales calls {@linkcode requireFinite}.
   */
  encodeOnDevice(
    { entropy, codeStreams }: { readonly entropy: GpuEntropy; readonly codeStreams: GpuCodeStreams },
    x: Coefficients,
    ctx: ChunkContext,
    scratch: Scratch,
  ): DeviceStreams {
    const backend = this.#backend;
    const { groups, components } = this.#plan;
    const { tokens } = ctx;
    const symbols = scratch.alloc(tokens * components);
    const params = scratch.alloc(tokens * groups.length * 4);
    backend.quantize(x.buffer, x.stride, tokens, this.#plan, symbols, params);
    const bytes = streamBytes(groups, tokens, "bytes");
    const [int2, int4, fp8, low, high] = [bytes.int2, bytes.int4, bytes.fp8, bytes.low, bytes.high].map((length) =>
      scratch.alloc(length)
    );
    const ends = [0, 0, 0];
    for (const { first, size, type } of runsOf(groups)) {
      const part = { column: first, byte: ends[type - 1] };
      entropy.transpose(symbols, components, tokens, size, tokens, [int2, int4, fp8][type - 1], part);
      ends[type - 1] += size * tokens;
    }
    codeStreams.splitParams(params, groups.length, { chunks: 1, tokens }, low, high);
    return { int2, int4, fp8, low, high };
  }

  /**
   * @param high high bytes of shifts and scales, [2][groups][tokens]
   * @throws {KvzUnsupportedError} as `encode`
   */
  requireFinite(high: Uint8Array, ctx: ChunkContext): void {
    const at = high.findIndex((byte) => (byte & F16_EXPONENT >> 8) === F16_EXPONENT >> 8);
    if (at >= 0) throw tooLarge(ctx.positions[at % ctx.tokens]);
  }

  /** Coefficients of streams on a GPU, codes a byte each, which are known to be of this plan and to have no NaN. */
  restore(kernels: GpuCodeStreams, streams: DeviceStreams, ctx: ChunkContext): Coefficients {
    const coefficients = this.#coefficients(ctx.tokens);
    const { buffer, stride } = coefficients;
    kernels.restore(streams, "bytes", this.#plan, { chunks: 1, tokens: ctx.tokens }, buffer, stride);
    return coefficients;
  }

  /**
   * @throws {KvzFormatError} when streams have the wrong length or hold an infinite or NaN shift or scale.
   */
  decode(y: QuantStreams, ctx: ChunkContext): Coefficients {
    const backend = this.#backend;
    const { groups, components } = this.#plan;
    const { low, high } = y.params;
    const found = [...y.codes, low, high].map(({ length }) => length);
    const { codes, params: planes } = this.lengths(ctx.tokens);
    const wanted = [...codes, ...planes];
    if (wanted.some((length, i) => length !== found[i])) {
      throw new KvzFormatError(
        `Cannot dequantize: streams have ${found.join(", ")} bytes, expected ${wanted.join(", ")}`,
      );
    }
    requireFiniteParams(high);
    requireNoNaN(y.codes[2]);
    const coefficients = this.#coefficients(ctx.tokens);
    const scratch = new Scratch(backend);
    try {
      const kernels = backend.gpu?.codeStreams ?? null;
      if (kernels !== null) {
        const [int2, int4, fp8] = y.codes.map((codes) => scratch.upload(codes));
        const streams = { int2, int4, fp8, low: scratch.upload(low), high: scratch.upload(high) };
        const batch = { chunks: 1, tokens: ctx.tokens };
        kernels.restore(streams, "packed", this.#plan, batch, coefficients.buffer, coefficients.stride);
        return coefficients;
      }
      const packed = scratch.upload(joinCodes(y.codes, groups, ctx.tokens));
      const symbols = scratch.alloc(ctx.tokens * components);
      const params = scratch.upload(joinParams(y.params, ctx.tokens, groups.length));
      backend.unpack(packed, this.#plan, ctx.tokens, symbols);
      backend.dequantize(symbols, params, this.#plan, ctx.tokens, coefficients.buffer, coefficients.stride);
      return coefficients;
    } finally {
      scratch.free();
    }
  }

  [Symbol.dispose](): void {
    this.#plan.free();
  }

  #requireFinite(params: Uint16Array, groups: number, ctx: ChunkContext): void {
    for (let i = 0; i < params.length; i++) {
      if ((params[i] & F16_EXPONENT) !== F16_EXPONENT) continue;
      throw tooLarge(ctx.positions[Math.floor(i / (2 * groups))]);
    }
  }
}

function tooLarge(position: number): KvzUnsupportedError {
  return new KvzUnsupportedError(
    `Cannot quantize the token at position ${position}: a coefficient does not fit binary16 (65504)`,
  );
}

/** Groups of one type that follow each other, as one. */
function runsOf(groups: readonly QuantGroup[]): QuantGroup[] {
  const runs: QuantGroup[] = [];
  for (const group of groups) {
    const last = runs.at(-1);
    if (last !== undefined && last.type === group.type && last.first + last.size === group.first) {
      runs[runs.length - 1] = { ...last, size: last.size + group.size };
    } else {
      runs.push(group);
    }
  }
  return runs;
}

/** What is infinite or NaN in binary16 shows in its high byte. */
function requireFiniteParams(high: Uint8Array): void {
  for (const byte of high) {
    if ((byte & F16_EXPONENT >> 8) === F16_EXPONENT >> 8) {
      throw new KvzFormatError("Cannot dequantize: a shift or scale is not finite");
    }
  }
}

/** E4M3 has two NaN codes; no encoder writes them. */
function requireNoNaN(fp8: Uint8Array): void {
  for (const code of fp8) {
    if ((code & 0x7f) === 0x7f) throw new KvzFormatError("Cannot dequantize: a fp8 code is NaN");
  }
}
