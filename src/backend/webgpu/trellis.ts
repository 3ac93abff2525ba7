/**
 * The trellis kernels in WGSL (wgsl/trellis_*.wgsl): the way back, and what the entropy coder is told.
 *
 * @module
 */
import { MODES, TABLES, type TrellisModel } from "../../stages/quantize/trellis/model.ts";
import type { DeviceBuffer } from "../backend.ts";
import {
  type DeviceModels,
  type EscapeBuffers,
  type GpuTrellis,
  type GpuTrellisEncoder,
  levelStride,
  type SideBuffers,
  type TrellisBatch,
} from "../gpu/trellis.ts";
import { joined, requireContextBuffers, requireDecoding, requireModels, tokenGroups } from "../gpu/trellis_check.ts";
import type { BufferRange, WebGpuDevice } from "./device.ts";
import { trellisClasses } from "./shaders/trellis_classes.ts";
import { trellisKinds } from "./shaders/trellis_kinds.ts";
import { trellisPlaces } from "./shaders/trellis_places.ts";
import { trellisPredict } from "./shaders/trellis_predict.ts";
import { trellisScan } from "./shaders/trellis_scan.ts";
import { trellisWalk } from "./shaders/trellis_walk.ts";
import { WebGpuTrellisEncoder } from "./trellis_encoder.ts";

/** Models in device memory. */
export class WebGpuModels implements DeviceModels {
  readonly count: number;
  readonly components: number;
  /** i8 [models][5][components]. */
  readonly rho32: DeviceBuffer;
  /** u8 [models][5][components]. */
  readonly base: DeviceBuffer;
  /** u16 [128][256], costs of symbols, then u8 [128], the limits. */
  readonly rates: DeviceBuffer;

  constructor(device: WebGpuDevice, models: readonly TrellisModel[]) {
    requireModels(models);
    const [{ components, bits, limits }] = models;
    this.count = models.length;
    this.components = components;
    const length = models.length * MODES * components;
    const upload = (...parts: readonly (Uint8Array | Int8Array | Uint16Array)[]) => {
      const buffer = device.alloc(parts.reduce((sum, { byteLength }) => sum + byteLength, 0));
      let at = 0;
      for (const part of parts) {
        device.write(buffer, part, at);
        at += part.byteLength;
      }
      return buffer;
    };
    this.rho32 = upload(joined(models.map((model) => model.rho32), new Int8Array(length)));
    this.base = upload(joined(models.map((model) => model.base), new Uint8Array(length)));
    this.rates = upload(bits, limits);
  }

  /** u8 [128]. */
  get limits(): BufferRange {
    return { buffer: this.rates, byteOffset: TABLES * 512, byteLength: TABLES };
  }

  free(): void {
    for (const buffer of [this.rho32, this.base, this.rates]) buffer.free();
  }
}

/** The kernels. */
export class WebGpuTrellis implements GpuTrellis {
  readonly encoder: GpuTrellisEncoder;
  readonly #device: WebGpuDevice;

  constructor(device: WebGpuDevice) {
    this.#device = device;
    this.encoder = new WebGpuTrellisEncoder(device);
  }

  uploadModels(models: readonly TrellisModel[]): DeviceModels {
    return new WebGpuModels(this.#device, models);
  }

  decode(
    models: DeviceModels,
    batch: TrellisBatch,
    side: SideBuffers,
    symbols: DeviceBuffer,
    escapes: EscapeBuffers,
    quarters: DeviceBuffer,
    status: DeviceBuffer,
  ): void {
    requireDecoding(models, batch, side, symbols, escapes, quarters, status);
    const { chunks, components, tokens } = batch;
    if (chunks === 0) return;
    const device = this.#device;
    const { rho32, base, limits } = models as WebGpuModels;
    const stride = levelStride(components);
    const groups = tokenGroups(tokens);
    const uniforms = sizesOf(batch);
    const places = device.alloc(chunks * components * groups * 4);
    const bounds = device.alloc(chunks * components * 32);
    device.dispatch({
      shader: trellisPlaces,
      entry: "count_escapes",
      buffers: [symbols, places],
      uniforms,
      workgroups: device.grid(Math.ceil(chunks * components * groups / 64)),
    });
    device.dispatch({
      shader: trellisScan,
      entry: "scan_counts",
      buffers: [escapes.begins, places, status],
      uniforms,
      workgroups: [chunks, 1, 1],
    });
    device.dispatch({
      shader: trellisClasses,
      entry: "bounds_of",
      buffers: [base, side.models, side.offsets, limits, bounds],
      uniforms,
      workgroups: [Math.ceil(components / 64), chunks, 1],
    });
    device.dispatch({
      shader: trellisWalk,
      entry: "walk",
      buffers: [symbols, places, escapes.values, escapes.begins, side.words, bounds, quarters, status],
      uniforms,
      workgroups: [Math.ceil(tokens / 64), chunks, 1],
    });
    device.dispatch({
      shader: trellisPredict,
      entry: "predict",
      buffers: [rho32, side.models, side.words, quarters, status],
      uniforms,
      workgroups: [Math.ceil(stride / 128), chunks, 1],
    });
    places.free();
    bounds.free();
  }

  contexts(
    models: DeviceModels,
    batch: TrellisBatch,
    side: SideBuffers,
    classes: DeviceBuffer,
    kinds: DeviceBuffer,
  ): void {
    requireContextBuffers(models, batch, side, classes, kinds);
    const { chunks, components, tokens } = batch;
    if (chunks === 0) return;
    const device = this.#device;
    const uniforms = sizesOf(batch);
    device.dispatch({
      shader: trellisClasses,
      entry: "classes_of",
      buffers: [(models as WebGpuModels).base, side.models, side.offsets, classes],
      uniforms,
      workgroups: [Math.ceil(components / 64), chunks, 1],
    });
    device.dispatch({
      shader: trellisKinds,
      entry: "kinds_of",
      buffers: [side.words, kinds],
      uniforms,
      workgroups: device.grid(Math.ceil(chunks * tokens / 256)),
    });
  }
}

/** `Sizes` of wgsl/include/trellis.wgsl. */
export function sizesOf({ chunks, components, tokens }: TrellisBatch, begin = 0, end = 0, weight = 0): Uint32Array {
  const [stride, groups] = [levelStride(components), tokenGroups(tokens)];
  return Uint32Array.of(chunks, components, tokens, stride, groups, begin, end, weight);
}
