/**
 * The trellis kernels in CUDA (cuda/trellis_encode.cu, cuda/trellis_levels.cu): the way there.
 *
 * @module
 */
import { PROXY_BUCKETS, proxyCosts } from "../../stages/quantize/trellis/cost.ts";
import { CLASSES, type TrellisModel } from "../../stages/quantize/trellis/model.ts";
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
import type { CudaDevice } from "./device.ts";
import type { CudaModels } from "./trellis.ts";

/** λ and the proxy's costs. */
class CudaWeight implements DeviceWeight {
  readonly weight: number;
  /** i32 [64][160]. */
  readonly costs: DeviceBuffer;

  constructor(device: CudaDevice, model: TrellisModel, weight: number) {
    requireWeight(weight);
    this.weight = weight;
    this.costs = device.alloc(CLASSES * PROXY_BUCKETS * 4);
    device.write(this.costs, proxyCosts(model, weight));
  }

  free(): void {
    this.costs.free();
  }
}

/** The kernels of the encoder. */
export class CudaTrellisEncoder implements GpuTrellisEncoder {
  readonly mostBytes = Infinity;
  readonly #device: CudaDevice;

  constructor(device: CudaDevice) {
    this.#device = device;
  }

  uploadWeight(model: TrellisModel, weight: number): DeviceWeight {
    return new CudaWeight(this.#device, model, weight);
  }

  magnitudes(coefficients: CoefficientBuffers, batch: TrellisBatch, largest: DeviceBuffer): void {
    const what = "measure coefficients";
    requireCoefficients(what, coefficients, batch);
    const { chunks, components, tokens } = batch;
    requireBytes(what, "largest", largest.byteLength, chunks * 16);
    if (chunks === 0) return;
    this.#device.write(largest, new Float64Array(2 * chunks));
    const { first, second, gain, stride } = coefficients;
    this.#device.launch("trellis_levels", "trellisMagnitudes", {
      grid: [Math.ceil(tokens / 128), chunks, 1],
      block: [128, 1, 1],
    }, [first, second, { f32: gain }, { u32: stride }, { u32: components }, { u32: tokens }, largest]);
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
    const rowStride = levelStride(components);
    requireBytes(what, "factors", factors.byteLength, chunks * 8);
    requireBytes(what, "rows", rows.byteLength, chunks * (first + tokens) * rowStride * 4);
    if (chunks === 0) return;
    const { gain, stride } = coefficients;
    this.#device.launch("trellis_levels", "trellisSubsteps", {
      grid: [Math.ceil(rowStride / 256), tokens, chunks],
      block: [256, 1, 1],
    }, [
      coefficients.first,
      coefficients.second,
      { f32: gain },
      { u32: stride },
      { u32: components },
      { u32: tokens },
      { u32: rowStride },
      { u32: first },
      factors,
      rows,
    ]);
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
    const stride = levelStride(components);
    if (chunks === 0 || first >= tokens) return;
    const device = this.#device;
    const { rho32, base, bits, limits } = models as CudaModels;
    const sizes = [{ u32: components }, { u32: tokens }, { u32: stride }];
    const offsets = first === 0 ? null : side.offsets;
    // Odd, so that threads that walk one segment each read different banks.
    const segment = Math.ceil(components / 32) | 1;
    const walk = (kernel: string, shifts: DeviceBuffer | null) =>
      device.launch("trellis_encode", kernel, {
        grid: [chunks, 1, 1],
        block: [256, 1, 1],
        shared: 18 * stride,
      }, [
        ...sizes,
        { u32: first },
        { i32: weight.weight },
        { u32: segment },
        bits,
        limits,
        rho32,
        base,
        (weight as CudaWeight).costs,
        side.models,
        rows,
        coded.levels,
        coded.reconstruction,
        side.words,
        shifts,
      ]);
    const energies = (shifts: DeviceBuffer | null) =>
      device.launch("trellis_encode", "trellisEnergies", {
        grid: [Math.ceil((tokens - first) / 8), chunks, 1],
        block: [256, 1, 1],
      }, [...sizes, { u32: first }, bits, limits, base, side.models, coded.levels, side.words, shifts]);
    walk("trellisChoose", offsets);
    energies(offsets);
    if (first === 0) {
      device.launch("trellis_encode", "trellisOffsets", {
        grid: [Math.ceil(components / 128), chunks, 1],
        block: [128, 1, 1],
      }, [...sizes, bits, limits, base, side.models, coded.levels, side.words, side.offsets]);
    }
    energies(side.offsets);
    walk("trellisQuantize", side.offsets);
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
    this.#device.launch("trellis_levels", "trellisSymbols", {
      grid: [Math.ceil(tokens / 128), Math.ceil(components / 32), chunks],
      block: [256, 1, 1],
    }, [...sharedArguments(models, batch, side, levels), symbols, places]);
    this.#device.launch("trellis", "trellisScan", { grid: [chunks, 1, 1], block: [1024, 1, 1] }, [
      places,
      { u32: components * tokenGroups(tokens) },
      lengths,
      null,
      null,
    ]);
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
    this.#device.launch("trellis_levels", "trellisEscapes", {
      grid: [Math.ceil(components * tokenGroups(tokens) / 256), chunks, 1],
      block: [256, 1, 1],
    }, [...sharedArguments(models, batch, side, levels), places, lengths, begins, bytes]);
  }
}

/** First arguments of the kernels of `symbols` and `escapes`. */
function sharedArguments(models: DeviceModels, batch: TrellisBatch, side: SideBuffers, levels: DeviceBuffer) {
  const { components, tokens } = batch;
  const { base, limits } = models as CudaModels;
  const counts = [components, tokens, levelStride(components), tokenGroups(tokens)];
  return [...counts.map((u32) => ({ u32 })), limits, base, side.models, side.words, side.offsets, levels];
}
