/**
 * KIVI (arXiv 2402.02750): keys by channel, values by token, asymmetric, with raw tokens at the end.
 *
 * @module
 */
import { readChoice } from "../options.ts";
import { tensorRecipe } from "../tensor/tensor_recipe.ts";

/** Options of recipe kivi. */
export interface KiviOptions {
  /** Bits of a code. */
  readonly bits: number;
  /** Tokens of a key group, channels of a value group. */
  readonly group: number;
  /** Newest tokens kept as they are: of values so many, of keys those that do not fill so many. */
  readonly residual: number;
}

const BITS = [2, 4, 8];
const GROUPS = [32, 64, 128];

/** The recipe. */
export const kivi = tensorRecipe<KiviOptions>({
  name: "kivi",
  description: "KIVI (ICML 2024): keys by channel over 32 tokens, values by token over 32 channels, raw residual",
  options: [
    { name: "bits", default: 2, description: "bits of a code: 2, 4 or 8" },
    { name: "group", default: 32, description: "tokens of a key group, channels of a value group: 32, 64 or 128" },
    { name: "residual", default: 128, description: "newest tokens kept as they are, whole groups or 0" },
  ],
  parse(number, options) {
    const group = readChoice(options, "group", GROUPS, 32);
    const residual = number("residual", 128, 0, 1024, true);
    if (residual % group !== 0) {
      throw new RangeError(`Cannot use option "residual": it is ${residual}, expected a multiple of ${group}`);
    }
    return { bits: readChoice(options, "bits", BITS, 2), group, residual };
  },
  stages: ["split", "uniform", "bits"],
  chunkTokens: 1024,
  preRope: () => false,
  streams: [{ tag: "COD" }, { tag: "PAR" }, { tag: "RES" }],
  // The border lies at whole groups. Past it the coder knows what of keys and of values is raw.
  residual({ residual }, tokens) {
    if (residual === 0) return 0;
    return tokens < residual ? tokens : residual + tokens % residual;
  },
  load: () => import("./kivi_coder.ts"),
});
