/**
 * Quantizers and transforms that other methods are measured against.
 *
 * @module
 */
import { cachegen } from "./cachegen.ts";
import { fp8 } from "./fp8.ts";
import { q40, q80 } from "./ggml.ts";
import { kivi } from "./kivi.ts";
import { quarot } from "./quarot.ts";
import { turboquant } from "./turboquant.ts";
import { xkv } from "./xkv.ts";

/** In the order of lists. */
export const BASELINES: readonly unknown[] = [kivi, cachegen, turboquant, quarot, q80, q40, fp8, xkv];
