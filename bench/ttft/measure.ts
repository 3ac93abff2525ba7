/**
 * Time to the first token, by prefill and by restoring a stored cache, in whatever runtime this runs in.
 *
 * @module
 */
import type { Codec, CompressReport } from "../../mod.ts";
import type { castCache as CastCache } from "../../src/cache/cast.ts";
import { prefill as prefillInSteps } from "../../src/eval/evaluate.ts";
import type { LanguageModel } from "../../src/eval/language_model.ts";

/** What is measured, and with what. */
export interface TtftSetup {
  readonly model: LanguageModel;
  readonly codec: Codec;
  readonly castCache: typeof CastCache;
  /** Token ids, more than the largest of `tokens`. */
  readonly ids: Int32Array;
  /** Lengths of the prompt. */
  readonly tokens: readonly number[];
  readonly ratios: readonly number[];
  readonly window: number;
  readonly rounds: number;
  /** Keeps a file and gives it back, from the disk of the runtime. */
  readonly write: (name: string, bytes: Uint8Array) => Promise<void>;
  readonly read: (name: string) => Promise<Uint8Array>;
}

/** Best times of one prompt length and ratio, seconds. */
export interface TtftRow {
  readonly tokens: number;
  readonly ratio: number;
  readonly bytes: number;
  readonly fileRatio: number;
  /** From token ids to the logits after the last one, in one piece or in pieces of 512, whichever is faster. */
  readonly prefill: number;
  /** From the file on disk to the logits after the last token: the sum of the four below in the best round. */
  readonly restore: number;
  readonly read: number;
  readonly decompress: number;
  /** Making the runtime's tensors. */
  readonly load: number;
  /** One token through the model. */
  readonly step: number;
  /** From the file's bytes to the first layer over all tokens. */
  readonly firstLayer: number;
}

/** Measures length after length; all ways to a first token take turns. */
export async function* measureTtft(setup: TtftSetup): AsyncGenerator<TtftRow> {
  const { model, codec, ids, ratios, window, rounds } = setup;
  for (const tokens of setup.tokens) {
    const prompt = ids.subarray(0, tokens);
    const whole = ids.subarray(0, tokens + 1);
    const last = ids.subarray(tokens, tokens + 1);
    const present = await prefillInSteps(model, prompt);
    const cache = setup.castCache(await model.unload(present, prompt), "f16");
    const files: { name: string; report: CompressReport }[] = [];
    for (const ratio of ratios) {
      const name = `ttft-${tokens}-${ratio}.kvz`;
      const { bytes, report } = await codec.compress(cache, { ratio, window });
      await setup.write(name, bytes);
      files.push({ name, report });
    }
    let prefill = Infinity;
    const best = ratios.map(() => ({
      restore: Infinity,
      read: 0,
      decompress: 0,
      load: 0,
      step: 0,
      firstLayer: Infinity,
    }));
    for (let round = 0; round < rounds; round++) {
      // In one piece, and in pieces of 512, which attention in WebAssembly likes better: the faster one counts.
      for (const run of [() => model.forward(whole, { logits: "last" }), () => prefillInSteps(model, whole)]) {
        const begin = performance.now();
        await run();
        prefill = Math.min(prefill, performance.now() - begin);
      }
      for (const [i, { name }] of files.entries()) {
        const t0 = performance.now();
        const bytes = await setup.read(name);
        const t1 = performance.now();
        const { cache } = await codec.decompress(bytes, { dtype: "f32" });
        const t2 = performance.now();
        const past = await model.load(cache);
        const t3 = performance.now();
        await model.forward(last, { past, logits: "last" });
        const t4 = performance.now();
        if (t4 - t0 < best[i].restore) {
          Object.assign(best[i], {
            restore: t4 - t0,
            read: t1 - t0,
            decompress: t2 - t1,
            load: t3 - t2,
            step: t4 - t3,
          });
        }
        const t5 = performance.now();
        for await (const _ of codec.layers(bytes, { dtype: "f32" })) break;
        best[i].firstLayer = Math.min(best[i].firstLayer, performance.now() - t5);
      }
    }
    for (const [i, { report }] of files.entries()) {
      const { restore, read, decompress, load, step, firstLayer } = best[i];
      yield {
        tokens,
        ratio: ratios[i],
        bytes: report.bytesOut,
        fileRatio: report.fileRatio,
        prefill: prefill / 1000,
        restore: restore / 1000,
        read: read / 1000,
        decompress: decompress / 1000,
        load: load / 1000,
        step: step / 1000,
        firstLayer: firstLayer / 1000,
      };
    }
  }
}
