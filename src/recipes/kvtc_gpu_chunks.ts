/**
 * What recipe kvtc with rANS does with a chunk on a GPU that has all kernels: codes stay there, as rows of bytes.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../backend/backend.ts";
import type { GpuCodeStreams } from "../backend/gpu/code_streams.ts";
import type { GpuEntropy } from "../backend/gpu/entropy.ts";
import type { CodedStream } from "../stages/entropy/deflate.ts";
import { openGpuRans } from "../stages/entropy/rans_factory.ts";
import { allInOrder } from "../stages/in_order.ts";
import { GpuForms } from "../stages/quantize/coded_streams_gpu.ts";
import type { GroupQuantizer } from "../stages/quantize/groups.ts";
import type { RowForm } from "../stages/quantize/row_forms.ts";
import { withScratch } from "../stages/scratch.ts";
import type { ChunkContext } from "../stages/stage.ts";
import type { Coefficients, PcaTransform } from "../stages/transform/pca.ts";
import type { TaggedStream } from "./recipe.ts";

/** The stages of one kind. */
interface Stages {
  readonly pca: PcaTransform;
  readonly groups: GroupQuantizer;
  readonly forms: readonly RowForm[];
}

/** Opens it; null where the backend lacks kernels. */
export async function openGpuChunks(backend: Backend): Promise<KvtcGpuChunks | null> {
  const { entropy = null, codeStreams = null } = backend.gpu ?? {};
  if (entropy === null || codeStreams === null) return null;
  const rans = await openGpuRans(backend);
  return rans && new KvtcGpuChunks(backend, { entropy, codeStreams }, new GpuForms(backend, entropy, rans));
}

/** The kernels that it runs beside every backend's. */
interface Kernels {
  readonly entropy: GpuEntropy;
  readonly codeStreams: GpuCodeStreams;
}

/** Codes chunks on one backend. */
export class KvtcGpuChunks {
  readonly #backend: Backend;
  readonly #kernels: Kernels;
  readonly #forms: GpuForms;

  constructor(backend: Backend, kernels: Kernels, forms: GpuForms) {
    this.#backend = backend;
    this.#kernels = kernels;
    this.#forms = forms;
  }

  /**
   * The streams of a chunk of one kind.
   *
   * @throws {KvzUnsupportedError} when a coefficient does not fit binary16
   */
  async encode(
    elements: Uint8Array | DeviceBuffer,
    { pca, groups, forms }: Stages,
    ctx: ChunkContext,
  ): Promise<CodedStream[]> {
    return await withScratch(this.#backend, async (scratch) => {
      // The coefficients' buffer is the next job's: nothing is awaited between them and their use.
      const streams = groups.encodeOnDevice(this.#kernels, pca.encode(elements, ctx), ctx, scratch);
      const rows = [streams.int2, streams.int4, streams.fp8, streams.low, streams.high];
      const check = (high: Uint8Array) => groups.requireFinite(high, ctx);
      return await allInOrder(
        rows.map((row, i) => this.#forms.encode(forms[i], ctx.tokens, row, row === streams.high ? check : undefined)),
      );
    });
  }

  /** Calls `use` with a chunk's coefficients, whose buffer is the next job's when it returns. */
  async decode<T>(
    streams: readonly TaggedStream[],
    { groups, forms }: Stages,
    ctx: ChunkContext,
    use: (coefficients: Coefficients) => T | Promise<T>,
  ): Promise<T> {
    return await withScratch(this.#backend, async (scratch) => {
      const rows = forms.map((form) => scratch.alloc(form.rows * ctx.tokens));
      await allInOrder(
        streams.map((stream, i) => this.#forms.decodeTo(forms[i], ctx.tokens, stream, `stream ${stream.tag}`, rows[i])),
      );
      const [int2, int4, fp8, low, high] = rows;
      return await use(groups.restore(this.#kernels.codeStreams, { int2, int4, fp8, low, high }, ctx));
    });
  }
}
