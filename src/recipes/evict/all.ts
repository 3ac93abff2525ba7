/**
 * The evicting recipes.
 *
 * @module
 */
import { h2o } from "./h2o.ts";
import { pyramidKv } from "./pyramidkv.ts";
import { snapKv } from "./snapkv.ts";
import { streamingLlm } from "./streamingllm.ts";
import { think } from "./think.ts";

/** In the order of lists. */
export const EVICTING: readonly unknown[] = [think, pyramidKv, snapKv, streamingLlm, h2o];
