/**
 * What the lanes of kvsharer with an inner recipe run: that recipe's codec on the layers that have keys and values of their
 * own; the others come back as copies of their sources.
 *
 * @module
 */
import type { Backend } from "../../backend/backend.ts";
import { requireFinite } from "../../cache/finite.ts";
import { pickLayers, storedLayers } from "../../stages/sharing/layer_map.ts";
import type { ChunkCodec, DecodeJob, EncodeJob, InflateJob, Setup, TaggedStream } from "../recipe.ts";
import { recipeNamed } from "../registry.ts";
import type { OwnLayersSetup } from "./with_profile.ts";

/** Makes the codec. */
export async function openCodec(backend: Backend, setup: Setup): Promise<ChunkCodec> {
  const { own } = setup as OwnLayersSetup;
  const inner = (await recipeNamed(own.recipe))!;
  return new OwnLayersCodec(await inner.open(backend, own), setup as OwnLayersSetup);
}

class OwnLayersCodec implements ChunkCodec {
  readonly #inner: ChunkCodec;
  readonly #setup: Pick<OwnLayersSetup, "model" | "storedDType">;
  readonly #stored: readonly number[];
  /** Place of each layer's source among the stored ones. */
  readonly #places: readonly number[];

  constructor(inner: ChunkCodec, { model, storedDType, map }: OwnLayersSetup) {
    this.#inner = inner;
    this.#setup = { model, storedDType };
    this.#stored = storedLayers(map);
    this.#places = map.map((source) => this.#stored.indexOf(source));
  }

  get jobs(): number {
    return this.#inner.jobs ?? 1;
  }

  async encode(job: EncodeJob): Promise<TaggedStream[]> {
    const { region, kinds, tokens, begin } = job;
    const { model: { layers, kvHeads: heads, keyDim, valueDim }, storedDType } = this.#setup;
    const data = job.data.map((bytes, i) => {
      const kind = kinds[i];
      const dim = kind === "key" ? keyDim : valueDim;
      // Here, where layers have the model's numbers. A window keeps every bit.
      if (region !== "window") requireFinite(bytes, storedDType, { kind, heads, tokens, dim, firstToken: begin });
      return pickLayers(bytes, layers, this.#stored);
    });
    return await this.#inner.encode({ ...job, data });
  }

  async decode(job: DecodeJob): Promise<Uint8Array[]> {
    const places = this.#places.slice(job.layerBegin, job.layerEnd);
    const first = Math.min(...places);
    const layerEnd = Math.max(...places) + 1;
    const own = await this.#inner.decode({ ...job, layerBegin: first, layerEnd });
    return own.map((bytes) => pickLayers(bytes, layerEnd - first, places.map((place) => place - first)));
  }

  async inflate(job: InflateJob): Promise<TaggedStream[]> {
    return await this.#inner.inflate(job);
  }

  [Symbol.dispose](): void {
    this.#inner[Symbol.dispose]();
  }
}
