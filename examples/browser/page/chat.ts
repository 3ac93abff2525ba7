/**
 * Text ↔ token ids for one question to a chat model whose turns are marked by `<|im_start|>` and `<|im_end|>`.
 *
 * @module
 */

/** What is used of the tokenizer library. */
export interface Tokenizer {
  encode(text: string, options: { readonly add_special_tokens: boolean }): { readonly ids: number[] };
  decode(ids: number[], options: { readonly skip_special_tokens: boolean }): string;
  token_to_id(token: string): number | undefined;
  get_vocab(): Map<string, number>;
}

/**
 * Makes the tokenizer of `tokenizer.json` and `tokenizer_config.json`.
 *
 * @throws {Error} Its vocabulary has no marks of turns.
 */
export async function loadTokenizer(tokenizer: object, config: object): Promise<Tokenizer> {
  const entry = "/tokenizers/tokenizers.min.mjs";
  const { Tokenizer } = await import(entry);
  const made: Tokenizer = new Tokenizer(tokenizer, config);
  for (const mark of ["<|im_start|>", "<|im_end|>"]) {
    if (made.token_to_id(mark) === undefined) {
      throw new Error(`Cannot use model: its tokenizer has no "${mark}", expected that of a chat model like SmolLM2`);
    }
  }
  return made;
}

/** Ids of a question, up to where the answer begins. */
export function encodeQuestion(tokenizer: Tokenizer, question: string): number[] {
  const text = `<|im_start|>user\n${question.trim()}<|im_end|>\n<|im_start|>assistant\n`;
  return tokenizer.encode(text, { add_special_tokens: false }).ids;
}

/** The text of an answer. */
export function decodeAnswer(tokenizer: Tokenizer, ids: readonly number[]): string {
  return tokenizer.decode([...ids], { skip_special_tokens: true });
}
