/**
 * StreamingLLM (arXiv 2309.17453): the oldest tokens, attention sinks, and the newest ones.
 *
 * @module
 */
import { type Budget, budgetOptions, evicting, readBudget } from "./evicting.ts";

/** Options of recipe streamingllm after defaults. */
export interface StreamingLlmOptions extends Budget {
  readonly sinks: number;
}

/** The recipe. The paper's 4 + 1020 tokens (Table 1). */
export const streamingLlm = evicting<StreamingLlmOptions>({
  name: "streamingllm",
  description: "attention sinks and the newest tokens",
  needs: [],
  stages: ["keep alike"],
  options: [...budgetOptions(1024, null), ["sinks", 4, "oldest tokens that are kept"]],
  parse: (number) => ({ ...readBudget(number, 1024, null), sinks: number("sinks", 4, 0, 1 << 20, true) }),
  select: async (source, options) => (await import("./select_tokens.ts")).selectStreaming(source, options),
  running: async (source, restored, options) =>
    (await import("./run_streaming.ts")).runStreaming(source, restored, options),
});
