/**
 * Methods that need no profile, with the settings that comparisons use.
 *
 * @module
 */
import { KvCacheBuilder } from "../../src/cache/builder.ts";
import { fromFloat32, toFloat32 } from "../../src/cache/elements.ts";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import { KINDS } from "../../src/cache/types.ts";
import type { Codec } from "../../src/codec/codec.ts";
import { type Method, recipeMethod } from "../../src/eval/method.ts";
import { kivi, kvcomp, q40, q80, type Quantizer, turboquant } from "./quantizers.ts";

/** A quantizer as a method: sinks in fp16, all else through it. */
function peer(name: string, setting: string, quantizer: Quantizer, sinks: number): Method {
  return {
    name,
    setting,
    options: {},
    usesProfile: false,
    run(cache: KvCache) {
      const { model, dtype, tokens, positions, inputIds } = cache;
      const { layers, kvHeads: heads, keyDim, valueDim } = model;
      const builder = new KvCacheBuilder({ model, dtype, positions, ...(inputIds ? { inputIds } : {}) });
      const begin = Math.min(sinks, tokens);
      let bits = 16 * layers * heads * (keyDim + valueDim) * begin;
      for (const kind of KINDS) {
        const x = toFloat32(cache.read(kind, 0, tokens), dtype);
        const dim = kind === "key" ? keyDim : valueDim;
        bits += quantizer({ kind, x, layers, heads, tokens, dim }, begin, tokens);
        builder.write(kind, 0, 0, tokens, fromFloat32(x, dtype));
      }
      const bytes = Math.ceil(bits / 8);
      const ratio = 2 * layers * heads * (keyDim + valueDim) * tokens / bytes;
      return Promise.resolve({
        cache: builder.build(),
        ratios: { target: null, paper: ratio, file: ratio },
        bytes,
        regions: { sinks: begin, coded: tokens - begin, window: 0 },
        seconds: { compress: null, restore: null },
      });
    },
  };
}

/** kvz-free at the steps, and the peers; the oldest `sinks` tokens are apart in all of them. */
export function profileFreeMethods(codec: Codec, steps: readonly number[], sinks: number): Method[] {
  const of = (name: string, setting: string, quantizer: Quantizer) => peer(name, setting, quantizer, sinks);
  const relative = (key: number) => ({ key, value: 2 * key });
  return [
    ...steps.map((step): Method => ({ ...recipeMethod(codec, "kvz-free", { step, sinks }), usesProfile: false })),
    ...[2, 4].map((width) => of("KIVI", `${width} bit, residual 128`, kivi(width, 128))),
    of("KIVI", "2 bit, residual 0", kivi(2, 0)),
    ...[0.0125, 0.025, 0.05].map((rel) => of("KVComp", `K ${rel}, V ${2 * rel}`, kvcomp(relative(rel)))),
    ...[2, 3, 4].map((width) => of("TurboQuant", `${width} bit`, turboquant(width))),
    of("q8_0", "", q80),
    of("q4_0", "", q40),
  ];
}
