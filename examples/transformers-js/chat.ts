/**
 * A chat: the token ids so far, the cache of all but the last of them, and the messages for people.
 *
 * @module
 */
import type { DynamicCache, Message, Runtime } from "./runtime.ts";

/** How an answer came about. */
export interface Answer {
  readonly text: string;
  /** Ids that the model chose. */
  readonly ids: readonly number[];
  /** Tokens whose keys and values were there. */
  readonly reused: number;
  /** Tokens that had to be computed before the first new one. */
  readonly computed: number;
  /** Seconds until the first new token. */
  readonly first: number;
  /** Seconds until the last. */
  readonly seconds: number;
}

/** Everything that a chat consists of. */
export interface ChatState {
  readonly messages: readonly Message[];
  /** All ids so far; the cache holds all of them but the last. */
  readonly ids: readonly number[];
  /** null before the first answer. */
  readonly cache: DynamicCache | null;
}

/** A chat that goes on. */
export class Chat {
  state: ChatState = { messages: [], ids: [], cache: null };
  readonly #runtime: Runtime;
  readonly #maxNewTokens: number;

  constructor(runtime: Runtime, maxNewTokens: number) {
    this.#runtime = runtime;
    this.#maxNewTokens = maxNewTokens;
  }

  /** Adds a question and its answer; `onText` gets the answer piece by piece. */
  async ask(question: string, onText: (text: string) => void): Promise<Answer> {
    const { messages, ids, cache } = this.state;
    const all = [...ids, ...this.turn(question)];
    const { answer, cache: after } = await this.generate(all, cache, this.#maxNewTokens, onText);
    this.state = {
      messages: [...messages, { role: "user", content: question }, { role: "assistant", content: answer.text }],
      ids: [...all, ...answer.ids],
      cache: after,
    };
    return answer;
  }

  /**
   * Ids that put a question behind the ids so far: what the chat template writes between an answer and the next one.
   * The answers keep the ids that the model chose; encoding their text again could give others.
   */
  turn(question: string): number[] {
    const { tokenizer, model } = this.#runtime;
    const { ids } = this.state;
    const template = (messages: Message[]) =>
      tokenizer.apply_chat_template(messages, { tokenize: false, add_generation_prompt: true });
    const encode = (text: string) => tokenizer.encode(text, { add_special_tokens: false });
    const user = { role: "user", content: question } as const;
    if (ids.length === 0) return encode(template([user]));
    const mark = "ANSWER-ENDS-HERE";
    const text = template([{ role: "user", content: "" }, { role: "assistant", content: mark }, user]);
    const added = encode(text.slice(text.indexOf(mark) + mark.length));
    // An answer that was not cut off has ended itself already.
    const ends = [model.generation_config.eos_token_id].flat();
    return ends.includes(ids[ids.length - 1]) && ends.includes(added[0]) ? added.slice(1) : added;
  }

  /** Greedy decoding after `ids`, of which the first are in `cache`. The cache given is left as it is. */
  async generate(
    ids: readonly number[],
    cache: DynamicCache | null,
    maxNewTokens: number,
    onText: (text: string) => void = () => {},
  ): Promise<{ answer: Answer; cache: DynamicCache }> {
    const { transformers, tokenizer, model } = this.#runtime;
    const { Tensor, DynamicCache, TextStreamer } = transformers;
    const begin = performance.now();
    const since = () => (performance.now() - begin) / 1000;
    let first = 0;
    const dims = [1, ids.length];
    const { sequences, past_key_values } = await model.generate({
      input_ids: new Tensor("int64", BigInt64Array.from(ids, BigInt), dims),
      attention_mask: new Tensor("int64", new BigInt64Array(ids.length).fill(1n), dims),
      // generate() changes the record, never the tensors: a record of its own keeps ours.
      ...(cache ? { past_key_values: new DynamicCache({ ...cache }) } : {}),
      max_new_tokens: maxNewTokens,
      do_sample: false,
      return_dict_in_generate: true,
      streamer: new TextStreamer(tokenizer, {
        skip_prompt: true,
        skip_special_tokens: true,
        callback_function: onText,
        token_callback_function: () => first ||= since(),
      }),
    });
    const added = Array.from(sequences.data as BigInt64Array, Number).slice(ids.length);
    const reused = cache?.get_seq_length() ?? 0;
    const text = tokenizer.decode(added, { skip_special_tokens: true });
    const answer = { text, ids: added, reused, computed: ids.length - reused, first, seconds: since() };
    return { answer, cache: past_key_values };
  }
}
