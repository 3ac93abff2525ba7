/**
 * Matrix products on WebGPU, and the calls that join them with gather and scatter.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import { type BlockShape, type DeviceBasis, type DeviceBuffer, paddedLength } from "../backend.ts";
import { requireBlocks, requireBytes, requireCounts, requireFeatureRange } from "../check.ts";
import type { WebGpuBuffer } from "./buffer.ts";
import type { WebGpuDevice } from "./device.ts";
import { type BlockOperands, runLayout } from "./layout.ts";
import { rowRanges } from "./quantizer.ts";
import { products } from "./shaders/products.ts";

/** Rows and columns of a workgroup's result. */
const TILE = 64;
/** Bytes of feature rows between the two halves of a joint call: they stay in the cache of a large GPU. */
const BETWEEN_BYTES = 32 << 20;
/** Tokens that are worth a product of their own. */
const LEAST_TOKENS = 256;

/** Rows of the basis in a buffer that can be bound. */
interface Panel {
  readonly begin: number;
  readonly end: number;
  readonly buffer: WebGpuBuffer;
}

/** A basis as binary16 rows of paddedLength(features) elements, in panels of whole rows. */
class PanelBasis implements DeviceBasis {
  readonly components: number;
  readonly features: number;
  readonly byteLength: number;
  readonly owner: WebGpuDevice;
  readonly #panels: readonly Panel[];
  #freed = false;

  constructor(owner: WebGpuDevice, components: number, features: number, panels: readonly Panel[]) {
    this.owner = owner;
    this.components = components;
    this.features = features;
    this.byteLength = components * paddedLength(features) * 2;
    this.#panels = panels;
  }

  get panels(): readonly Panel[] {
    if (this.#freed) throw new KvzBackendError("Cannot use a basis: it was freed");
    return this.#panels;
  }

  free(): void {
    this.#freed = true;
    for (const { buffer } of this.#panels) buffer.free();
  }
}

/** The products of one device. */
export class WebGpuProducts {
  readonly #device: WebGpuDevice;

  constructor(device: WebGpuDevice) {
    this.#device = device;
  }

  /** Uploads checked rows. */
  uploadBasis(rows: Uint16Array, components: number, features: number): DeviceBasis {
    const stride = paddedLength(features);
    const panels: Panel[] = [];
    for (const { begin, end } of rowRanges(this.#device, components, stride * 2)) {
      const padded = new Uint16Array((end - begin) * stride);
      for (let c = begin; c < end; c++) {
        padded.set(rows.subarray(c * features, (c + 1) * features), (c - begin) * stride);
      }
      const buffer = this.#device.alloc(padded.byteLength);
      this.#device.write(buffer, padded, 0);
      panels.push({ begin, end, buffer });
    }
    return new PanelBasis(this.#device, components, features, panels);
  }

  /** Backend.project. */
  project(x: DeviceBuffer, tokens: number, basis: DeviceBasis, coefficients: DeviceBuffer): void {
    const { panels, components, features } = this.#basis(basis);
    requireCounts("project", { tokens });
    const [inStride, outStride] = [paddedLength(features), paddedLength(components)];
    requireBytes("project", "x", x.byteLength, tokens * inStride * 4);
    requireBytes("project", "coefficients", coefficients.byteLength, tokens * outStride * 4);
    for (const panel of panels) {
      this.#product({
        left: x,
        leftColumn: 0,
        leftStride: inStride,
        basis: panel.buffer,
        transposed: true,
        basisColumn: 0,
        basisStride: inStride,
        depth: features,
        rows: tokens,
        columns: panel.end - panel.begin,
        written: (panel.end === components ? outStride : panel.end) - panel.begin,
        result: coefficients,
        resultColumn: panel.begin,
        resultStride: outStride,
        added: false,
      });
    }
  }

  /** Backend.reconstruct. */
  reconstruct(
    coefficients: DeviceBuffer,
    tokens: number,
    basis: DeviceBasis,
    featureBegin: number,
    featureEnd: number,
    x: DeviceBuffer,
  ): void {
    const { panels, components, features } = this.#basis(basis);
    requireCounts("reconstruct", { tokens });
    requireFeatureRange(featureBegin, featureEnd, features);
    const [inStride, outStride] = [paddedLength(components), paddedLength(featureEnd - featureBegin)];
    requireBytes("reconstruct", "coefficients", coefficients.byteLength, tokens * inStride * 4);
    requireBytes("reconstruct", "x", x.byteLength, tokens * outStride * 4);
    // Without components the result is zero, which a product of no depth writes.
    const parts = panels.length > 0 ? panels : [{ begin: 0, end: 0, buffer: null }];
    for (const panel of parts) {
      this.#product({
        left: coefficients,
        leftColumn: panel.begin,
        leftStride: inStride,
        basis: panel.buffer,
        transposed: false,
        basisColumn: featureBegin,
        basisStride: paddedLength(features),
        depth: panel.end - panel.begin,
        rows: tokens,
        columns: featureEnd - featureBegin,
        written: outStride,
        result: x,
        resultColumn: 0,
        resultStride: outStride,
        added: panel.begin > 0,
      });
    }
  }

  /** Backend.gatherProject. */
  gatherProject(operands: Omit<BlockOperands, "rows">, basis: DeviceBasis, coefficients: DeviceBuffer): void {
    const { shape, elements, rotation, mean } = operands;
    const stride = paddedLength(this.#basis(basis).components) * 4;
    requireBytes("project", "coefficients", coefficients.byteLength, shape.tokens * stride);
    this.#between("gather", shape, elements, rotation, mean, (rows, begin, end) => {
      runLayout(this.#device, "gather", { ...operands, rows }, { begin, end });
      this.project(rows, end - begin, basis, this.#rows(coefficients, begin, end, stride));
    });
  }

  /** Backend.reconstructScatter. */
  reconstructScatter(
    coefficients: DeviceBuffer,
    basis: DeviceBasis,
    featureBegin: number,
    operands: Omit<BlockOperands, "rows">,
  ): void {
    const { shape, elements, rotation, mean } = operands;
    const stride = paddedLength(this.#basis(basis).components) * 4;
    const featureEnd = featureBegin + shape.blocks * shape.dim;
    requireBytes("reconstruct", "coefficients", coefficients.byteLength, shape.tokens * stride);
    this.#between("scatter", shape, elements, rotation, mean, (rows, begin, end) => {
      const part = this.#rows(coefficients, begin, end, stride);
      this.reconstruct(part, end - begin, basis, featureBegin, featureEnd, rows);
      runLayout(this.#device, "scatter", { ...operands, rows }, { begin, end });
    });
  }

  /** Runs a joint call over ranges of tokens, with memory for their feature rows. */
  #between(
    what: string,
    shape: BlockShape,
    elements: DeviceBuffer,
    rotation: DeviceBuffer | null,
    mean: DeviceBuffer | null,
    run: (rows: DeviceBuffer, begin: number, end: number) => void,
  ): void {
    const { blocks, dim, tokens } = shape;
    const stride = paddedLength(blocks * dim) * 4;
    // Rows are as long as they have to be; all else is checked.
    requireBlocks(what, shape, elements, { byteLength: Infinity, free: () => {} }, rotation, mean);
    if (tokens === 0) return;
    const fitting = Math.max(LEAST_TOKENS, Math.floor(BETWEEN_BYTES / Math.max(1, stride)));
    const most = Math.floor(this.#device.mostBytes / Math.max(1, stride));
    // Views of coefficient rows (multiples of 32 bytes) begin at multiples of 256 bytes.
    const step = Math.max(8, Math.floor(Math.min(fitting, most) / 8) * 8);
    const rows = this.#device.alloc(Math.min(step, tokens) * stride);
    for (let begin = 0; begin < tokens; begin += step) run(rows, begin, Math.min(tokens, begin + step));
    rows.free();
  }

  #rows(buffer: DeviceBuffer, begin: number, end: number, stride: number): DeviceBuffer {
    return this.#device.buffer(buffer).view(begin * stride, (end - begin) * stride);
  }

  #basis(basis: DeviceBasis): PanelBasis {
    if (!(basis instanceof PanelBasis) || basis.owner !== this.#device) {
      throw new KvzBackendError("Cannot use a basis: it belongs to another backend");
    }
    return basis;
  }

  #product(
    { left, leftColumn, leftStride, basis, transposed, basisColumn, basisStride, ...of }: {
      readonly left: DeviceBuffer;
      readonly leftColumn: number;
      readonly leftStride: number;
      /** null: there is no basis, the depth is 0. */
      readonly basis: DeviceBuffer | null;
      readonly transposed: boolean;
      readonly basisColumn: number;
      readonly basisStride: number;
      readonly depth: number;
      readonly rows: number;
      readonly columns: number;
      readonly written: number;
      readonly result: DeviceBuffer;
      readonly resultColumn: number;
      readonly resultStride: number;
      readonly added: boolean;
    },
  ): void {
    const { depth, rows, columns, written, result, resultColumn, resultStride, added } = of;
    if (written === 0) return;
    for (const { begin, end } of rowRanges(this.#device, rows, Math.max(leftStride, resultStride) * 4)) {
      const from = this.#device.range(left, begin * leftStride * 4, end * leftStride * 4);
      const to = this.#device.range(result, begin * resultStride * 4, end * resultStride * 4);
      this.#device.dispatch({
        shader: products,
        entry: "product",
        constants: { TRANSPOSED: Number(transposed), ADDED: Number(added) },
        buffers: [from.range, basis ?? from.range, to.range],
        uniforms: Uint32Array.of(
          end - begin,
          columns,
          depth,
          from.skip / 4 + leftColumn,
          leftStride,
          basisColumn,
          basisStride,
          to.skip / 4 + resultColumn,
          resultStride,
          written,
          0,
          0,
        ),
        workgroups: this.#device.grid(Math.ceil((end - begin) / TILE) * Math.ceil(written / TILE)),
      });
    }
  }
}
