/**
 * The measurement within Chromium: the page that bench/ttft/chromium.ts serves. Files lie in the origin's private file
 * system.
 *
 * @module
 */
import { castCache, loadProfile, openCodec, parseHfModel } from "../../mod.ts";
import { type OnnxSession, type OnnxTensor, openOnnxModel } from "../../src/adapters/onnx_model.ts";
import { measureTtft, type TtftRow } from "./measure.ts";

/** What is asked of the page. */
export interface PageOptions {
  readonly ids: readonly number[];
  readonly tokens: readonly number[];
  readonly ratios: readonly number[];
  readonly window: number;
  readonly rounds: number;
  readonly threads: number;
}

interface Ort {
  readonly env: { readonly wasm: { numThreads?: number; wasmPaths?: string } };
  readonly Tensor: new (type: string, data: ArrayBufferView, dims: readonly number[]) => OnnxTensor;
  readonly InferenceSession: { create(model: Uint8Array, options: object): Promise<OnnxSession> };
}

async function fetchBytes(path: string): Promise<Uint8Array> {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`Cannot load ${path}: the server answers ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

async function run(options: PageOptions): Promise<{ info: object; rows: TtftRow[] }> {
  if (!crossOriginIsolated) throw new Error("Cannot measure: the page is not cross-origin isolated");
  const entry = "/onnxruntime/ort.wasm.min.mjs";
  const ort = await import(entry) as Ort;
  ort.env.wasm.numThreads = options.threads;
  ort.env.wasm.wasmPaths = "/onnxruntime/";
  const session = await ort.InferenceSession.create(await fetchBytes("/model/onnx/model.onnx"), {
    executionProviders: ["wasm"],
  });
  const config = await (await fetch("/model/config.json")).json();
  const model = openOnnxModel({
    session,
    makeTensor: (type, data, dims) => new ort.Tensor(type, data, dims),
    tokenizer: { encode: () => [], decode: () => "" }, // ids come from outside
    spec: parseHfModel(config),
    vocabulary: config.vocab_size,
    maxPositions: config.max_position_embeddings,
  });
  const codec = await openCodec(await loadProfile(await fetchBytes("/profile.kvzp")), { threads: options.threads });
  const root = await navigator.storage.getDirectory();
  const rows: TtftRow[] = [];
  for await (
    const row of measureTtft({
      ...options,
      ids: Int32Array.from(options.ids),
      model,
      codec,
      castCache,
      async write(name, bytes) {
        const stream = await (await root.getFileHandle(name, { create: true })).createWritable();
        await stream.write(bytes as Uint8Array<ArrayBuffer>);
        await stream.close();
      },
      async read(name) {
        return new Uint8Array(await (await (await root.getFileHandle(name)).getFile()).arrayBuffer());
      },
    })
  ) {
    console.log(`${row.tokens} tokens, ${row.ratio}×`);
    rows.push(row);
  }
  return { info: codec.info, rows };
}

Object.assign(globalThis, { run });
