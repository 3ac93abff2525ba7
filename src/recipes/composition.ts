/**
 * Which methods can follow each other in one file. Stages have an order: tokens are chosen, then channels, then there are
 * transforms, quantizers and entropy coders; a stage that comes too late finds nothing to work on, or the wrong thing.
 *
 * @module
 */
import type { RecipeInfo } from "./recipe.ts";

/** What a stage does to what follows, by its name in {@linkcode RecipeInfo}. */
const TRAITS: Readonly<Record<string, readonly Trait[]>> = {
  keep: ["chooses tokens", "by head"],
  "keep alike": ["chooses tokens"],
  prune: ["chooses channels"],
  repack: ["permutes tokens"],
  hadamard: ["rotates"],
  rotation: ["rotates"],
  pca: ["rotates", "joins heads"],
  // Whole tokens, also those that not all heads keep (src/recipes/evict/kept_kvz_codec.ts).
  "joint transform": ["rotates", "joins all of a token"],
  svd: ["rotates", "joins heads"],
  features: ["joins heads"],
  rows: ["joins tokens"],
  absmax: ["joins heads", "quantizes"],
  relative: ["joins heads", "quantizes"],
  uniform: ["quantizes"],
  groups: ["quantizes"],
  codebook: ["quantizes"],
  outliers: ["joins heads"],
  trellis: ["quantizes"],
  fp8: ["quantizes"],
  q8_0: ["quantizes"],
  q4_0: ["quantizes"],
  classes: ["chooses tokens", "by head", "quantizes"],
  reuse: ["joins heads"],
  autoencoder: ["rotates", "joins heads"],
  lowrank: ["rotates", "joins heads"],
  latents: ["quantizes"],
  // These go with what stands before them in their recipe.
  split: [],
  norm: [],
  bits: [],
  packs: [],
  pages: [],
  huffman: [],
  rans: [],
  "row classes": [],
  deflate: [],
};

type Trait =
  | "chooses tokens"
  | "by head"
  | "chooses channels"
  | "permutes tokens"
  | "rotates"
  | "joins heads"
  | "joins all of a token"
  | "joins tokens"
  | "quantizes";

/** What may not follow what: traits of the first method and of the second, and why. */
const RULES: readonly (readonly [first: Trait, second: Trait, why: string])[] = [
  ["rotates", "chooses channels", "a rotation spreads every channel over all, so that none can be left out after it"],
  ["rotates", "chooses tokens", "attention is that of the model's own keys: choose tokens before a rotation"],
  ["quantizes", "chooses tokens", "tokens are chosen by keys and queries as the model has them, not by codes"],
  ["quantizes", "chooses channels", "channels are chosen by keys and queries as the model has them, not by codes"],
  ["quantizes", "rotates", "codes of a quantizer are no coordinates that could be turned"],
  ["quantizes", "quantizes", "what is quantized already has no elements left to quantize"],
  ["permutes tokens", "rotates", "RoPE has to be undone and done by position, which a permuted token no longer shows"],
  ["permutes tokens", "chooses tokens", "a window and pooled scores need tokens in their order"],
  ["chooses channels", "chooses tokens", "the attention that chooses tokens needs whole keys: choose tokens first"],
  ["chooses channels", "chooses channels", "channels are chosen once"],
  ["chooses tokens", "chooses tokens", "tokens are chosen once: what one method evicted another cannot weigh"],
  ["by head", "joins heads", "it codes the heads of a token together, and they hold different tokens now"],
  ["chooses tokens", "joins tokens", "it follows channels over neighbouring tokens, which are no neighbours any more"],
  ["by head", "permutes tokens", "it permutes the tokens of all heads alike, and they hold different ones now"],
  ["chooses channels", "joins heads", "it codes the heads of a token together, and they hold different channels now"],
  ["chooses channels", "joins all of a token", "it codes a token as a whole, and its keys lack channels now"],
  ["chooses channels", "joins tokens", "its contexts are those of RoPE's pairs of channels, which are torn apart"],
];

function traitsOf({ stages }: Pick<RecipeInfo, "stages">): ReadonlySet<Trait> {
  return new Set(stages.flatMap((stage) => TRAITS[stage] ?? []));
}

/**
 * Why a method cannot work on what another leaves; null where it can.
 *
 * @param first what is done first when a cache is compressed
 */
export function compositionError(
  first: Pick<RecipeInfo, "name" | "stages">,
  second: Pick<RecipeInfo, "name" | "stages">,
): string | null {
  const unknown = [...first.stages, ...second.stages].find((stage) => !Object.hasOwn(TRAITS, stage));
  if (unknown !== undefined) {
    return `Cannot put ${second.name} after ${first.name}: nothing is known of how stage "${unknown}" composes`;
  }
  const [before, after] = [traitsOf(first), traitsOf(second)];
  const rule = RULES.find(([a, b]) => before.has(a) && after.has(b));
  return rule === undefined ? null : `Cannot put ${second.name} after ${first.name}: ${rule[2]}`;
}
