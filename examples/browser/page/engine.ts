/**
 * What the example shows, without its page: read a prompt and store its compressed cache; later restore it and go on.
 *
 * @module
 */
import { type Codec, loadProfile, openCodec, parseHfModel } from "@kvz/kvz";
import { type ModelLike, restoreCache, saveCache } from "@kvz/kvz/transformers";
import { decodeAnswer, encodeQuestion, loadTokenizer, type Tokenizer } from "./chat.ts";
import { Decoder, dispose, type Past } from "./decoder.ts";
import { fetchGraph, fetchModelJson, fetchProfile, requireProfile } from "./load.ts";
import { loadOrt, openSession, type Ort, type OrtTensor, threads } from "./onnxruntime.ts";
import type { Continuation, Event, Facts, ReadRun, Recipe, RestoredRun, Side } from "./protocol.ts";
import { openStore, type Store } from "./store.ts";

/** File of the compressed cache. */
const CACHE_FILE = "prompt.kvz";
/** File of the uninterrupted run, which the restored one is compared with. */
const RUN_FILE = "run.json";
/** Ratios offered where the profile was not trimmed. */
const RATIOS = [8, 16, 32, 64];
/** Most tokens that are run at once: a bound on memory. Runs of 64 are a third slower than one of 256. */
const PREFILL_TOKENS = 512;

/** Tells the page. */
export type Emit = (event: Event) => void;

interface Parts {
  readonly ort: Ort;
  readonly decoder: Decoder;
  readonly tokenizer: Tokenizer;
  readonly codec: Codec;
  readonly store: Store;
  /** Configuration and session, as saveCache and restoreCache take them. */
  readonly model: ModelLike;
  readonly endIds: ReadonlySet<number>;
  readonly maxPositions: number;
  readonly facts: Facts;
}

const secondsSince = (start: number) => (performance.now() - start) / 1000;

/** Model, codec and store, opened once for each load of the page. */
export class Engine {
  readonly #parts: Parts;

  private constructor(parts: Parts) {
    this.#parts = parts;
  }

  /**
   * Opens everything.
   *
   * @throws {Error} The server lacks a file, or the runtime does not take the model.
   * @throws {KvzMismatchError} The profile is of another model.
   */
  static async open(emit: Emit): Promise<Engine> {
    const store = await openStore();
    // First, so that a folder that is none of a model's is always named by the same file.
    const config = await fetchModelJson("config.json");
    const spec = parseHfModel(config);
    const [tokenizerJson, tokenizerConfig] = await Promise.all(
      ["tokenizer.json", "tokenizer_config.json"].map(fetchModelJson),
    );
    const { response, name } = await fetchProfile();
    const profile = await loadProfile(response);
    requireProfile(profile, name, spec);
    const codec = await openCodec(profile, { threads: Math.min(4, navigator.hardwareConcurrency) });
    const tokenizer = await loadTokenizer(tokenizerJson, tokenizerConfig);

    const start = performance.now();
    const ort = await loadOrt();
    const graph = await fetchGraph((done, total) => emit({ type: "progress", text: "Loading the model", done, total }));
    emit({ type: "progress", text: "Compiling the model" });
    const session = await openSession(ort, graph);
    const secondsModel = secondsSince(start);

    const { backend, build, threads: lanes } = codec.info;
    const ratios = profile.method === "kvtc" ? profile.calibration.ratios : [];
    return new Engine({
      ort,
      decoder: new Decoder(ort, session, spec),
      tokenizer,
      codec,
      store,
      model: { config, sessions: { model: session } },
      endIds: new Set([tokenizer.token_to_id("<|im_end|>")!, ...[config.eos_token_id ?? []].flat() as number[]]),
      maxPositions: config.max_position_embeddings as number,
      facts: {
        model: profile.model.id ?? `${spec.layers} layers`,
        runtime: `onnxruntime-web ${ort.env.versions.web ?? ""}, wasm, ${threads()} threads`,
        codec: `${backend}, ${build}, ${lanes} workers`,
        profile: `${name} (${profile.fingerprint.slice(0, 12)})`,
        storage: store.storage,
        ratios: ratios.length > 0 ? ratios : RATIOS,
        secondsModel,
      },
    });
  }

  get facts(): Facts {
    return this.#parts.facts;
  }

  /** The run whose cache is stored, and the size of its file; null where there is none. */
  async stored(): Promise<{ readonly run: ReadRun; readonly bytes: Uint8Array } | null> {
    const { store } = this.#parts;
    const [bytes, run] = await Promise.all([store.read(CACHE_FILE), store.read(RUN_FILE)]);
    return bytes && run && { run: JSON.parse(new TextDecoder().decode(run)), bytes };
  }

  /**
   * Reads a prompt, continues it, and stores the compressed cache of the prompt.
   *
   * The cache holds all tokens of the prompt but the last: running that one gives the first new token, here and after
   * restoring alike.
   *
   * @throws {RangeError} The prompt is too long for the model, or empty.
   */
  async read(prompt: string, newTokens: number, recipe: Recipe, emit: Emit): Promise<ReadRun> {
    const { tokenizer, store } = this.#parts;
    const ids = encodeQuestion(tokenizer, prompt);
    this.#requireContext(ids.length, newTokens);
    if (prompt.trim() === "") throw new RangeError("Cannot read prompt: it is empty");
    await this.forget();

    const cached = ids.slice(0, -1);
    const start = performance.now();
    const past = await this.#prefill(cached, emit);
    const prefill = secondsSince(start);
    const { firstToken, ...continuation } = await this.#continue("read", ids[cached.length], past, newTokens, emit);

    emit({ type: "progress", text: "Compressing the cache" });
    const startCompress = performance.now();
    const { bytes, report } = await this.#compress(past, ids, recipe);
    const compress = secondsSince(startCompress);
    dispose(past);
    const startWrite = performance.now();
    await store.write(CACHE_FILE, bytes);
    const write = secondsSince(startWrite);

    const { bytesOut, bytesIn, fileRatio, paperRatio } = report;
    const run: ReadRun = {
      ...continuation,
      prompt,
      newTokens,
      recipe,
      cachedTokens: cached.length,
      seconds: { prefill, firstToken, compress, write },
      file: { bytes: bytesOut, fp16Bytes: bytesIn, fileRatio, paperRatio },
    };
    await store.write(RUN_FILE, new TextEncoder().encode(JSON.stringify(run)));
    return run;
  }

  /**
   * Restores the stored cache and continues from it.
   *
   * @throws {Error} Nothing is stored.
   * @throws {KvzFormatError} The file is damaged.
   * @throws {KvzMismatchError} It is of another model, profile or tokenizer.
   */
  async restore(emit: Emit): Promise<RestoredRun> {
    emit({ type: "progress", text: "Restoring the cache" });
    const start = performance.now();
    const stored = await this.stored();
    const read = secondsSince(start);
    if (stored === null) throw new Error("Cannot restore: no cache is stored");
    const startDecompress = performance.now();
    const { past, next } = await this.#decompress(stored.bytes);
    const decompress = secondsSince(startDecompress);
    const { firstToken, ...continuation } = await this.#continue("restored", next, past, stored.run.newTokens, emit);
    dispose(past);
    const differs = stored.run.ids.findIndex((id, i) => continuation.ids[i] !== id);
    return {
      ...continuation,
      seconds: { read, decompress, firstToken },
      equalTokens: differs === -1 ? stored.run.ids.length : differs,
    };
  }

  /** Removes what is stored. */
  async forget(): Promise<void> {
    const { store } = this.#parts;
    await store.remove(CACHE_FILE);
    await store.remove(RUN_FILE);
  }

  async #prefill(ids: readonly number[], emit: Emit): Promise<Past> {
    const { decoder } = this.#parts;
    const total = ids.length;
    let past = decoder.emptyPast();
    for (let done = 0; done < total; done += PREFILL_TOKENS) {
      emit({ type: "progress", text: `Reading ${total} tokens`, ...(total > PREFILL_TOKENS ? { done, total } : {}) });
      const before = past;
      ({ past } = await decoder.run(ids.slice(done, done + PREFILL_TOKENS), before));
      dispose(before);
    }
    return past;
  }

  #compress(past: Past, ids: readonly number[], { ratio, window }: Recipe): ReturnType<typeof saveCache> {
    const { codec, model, tokenizer } = this.#parts;
    return saveCache(past.tensors, {
      codec,
      model,
      tokenizer,
      inputIds: ids,
      ...(ratio === null ? { lossless: true } : { ratio, window, dtype: "f16" }),
    });
  }

  /** The past, and the token to run next. */
  async #decompress(bytes: Uint8Array): Promise<{ readonly past: Past; readonly next: number }> {
    const { codec, model, tokenizer, ort } = this.#parts;
    // What Transformers.js wraps around onnxruntime's tensors; here it is taken off again.
    class Tensor {
      readonly ort_tensor: OrtTensor;
      constructor(tensor: OrtTensor | string, data?: ArrayBufferView, dims?: readonly number[]) {
        this.ort_tensor = typeof tensor === "string" ? new ort.Tensor(tensor, data!, dims!) : tensor;
      }
    }
    class DynamicCache {
      readonly tensors: Readonly<Record<string, OrtTensor>>;
      constructor(entries: Readonly<Record<string, Tensor>>) {
        this.tensors = Object.fromEntries(Object.entries(entries).map(([name, { ort_tensor }]) => [name, ort_tensor]));
      }
    }
    const { pastKeyValues, tokens, inputIds } = await restoreCache<DynamicCache>(bytes, {
      codec,
      model,
      tokenizer,
      transformers: { DynamicCache, Tensor },
    });
    if (inputIds?.length !== tokens + 1) {
      throw new Error(`Cannot restore: the file has ids of ${inputIds?.length ?? 0} tokens, expected ${tokens + 1}`);
    }
    return { past: { tensors: pastKeyValues.tensors, tokens }, next: inputIds[tokens] };
  }

  /** Greedy decoding from a token on, until the model ends its turn. `past` stays as it is. */
  async #continue(
    side: Side,
    from: number,
    past: Past,
    newTokens: number,
    emit: Emit,
  ): Promise<Continuation & { readonly firstToken: number }> {
    const { decoder, tokenizer, endIds } = this.#parts;
    const ids: number[] = [];
    let text = "";
    let step = { next: from, past };
    let firstToken = 0;
    let start = performance.now();
    while (ids.length < newTokens) {
      const before = step.past;
      step = await decoder.run([step.next], before);
      if (before === past) {
        firstToken = secondsSince(start);
        start = performance.now();
      } else {
        dispose(before);
      }
      if (endIds.has(step.next)) break;
      ids.push(step.next);
      text = decodeAnswer(tokenizer, ids);
      emit({ type: "token", side, text, count: ids.length });
    }
    const tokensPerSecond = ids.length > 1 ? (ids.length - 1) / secondsSince(start) : null;
    dispose(step.past);
    return { ids, text, tokensPerSecond, firstToken };
  }

  #requireContext(tokens: number, newTokens: number): void {
    const { maxPositions } = this.#parts;
    if (tokens + newTokens > maxPositions) {
      throw new RangeError(
        `Cannot read prompt: ${tokens} tokens and ${newTokens} new ones exceed the model's context of ${maxPositions}`,
      );
    }
  }
}
