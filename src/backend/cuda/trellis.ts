/**
 * The trellis kernels in CUDA (cuda/trellis.cu): the way back, and what the entropy coder is told.
 *
 * @module
 */
import { MODES, type TrellisModel } from "../../stages/quantize/trellis/model.ts";
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
import type { CudaDevice } from "./device.ts";
import { CudaTrellisEncoder } from "./trellis_encoder.ts";

/** Models in device memory. */
export class CudaModels implements DeviceModels {
  readonly count: number;
  readonly components: number;
  /** i8 [models][5][components]. */
  readonly rho32: DeviceBuffer;
  /** u8 [models][5][components]. */
  readonly base: DeviceBuffer;
  /** u16 [128][256]. */
  readonly bits: DeviceBuffer;
  /** u8 [128]. */
  readonly limits: DeviceBuffer;

  constructor(device: CudaDevice, models: readonly TrellisModel[]) {
    requireModels(models);
    const [{ components, bits, limits }] = models;
    this.count = models.length;
    this.components = components;
    const length = models.length * MODES * components;
    this.rho32 = uploaded(device, joined(models.map((model) => model.rho32), new Int8Array(length)));
    this.base = uploaded(device, joined(models.map((model) => model.base), new Uint8Array(length)));
    this.bits = uploaded(device, bits);
    this.limits = uploaded(device, limits);
  }

  free(): void {
    for (const buffer of [this.rho32, this.base, this.bits, this.limits]) buffer.free();
  }
}

/** The kernels. */
export class CudaTrellis implements GpuTrellis {
  readonly encoder: GpuTrellisEncoder;
  readonly #device: CudaDevice;

  constructor(device: CudaDevice) {
    this.#device = device;
    this.encoder = new CudaTrellisEncoder(device);
  }

  uploadModels(models: readonly TrellisModel[]): DeviceModels {
    return new CudaModels(this.#device, models);
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
    const { rho32, base, limits } = models as CudaModels;
    const device = this.#device;
    const stride = levelStride(components);
    const groups = tokenGroups(tokens);
    const counts = [{ u32: components }, { u32: tokens }];
    const modelCount = { u32: models.count };
    const places = device.alloc(chunks * components * groups * 4);
    try {
      device.launch("trellis", "trellisCountEscapes", {
        grid: [Math.ceil(components * groups / 256), chunks, 1],
        block: [256, 1, 1],
      }, [symbols, ...counts, { u32: groups }, places]);
      device.launch("trellis", "trellisScan", { grid: [chunks, 1, 1], block: [1024, 1, 1] }, [
        places,
        { u32: components * groups },
        null,
        escapes.begins,
        status,
      ]);
      device.launch("trellis", "trellisWalk", { grid: [Math.ceil(tokens / 128), chunks, 1], block: [128, 1, 1] }, [
        symbols,
        ...counts,
        { u32: stride },
        { u32: groups },
        places,
        escapes.values,
        { u32: Math.min(Math.floor(escapes.values.byteLength / 4), 0xffffffff) },
        escapes.begins,
        base,
        limits,
        side.models,
        modelCount,
        side.words,
        side.offsets,
        quarters,
        status,
      ]);
      device.launch(
        "trellis",
        "trellisPredict",
        { grid: [Math.ceil(components / 256), chunks, 1], block: [128, 1, 1] },
        [
          ...counts,
          { u32: stride },
          rho32,
          side.models,
          modelCount,
          side.words,
          quarters,
          status,
        ],
      );
    } finally {
      places.free();
    }
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
    this.#device.launch("trellis", "trellisContexts", {
      grid: [Math.ceil(Math.max(components, tokens) / 256), chunks, 1],
      block: [256, 1, 1],
    }, [
      { u32: components },
      { u32: tokens },
      (models as CudaModels).base,
      side.models,
      { u32: models.count },
      side.words,
      side.offsets,
      classes,
      kinds,
    ]);
  }
}

/** A buffer with these contents. */
function uploaded(device: CudaDevice, data: ArrayBufferView): DeviceBuffer {
  const buffer = device.alloc(Math.max(16, data.byteLength));
  device.write(buffer, data);
  return buffer;
}
