/**
 * KVSharer (arXiv 2410.18517): whole layers go without keys and values and attend to those of an earlier layer, the most
 * dissimilar one that the model still bears. Which ones, is searched on the model (`searchSharing`, `kvz sharing`).
 *
 *     [chunk] layers with keys and values of their own → elements as they are, blocks of q8_0 or q4_0, or kvtc or kvz
 *
 * @module
 */
import { KvzFormatError } from "../../errors.ts";
import { type LayerMap, layerMapOf, parseLayerMap } from "../../stages/sharing/layer_map.ts";
import { numberReader } from "../options.ts";
import type { OptionSpec, Recipe } from "../recipe.ts";
import { type TensorMethod, tensorRecipe } from "../tensor/tensor_recipe.ts";
import { type InnerOptions, isProfiled, readInner, requireMap } from "./inner.ts";

/** Options of recipe kvsharer. */
export interface KvSharerOptions extends InnerOptions {
  /** Shared layers, `layer:source` joined by `+`. */
  readonly map: string;
}

const OPTIONS: readonly OptionSpec[] = [
  { name: "map", default: null, description: "shared layers with their sources, 27:3+28:5; of kvz sharing" },
  { name: "inner", default: "raw", description: "how the others are stored: raw (as they are), q8_0, q4_0; kvtc, kvz" },
  { name: "ratio", default: null, description: "that of inner kvtc" },
  { name: "quality", default: null, description: "that of inner kvz" },
  { name: "step", default: null, description: "that of inner kvz" },
  { name: "window", default: null, description: "that of inner kvtc or kvz" },
];

const method: TensorMethod<KvSharerOptions> = {
  name: "kvsharer",
  description: "KVSharer: layers that attend to the keys and values of an earlier, dissimilar layer",
  options: OPTIONS,
  parse(_, options) {
    const { map = "" } = options;
    if (typeof map !== "string") throw new TypeError(`Cannot use option "map": it is ${map}, expected a text`);
    // Whether there is one at all is asked when a cache is there: options alone must be readable.
    if (map !== "") parseLayerMap(map);
    return { map, ...readInner(options) };
  },
  needs: ["map"],
  stages: ["split", "share", "inner"],
  chunkTokens: 1024,
  preRope: () => false,
  streams: [{ tag: "LAY" }],
  load: async () => (await import("./kvsharer_coder.ts")).kvSharerModule,
};

const base = tensorRecipe(method);

/** The recipe. A layer is shared for all tokens: there are no raw regions. */
export const kvsharer: Recipe<KvSharerOptions> = {
  ...base,
  options: OPTIONS,

  parseOptions(options) {
    return method.parse(numberReader(this, options), options);
  },

  async settle({ inner }) {
    return isProfiled(inner) ? (await import("./with_profile.ts")).withProfile(kvsharer, inner) : kvsharer;
  },

  regions: () => ({ sinks: 0, window: 0 }),

  planSetup(profile, facts, options) {
    requireMap(options.map);
    layerMapOf(options.map, facts.model.layers);
    return base.planSetup(profile, facts, { ...options, sinks: 0 });
  },

  loadSetup(profile, facts, plan, append, options) {
    try {
      layerMapOf(options.map, facts.model.layers);
    } catch (cause) {
      throw new KvzFormatError(`Cannot read file: ${(cause as Error).message}`, { cause });
    }
    const all = (own: KvSharerOptions) => ({ ...own, sinks: 0 });
    return base.loadSetup(profile, facts, plan, append && all(append), all(options));
  },

  open: async (backend, setup) =>
    "own" in setup
      ? await (await import("./own_layers_codec.ts")).openCodec(backend, setup)
      : await base.open(backend, setup),

  layerSource: ({ map }, layers): LayerMap => layerMapOf(map, layers),
};
