/**
 * A head of a cache that DiffKV keeps while a model generates: its tokens by precision, with the attention they received.
 *
 * @module
 */
import { expOfNegative } from "../../cache/exponential.ts";
import { CLASSES, SCORED_QUERIES, type Thresholds } from "./classes.ts";
import { decide } from "./decode.ts";
import { type PageShape, pagesLength, type PageToken, throughPage } from "./pages.ts";

/** A token of the head, its elements as its precision leaves them. */
export interface RunningToken extends PageToken {
  score: number;
  /** See {@linkcode ScoredToken}. */
  readonly since: number;
}

/** What the prompt's rule left of a head: kept tokens by rising position. */
export interface PromptHead {
  /** Tokens of the prompt. */
  readonly tokens: number;
  /** Classes of all of them. */
  readonly classes: Uint8Array;
  /** Their scores. */
  readonly scores: Float32Array;
  /** Positions of the kept ones. */
  readonly positions: Int32Array;
  /** Restored elements of the kept ones. */
  readonly keys: Float32Array;
  readonly values: Float32Array;
}

/** Called with what a token would need where binary16 has no such scale or offset. */
export type Refuse = (what: number) => never;

/** A head. */
export class RunningHead {
  readonly #shapes: readonly [high: PageShape, low: PageShape];
  readonly #thresholds: Thresholds;
  readonly #high: RunningToken[] = [];
  readonly #low: RunningToken[] = [];
  /** Tokens of the sequence so far. */
  #index: number;
  #newest: RunningToken | undefined;

  constructor(shapes: readonly [high: PageShape, low: PageShape], thresholds: Thresholds, prompt: PromptHead) {
    this.#shapes = shapes;
    this.#thresholds = thresholds;
    this.#index = prompt.tokens;
    const [{ keyDim, valueDim }] = shapes;
    for (let t = 0, row = 0; t < prompt.tokens; t++) {
      if (prompt.classes[t] === CLASSES.pruned) continue;
      const token: RunningToken = {
        key: prompt.keys.slice(row * keyDim, (row + 1) * keyDim),
        value: prompt.values.slice(row * valueDim, (row + 1) * valueDim),
        position: prompt.positions[row++],
        score: prompt.scores[t],
        // The prompt's last queries alone were counted: as if the token had come just before them.
        since: prompt.tokens - Math.min(prompt.tokens - t, SCORED_QUERIES),
      };
      (prompt.classes[t] === CLASSES.high ? this.#high : this.#low).push(token);
    }
  }

  /** Tokens in high precision, in the order of their slots. */
  get high(): readonly RunningToken[] {
    return this.#high;
  }

  /** Those in low precision. */
  get low(): readonly RunningToken[] {
    return this.#low;
  }

  /** Bytes of the head's pages. */
  get bytes(): number {
    const [high, low] = this.#shapes;
    return pagesLength(high, this.#high.length) + pagesLength(low, this.#low.length);
  }

  /** Takes the next token; what the rule says happens to an older one. */
  append(key: Float32Array, value: Float32Array, position: number, refuse: Refuse): void {
    const [high, low] = this.#shapes;
    const decision = decide(this.#high, this.#low, this.#index, this.#thresholds);
    const token = { ...throughPage(high, { key, value, score: 0, position }, refuse), since: this.#index };
    if (decision.act === "demote") {
      const victim = this.#high[decision.victim];
      // From what the head holds of it: its elements as they came are gone.
      const demoted = { ...throughPage(low, victim, refuse), since: victim.since };
      if (decision.replaced === null) this.#low.push(demoted);
      else this.#low[decision.replaced] = demoted;
    }
    // The new token takes the slot that became free.
    if (decision.act === "append") this.#high.push(token);
    else this.#high[decision.victim] = token;
    this.#newest = token;
    this.#index++;
  }

  /**
   * Adds the attention that the newest token's queries, those of the group's heads, pay to all tokens: softmax of
   * q·k ÷ √dim, of the heads the largest.
   */
  attend(queries: readonly Float32Array[]): void {
    if (this.#newest === undefined) throw new RangeError("Cannot add attention: no token has come yet");
    const tokens = [...this.#high, ...this.#low];
    const scale = 1 / Math.sqrt(this.#shapes[0].keyDim);
    const best = new Float64Array(tokens.length);
    const weights = new Float64Array(tokens.length);
    for (const query of queries) {
      let top = -Infinity;
      for (let t = 0; t < tokens.length; t++) {
        const { key } = tokens[t];
        let dot = 0;
        for (let i = 0; i < key.length; i++) dot += query[i] * key[i];
        weights[t] = dot * scale;
        if (weights[t] > top) top = weights[t];
      }
      let total = 0;
      for (let t = 0; t < tokens.length; t++) total += weights[t] = expOfNegative(weights[t] - top);
      for (let t = 0; t < tokens.length; t++) best[t] = Math.max(best[t], weights[t] / total);
    }
    // Pages hold scores in binary32.
    for (let t = 0; t < tokens.length; t++) tokens[t].score = Math.fround(tokens[t].score + best[t]);
  }
}
