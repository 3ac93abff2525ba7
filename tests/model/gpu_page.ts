/**
 * The script of the page of gpu_cache_test.ts, bundled for the browser: a decoder on WebGPU whose cache stays on the
 * GPU, compressed from there and restored to there. Leaves `globalThis.outcome` (a promise) for the test.
 *
 * @module
 */
import { fromTransformersJs, loadProfile, type ModelSpec, openCodec, type TensorLike } from "../../mod.ts";
import type { GpuTensorClass } from "../../gpu.ts";
import { restoreCache, saveCache } from "../../transformers.ts";
import { stayOnGpu, type StayOutcome } from "./gpu_stay.ts";

/** onnxruntime-web's. */
export interface Tensor extends TensorLike {
  readonly location: string;
  getData(): Promise<Float32Array>;
  dispose(): void;
}

interface Session {
  run(feeds: Record<string, Tensor>): Promise<Record<string, Tensor>>;
}

interface Ort {
  readonly env: {
    readonly wasm: { wasmPaths?: string; numThreads?: number };
    readonly webgpu: { readonly device: Promise<GPUDevice> };
  };
  readonly Tensor:
    & GpuTensorClass<Tensor>
    & (new (type: string, data: ArrayBufferView, dims: readonly number[]) => Tensor);
  readonly InferenceSession: { create(url: string, options: object): Promise<Session> };
}

/** A cache. */
export type Past = Readonly<Record<string, Tensor>>;

/** What the test looks at. */
export interface Outcome {
  /** Locations of the tensors of the model's cache before and after it was saved, and of the restored cache. */
  readonly locations: { readonly made: string[]; readonly saved: string[]; readonly restored: string[] };
  /** Whether the GPU's cache, read in three ways, is the one that the CPU computes, bit by bit. */
  readonly equal: { readonly adapter: boolean; readonly copied: boolean; readonly moved: boolean };
  /**
   * Logits of one more token: after the cache itself, after those restored to the GPU and to main memory, after the one
   * that saving moved to main memory, and on the CPU.
   */
  readonly logits: Readonly<Record<"own" | "onGpu" | "inMemory" | "afterMove" | "onCpu", number[]>>;
  /** fp16 bytes ÷ file bytes of a coded file made from the GPU's tensors. */
  readonly codedRatio: number;
  /** The cache compressed and restored on the session's device: the one that onnxruntime made, and one of default limits. */
  readonly stayed: { readonly own: StayOutcome; readonly plain: StayOutcome };
}

const SPEC: ModelSpec = {
  architecture: "llama",
  layers: 2,
  kvHeads: 2,
  keyDim: 8,
  valueDim: 8,
  rope: { theta: 10000, dim: 8, pairing: "half-split" },
};
const MODEL = {
  config: {
    model_type: "llama",
    num_hidden_layers: 2,
    num_attention_heads: 2,
    num_key_value_heads: 2,
    hidden_size: 16,
    head_dim: 8,
    rope_theta: 10000,
    vocab_size: 32,
    max_position_embeddings: 4096,
  },
};
const NAMES = ["0.key", "0.value", "1.key", "1.value"];
const TOKENS = 300;

async function main(): Promise<Outcome> {
  const entry = "/onnxruntime/ort.webgpu.min.mjs";
  const ort = await import(entry) as Ort;
  Object.assign(ort.env.wasm, { wasmPaths: "/onnxruntime/", numThreads: 1 });
  const toGpu = Object.fromEntries(NAMES.map((name) => [`present.${name}`, "gpu-buffer"]));
  const open = (provider: string | object, preferredOutputLocation: object) =>
    ort.InferenceSession.create("/test/tiny_decoder.onnx", { executionProviders: [provider], preferredOutputLocation });
  const session = await open("webgpu", toGpu);
  const peer = await open("wasm", {});

  const empty: Past = Object.fromEntries(
    NAMES.map((name) => [`past_key_values.${name}`, new ort.Tensor("float32", new Float32Array(0), [1, 2, 0, 8])]),
  );
  const run = async (on: Session, ids: readonly number[], past: Past) => {
    const input_ids = new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]);
    const outputs = await on.run({ ...past, input_ids });
    const tensors: Past = Object.fromEntries(
      NAMES.map((name) => [`past_key_values.${name}`, outputs[`present.${name}`]]),
    );
    return { logits: Array.from(await outputs.logits.getData()), past: tensors };
  };
  const ids = Array.from({ length: TOKENS + 1 }, (_, t) => (t * t + 3 * t) % 32);
  const read = ids.slice(0, TOKENS);
  const { past } = await run(session, read, empty);
  const locationsOf = (record: Past) => Object.values(record).map(({ location }) => location);
  const made = locationsOf(past);

  const device = await ort.env.webgpu.device;
  const profile = await loadProfile(await fetch("/test/profile.kvzp"));
  const codec = await openCodec(profile, { backend: "wasm" });
  const common = { codec, model: MODEL, inputIds: ids };

  // Read by copying: the tensors stay where they are.
  const copied = await saveCache(past, { ...common, device, lossless: true });
  const saved = locationsOf(past);
  const coded = await saveCache(past, { ...common, device, ratio: 4, window: 16, dtype: "f16" });
  const own = await run(session, [ids[TOKENS]], past);

  // What Transformers.js wraps around onnxruntime's tensors.
  class Wrapped {
    readonly ort_tensor: Tensor;
    constructor(tensor: Tensor | string, data?: ArrayBufferView, dims?: readonly number[]) {
      this.ort_tensor = typeof tensor === "string" ? new ort.Tensor(tensor, data!, dims!) : tensor;
    }
  }
  class Cache {
    readonly tensors: Past;
    constructor(entries: Readonly<Record<string, Wrapped>>) {
      this.tensors = Object.fromEntries(Object.entries(entries).map(([name, { ort_tensor }]) => [name, ort_tensor]));
    }
  }
  const transformers = { DynamicCache: Cache, Tensor: Wrapped, env: ort.env };
  const onGpu = (await restoreCache<Cache>(copied.bytes, { ...common, device, transformers })).pastKeyValues.tensors;
  const inMemory = (await restoreCache<Cache>(copied.bytes, { ...common, transformers })).pastKeyValues.tensors;
  const restored = locationsOf(onGpu);
  const logits = {
    own: own.logits,
    onGpu: (await run(session, [ids[TOKENS]], onGpu)).logits,
    inMemory: (await run(session, [ids[TOKENS]], inMemory)).logits,
  };

  // Read by the adapter, which downloads with getData(); and moved to main memory by saving without a device.
  const facts = { model: SPEC, inputIds: read };
  const cpu = await run(peer, read, empty);
  const wanted = await fromTransformersJs(cpu.past, facts);
  const adapter = await fromTransformersJs(past, facts);
  const again = (await run(session, read, empty)).past;
  const moved = await saveCache(again, { ...common, lossless: true });
  const afterMove = await run(session, [ids[TOKENS]], again);
  const onCpu = await run(peer, [ids[TOKENS]], cpu.past);
  const stay = async (on: Session, device: GPUDevice) =>
    stayOnGpu({
      device,
      ownDevice: on === session,
      past: (await run(on, read, empty)).past,
      profile,
      spec: SPEC,
      model: MODEL,
      transformers,
      ids,
      Tensor: ort.Tensor,
      next: async (cache: Past) => (await run(on, [ids[TOKENS]], cache)).logits,
    });
  // onnxruntime takes what the adapter has; the page's own device has the limits that every one has.
  const plainDevice = await (await navigator.gpu.requestAdapter())!.requestDevice();
  const plain = await open({ name: "webgpu", device: plainDevice }, toGpu);
  const stayed = {
    own: await stay(session, device),
    plain: await stay(plain, plainDevice),
  };
  const same = async (bytes: Uint8Array) => (await codec.decompress(bytes)).cache.equals(wanted);
  return {
    locations: { made, saved, restored },
    equal: { adapter: adapter.equals(wanted), copied: await same(copied.bytes), moved: await same(moved.bytes) },
    logits: { ...logits, afterMove: afterMove.logits, onCpu: onCpu.logits },
    codedRatio: coded.report.fileRatio,
    stayed,
  };
}

Object.assign(globalThis, { outcome: main() });
