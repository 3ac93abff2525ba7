/**
 * The trellis kernels in WGSL (wgsl/trellis_*.wgsl): the way there.
 *
 * @module
 */
import { PROXY_BUCKETS, proxyCosts } from "../../stages/quantize/trellis/cost.ts";
import { CLASSES, MODES, type TrellisModel } from "../../stages/quantize/trellis/model.ts";
import type { DeviceBuffer } from "../backend.ts";
import { requireBytes, requireCounts } from "../check.ts";
import {
  type CodedBuffers,
  type CoefficientBuffers,
  type DeviceModels,
  type DeviceWeight,
  type GpuTrellisEncoder,
  levelStride,
  type SideBuffers,
  type TrellisBatch,
} from "../gpu/trellis.ts";
import {
  requireCodedLevels,
  requireCoefficients,
  requireEncoding,
  requireWeight,
  tokenGroups,
} from "../gpu/trellis_check.ts";
import type { WebGpuBuffer } from "./buffer.ts";
import type { WebGpuDevice } from "./device.ts";
import { trellisCoefficients } from "./shaders/trellis_coefficients.ts";
import { trellisEncode } from "./shaders/trellis_encode.ts";
import { trellisEnergies } from "./shaders/trellis_energies.ts";
import { trellisFacts } from "./shaders/trellis_facts.ts";
import { trellisScan } from "./shaders/trellis_scan.ts";
import { trellisSymbols } from "./shaders/trellis_symbols.ts";
import { WebGpuSymbols } from "./symbols.ts";
import { sizesOf, type WebGpuModels } from "./trellis.ts";

/** Tokens that a dispatch quantizes at most: llvmpipe leaves all loops of an invocation after 65,535 rounds in sum. */
const MOST_TOKENS = 32;

/** λ and the proxy's costs. */
class WebGpuWeight implements DeviceWeight {
  readonly weight: number;
  /** i32 [64][160]. */
  readonly costs: WebGpuBuffer;

  constructor(device: WebGpuDevice, model: TrellisModel, weight: number) {
    requireWeight(weight);
    this.weight = weight;
    this.costs = device.alloc(CLASSES * PROXY_BUCKETS * 4);
    device.write(this.costs, proxyCosts(model, weight), 0);
  }

  free(): void {
    this.costs.free();
  }
}

/** The kernels of the encoder. */
export class WebGpuTrellisEncoder implements GpuTrellisEncoder {
  readonly #device: WebGpuDevice;
  readonly #symbols: WebGpuSymbols;
  readonly #mostCoefficients: number;

  /** @param mostCoefficients of all chunks that a dispatch quantizes at most, so that it ends soon on a slow device too */
  constructor(device: WebGpuDevice, mostCoefficients: number = 1 << 21) {
    this.#device = device;
    this.#mostCoefficients = mostCoefficients;
    this.#symbols = new WebGpuSymbols(device);
  }

  get mostBytes(): number {
    return this.#device.mostBytes;
  }

  uploadWeight(model: TrellisModel, weight: number): DeviceWeight {
    return new WebGpuWeight(this.#device, model, weight);
  }

  magnitudes(coefficients: CoefficientBuffers, batch: TrellisBatch, largest: DeviceBuffer): void {
    const what = "measure coefficients";
    requireCoefficients(what, coefficients, batch);
    const { chunks, tokens } = batch;
    requireBytes(what, "largest", largest.byteLength, chunks * 16);
    if (chunks === 0) return;
    const uniforms = coefficientArguments(coefficients, batch, 0);
    const found = this.#device.alloc(chunks * tokens * 16);
    this.#device.dispatch({
      shader: trellisCoefficients,
      entry: "magnitudes",
      buffers: [coefficients.first, coefficients.second, found],
      uniforms,
      workgroups: [Math.ceil(tokens / 64), chunks, 1],
    });
    this.#device.dispatch({
      shader: trellisCoefficients,
      entry: "largest_of",
      buffers: [found, largest],
      uniforms,
      workgroups: [chunks, 1, 1],
    });
    found.free();
  }

  substeps(
    coefficients: CoefficientBuffers,
    batch: TrellisBatch,
    first: number,
    factors: DeviceBuffer,
    rows: DeviceBuffer,
  ): void {
    const what = "scale coefficients";
    requireCoefficients(what, coefficients, batch);
    requireCounts(what, { first });
    const { chunks, components, tokens } = batch;
    const stride = levelStride(components);
    requireBytes(what, "factors", factors.byteLength, chunks * 8);
    requireBytes(what, "rows", rows.byteLength, chunks * (first + tokens) * stride * 4);
    if (chunks === 0) return;
    this.#device.dispatch({
      shader: trellisCoefficients,
      entry: "substeps",
      buffers: [coefficients.first, coefficients.second, factors, rows],
      uniforms: coefficientArguments(coefficients, batch, first),
      workgroups: this.#device.grid(Math.ceil(chunks * tokens * stride / 64)),
    });
  }

  encode(
    models: DeviceModels,
    weight: DeviceWeight,
    batch: TrellisBatch,
    first: number,
    rows: DeviceBuffer,
    coded: CodedBuffers,
    side: SideBuffers,
  ): void {
    requireEncoding(models, batch, first, rows, coded, side);
    const { chunks, components, tokens } = batch;
    if (chunks === 0 || first >= tokens) return;
    const device = this.#device;
    const { rates } = models as WebGpuModels;
    const branches = device.alloc(chunks * levelStride(components) * 16);
    const uniforms = sizesOf(batch, first, tokens);
    const step = Math.max(1, Math.min(MOST_TOKENS, Math.floor(this.#mostCoefficients / (chunks * components))));
    const walk = (facts: WebGpuBuffer, choose: boolean) => {
      for (let begin = first; begin < tokens; begin += step) {
        // A submission of its own: devices are reset when one takes seconds.
        if (begin > first) device.flush();
        device.dispatch({
          shader: trellisEncode,
          entry: "encode",
          constants: { CHOOSE: Number(choose) },
          buffers: [
            ...[rates, facts, rows, coded.levels, coded.reconstruction, side.words, branches],
            (weight as WebGpuWeight).costs,
          ],
          uniforms: sizesOf(batch, begin, Math.min(tokens, begin + step), weight.weight),
          workgroups: [chunks, 1, 1],
        });
      }
    };
    const energies = (facts: WebGpuBuffer) =>
      device.dispatch({
        shader: trellisEnergies,
        entry: "energies",
        buffers: [rates, facts, coded.levels, side.words],
        uniforms,
        workgroups: device.grid(chunks * (tokens - first)),
      });
    let facts = this.#facts(models, batch, side, first > 0);
    walk(facts, true);
    energies(facts);
    if (first === 0) {
      device.dispatch({
        shader: trellisEnergies,
        entry: "choose_offsets",
        buffers: [rates, facts, coded.levels, side.words, side.offsets],
        uniforms,
        workgroups: device.grid(Math.ceil(chunks * components / 64)),
      });
      facts.free();
      facts = this.#facts(models, batch, side, true);
    }
    energies(facts);
    walk(facts, false);
    facts.free();
    branches.free();
  }

  symbols(
    models: DeviceModels,
    batch: TrellisBatch,
    side: SideBuffers,
    levels: DeviceBuffer,
    symbols: DeviceBuffer,
    places: DeviceBuffer,
    lengths: DeviceBuffer,
  ): void {
    const what = "make symbols";
    requireCodedLevels(what, models, batch, side, levels, places, lengths);
    const { chunks, components, tokens } = batch;
    requireBytes(what, "symbols", symbols.byteLength, chunks * components * tokens);
    if (chunks === 0) return;
    const device = this.#device;
    const uniforms = sizesOf(batch);
    const facts = this.#facts(models, batch, side, true);
    // The kernel writes whole words; rows of other lengths are put together afterwards.
    const padded = tokens % 4 === 0 ? null : device.alloc(chunks * components * (tokens + 3 & ~3));
    device.dispatch({
      shader: trellisSymbols,
      entry: "symbols_of",
      buffers: [(models as WebGpuModels).limits, facts, side.words, levels, padded ?? symbols, places],
      uniforms,
      workgroups: [tokenGroups(tokens), Math.ceil(components / 32), chunks],
    });
    facts.free();
    if (padded !== null) {
      this.#symbols.unpad(padded, chunks * components, tokens, symbols, 0);
      padded.free();
    }
    device.dispatch({
      shader: trellisScan,
      entry: "scan_lengths",
      buffers: [lengths, places],
      uniforms,
      workgroups: [chunks, 1, 1],
    });
  }

  escapes(
    models: DeviceModels,
    batch: TrellisBatch,
    side: SideBuffers,
    levels: DeviceBuffer,
    places: DeviceBuffer,
    lengths: DeviceBuffer,
    begins: DeviceBuffer,
    bytes: DeviceBuffer,
  ): void {
    const what = "write escapes";
    requireCodedLevels(what, models, batch, side, levels, places, lengths);
    const { chunks, components, tokens } = batch;
    requireBytes(what, "begins", begins.byteLength, chunks * 4);
    if (chunks === 0) return;
    const facts = this.#facts(models, batch, side, true);
    this.#device.dispatch({
      shader: trellisSymbols,
      entry: "write_escapes",
      buffers: [(models as WebGpuModels).limits, facts, side.words, levels, places, lengths, begins, bytes],
      uniforms: sizesOf(batch),
      workgroups: [Math.ceil(components * tokenGroups(tokens) / 64), chunks, 1],
    });
    facts.free();
  }

  /** What kernels know of each chunk's components, u32 [chunks][modes][components]. */
  #facts(models: DeviceModels, batch: TrellisBatch, side: SideBuffers, offsets: boolean): WebGpuBuffer {
    const { chunks, components } = batch;
    const { rho32, base } = models as WebGpuModels;
    const facts = this.#device.alloc(chunks * MODES * components * 4);
    this.#device.dispatch({
      shader: trellisFacts,
      entry: "facts_of",
      constants: { OFFSETS: Number(offsets) },
      buffers: [rho32, base, side.models, side.offsets, facts],
      uniforms: sizesOf(batch),
      workgroups: [Math.ceil(components / 64), chunks, 1],
    });
    return facts;
  }
}

/** `Coefficients` of wgsl/trellis_coefficients.wgsl. */
function coefficientArguments(
  { stride, gain }: CoefficientBuffers,
  { chunks, components, tokens }: TrellisBatch,
  first: number,
): Uint32Array {
  const [bits] = new Uint32Array(Float32Array.of(gain).buffer);
  return Uint32Array.of(chunks, components, tokens, stride, levelStride(components), first, bits, 0);
}
