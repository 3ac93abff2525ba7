/**
 * A prompt of exactly so many tokens: real text with facts standing between its sentences, spread over the whole depth.
 *
 * @module
 */

/** Where facts may stand. */
export interface Room {
  /** Tokens of the prompt. */
  readonly context: number;
  /** First tokens that stay free of facts. */
  readonly sinks: number;
  /** Last tokens that stay free of facts. */
  readonly window: number;
}

/** A prompt with facts. */
export interface PromptWithFacts {
  /** Token ids, exactly `context` of them. */
  readonly ids: Int32Array;
  /** Index of each fact's first token. */
  readonly begins: readonly number[];
}

/**
 * Puts facts between the sentences of a text, as evenly as its sentences allow, and cuts the text to length.
 *
 * @param tokenize token ids of a piece of text, without special tokens
 * @param text begins the prompt; only as much of it as is needed is tokenized
 * @param facts token ids of each fact, in the order in which they are to stand
 * @throws {RangeError} the context is too small for the facts, the text is too short, or too few of its sentences end
 * where a fact may stand
 */
export function placeFacts(
  tokenize: (text: string) => Int32Array,
  text: string,
  facts: readonly Int32Array[],
  room: Room,
): PromptWithFacts {
  const { context, sinks, window } = room;
  const added = facts.reduce((sum, fact) => sum + fact.length, 0);
  if (context < sinks + added + window) {
    throw new RangeError(
      `Cannot place facts: a context of ${context} tokens is too small, ${facts.length} facts of ${added} tokens with ` +
        `${sinks} sinks and a window of ${window} need at least ${sinks + added + window}`,
    );
  }
  const { ids, ends } = takeSentences(tokenize, text, context - added);
  // Behind these even the last fact, moved on by all others, ends before the window.
  const places = ends.filter((end) => end >= sinks && end <= context - window - added);
  if (places.length < facts.length) {
    throw new RangeError(
      `Cannot place facts: ${places.length} sentences end between tokens ${sinks} and ${context - window - added} of ` +
        `the text, expected at least ${facts.length}`,
    );
  }
  const chosen = spread(places, facts.length, sinks, context - window - added);
  const prompt = new Int32Array(context);
  const begins: number[] = [];
  let from = 0;
  let at = 0;
  facts.forEach((fact, i) => {
    prompt.set(ids.subarray(from, chosen[i]), at);
    at += chosen[i] - from;
    from = chosen[i];
    begins.push(at);
    prompt.set(fact, at);
    at += fact.length;
  });
  prompt.set(ids.subarray(from), at);
  return { ids: prompt, begins };
}

/**
 * The first `tokens` tokens of a text and the indices behind which its sentences end. Sentences are tokenized apart, so
 * that a fact between two of them changes neither.
 */
function takeSentences(
  tokenize: (text: string) => Int32Array,
  text: string,
  tokens: number,
): { ids: Int32Array; ends: number[] } {
  const ids = new Int32Array(tokens);
  const ends: number[] = [];
  let length = 0;
  for (const sentence of splitSentences(text)) {
    const piece = tokenize(sentence);
    ids.set(piece.subarray(0, tokens - length), length);
    length += piece.length;
    if (length >= tokens) return { ids, ends };
    ends.push(length);
  }
  throw new RangeError(`Cannot place facts: the text has ${length} tokens, expected at least ${tokens}`);
}

/** Pieces that join to the text; each ends with a sentence or a line. */
function* splitSentences(text: string): Generator<string> {
  const border = /[.!?]["')\]]*(?=\s)|\n(?=[^\n])/g;
  let begin = 0;
  for (const match of text.matchAll(border)) {
    const end = match.index + match[0].length;
    yield text.slice(begin, end);
    begin = end;
  }
  if (begin < text.length) yield text.slice(begin);
}

/** For each of `count` evenly spread depths the nearest place that leaves enough places for the rest; ascending. */
function spread(places: readonly number[], count: number, first: number, last: number): number[] {
  const chosen: number[] = [];
  let next = 0;
  for (let i = 0; i < count; i++) {
    const wanted = count === 1 ? (first + last) / 2 : first + (last - first) * i / (count - 1);
    const most = places.length - (count - i);
    while (next < most && Math.abs(places[next + 1] - wanted) <= Math.abs(places[next] - wanted)) next++;
    chosen.push(places[next++]);
  }
  return chosen;
}
