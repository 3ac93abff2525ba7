/**
 * How the bytes of a cache in memory may be given, and the checks that they fit the model.
 *
 * @module
 */
import { BYTES_PER_ELEMENT, type DType, type ModelSpec, type QueryTensors } from "./types.ts";

/** The two tensors of one layer of a dense cache, little-endian [kvHeads][tokens][dim]. */
export interface LayerBytes {
  /** After RoPE, half-split pairing. */
  readonly key: Uint8Array;
  /** Values. */
  readonly value: Uint8Array;
}

/** What one KV head of one layer holds, little-endian [kept tokens][dim]. */
export interface HeadBytes {
  /** After RoPE, half-split pairing. */
  readonly key: Uint8Array;
  /** Values. */
  readonly value: Uint8Array;
  /** Absolute positions of the kept tokens, strictly increasing. */
  readonly positions: Int32Array;
}

/** Facts shared by dense and ragged caches. */
export interface CacheFacts {
  /** Facts about the model. */
  readonly model: ModelSpec;
  /** Element type of keys and values. */
  readonly dtype: DType;
  /** Token ids, one for each position. */
  readonly inputIds?: Int32Array;
  /** Queries of the last tokens. */
  readonly queries?: QueryTensors;
}

/** A dense cache: every head of every layer holds the same tokens. */
export interface DenseCache extends CacheFacts {
  /** Absolute position of each token, strictly increasing. */
  readonly positions: Int32Array;
  /** One entry a layer. */
  readonly layers: readonly LayerBytes[];
}

/** A cache given head by head; evicting methods keep other tokens in every head. */
export interface RaggedCache extends CacheFacts {
  /** [layer][KV head]. `inputIds`, if given, has one id for each distinct position over all heads. */
  readonly blocks: readonly (readonly HeadBytes[])[];
}

/** Positions must rise and not be negative. */
export function checkPositions(what: string, positions: Int32Array): void {
  for (let t = 0; t < positions.length; t++) {
    const before = t === 0 ? -1 : positions[t - 1];
    if (positions[t] <= before) {
      throw new RangeError(
        `Cannot make cache: ${what} at token ${t} is ${positions[t]}, expected more than ${before}`,
      );
    }
  }
}

/** A block of bytes must have the length that its shape says. */
export function checkLength(what: string, found: number, wanted: number, shape: string): void {
  if (found !== wanted) {
    throw new RangeError(`Cannot make cache: ${what} has ${found} bytes, expected ${wanted} (${shape})`);
  }
}

/** Token ids and queries must fit the model and the number of tokens. */
export function checkFacts(facts: CacheFacts, tokens: number): void {
  const { model, inputIds, queries } = facts;
  if (inputIds !== undefined && inputIds.length !== tokens) {
    throw new RangeError(`Cannot make cache: there are ${inputIds.length} token ids, expected ${tokens}`);
  }
  if (queries === undefined) return;
  if (!(Number.isSafeInteger(queries.heads) && queries.heads > 0 && queries.heads % model.kvHeads === 0)) {
    throw new RangeError(
      `Cannot make cache: there are ${queries.heads} query heads, expected a multiple of ${model.kvHeads} KV heads`,
    );
  }
  if (!(Number.isSafeInteger(queries.tokens) && queries.tokens >= 0 && queries.tokens <= tokens)) {
    throw new RangeError(`Cannot make cache: queries cover ${queries.tokens} tokens, expected 0 to ${tokens}`);
  }
  if (queries.layers.length !== model.layers) {
    throw new RangeError(
      `Cannot make cache: queries have ${queries.layers.length} layers, expected ${model.layers}`,
    );
  }
  const wanted = queries.heads * queries.tokens * model.keyDim * BYTES_PER_ELEMENT[queries.dtype];
  queries.layers.forEach((bytes, layer) =>
    checkLength(
      `queries of layer ${layer}`,
      bytes.length,
      wanted,
      `${queries.heads} heads × ${queries.tokens} tokens × ${model.keyDim} × ${queries.dtype}`,
    )
  );
}

/** The element type must be one of the three. */
export function checkDType(dtype: DType): void {
  if (!Object.hasOwn(BYTES_PER_ELEMENT, dtype)) {
    throw new TypeError(`Cannot make cache: element type is "${dtype}", expected "f32", "f16" or "bf16"`);
  }
}

/** Element by element equality. */
export function sameBytes(a: ArrayLike<number>, b: ArrayLike<number>): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Equality where both may be absent. */
export function sameOptional(a: ArrayLike<number> | undefined, b: ArrayLike<number> | undefined): boolean {
  return a === undefined || b === undefined ? a === b : sameBytes(a, b);
}

/** Equality of queries where both may be absent. */
export function sameQueries(a: QueryTensors | undefined, b: QueryTensors | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.dtype === b.dtype && a.heads === b.heads && a.tokens === b.tokens &&
    a.layers.length === b.layers.length && a.layers.every((bytes, layer) => sameBytes(bytes, b.layers[layer]));
}

/** First index whose position is at least `position`. */
export function lowerBound(positions: Int32Array, position: number): number {
  let low = 0;
  let high = positions.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (positions[middle] < position) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Sorted union of the positions of all heads. */
export function distinctPositions(blocks: readonly (readonly HeadBytes[])[]): Int32Array {
  const first = blocks[0][0].positions;
  if (blocks.every((heads) => heads.every(({ positions }) => positions === first || sameBytes(positions, first)))) {
    return first;
  }
  const seen = new Set<number>();
  for (const heads of blocks) for (const { positions } of heads) for (const position of positions) seen.add(position);
  return Int32Array.from(seen).sort();
}

/** Cuts the bytes of a dense cache into heads. */
export function denseBlocks(cache: DenseCache): HeadBytes[][] {
  const { model, dtype, positions, layers } = cache;
  checkPositions("position", positions);
  if (layers.length !== model.layers) {
    throw new RangeError(`Cannot make cache: there are ${layers.length} layers, expected ${model.layers}`);
  }
  const keyBytes = positions.length * model.keyDim * BYTES_PER_ELEMENT[dtype];
  const valueBytes = positions.length * model.valueDim * BYTES_PER_ELEMENT[dtype];
  const shape = (dim: number) => `${model.kvHeads} heads × ${positions.length} tokens × ${dim} × ${dtype}`;
  return layers.map(({ key, value }, layer) => {
    checkLength(`key of layer ${layer}`, key.length, model.kvHeads * keyBytes, shape(model.keyDim));
    checkLength(`value of layer ${layer}`, value.length, model.kvHeads * valueBytes, shape(model.valueDim));
    return Array.from({ length: model.kvHeads }, (_, head) => ({
      key: key.subarray(head * keyBytes, (head + 1) * keyBytes),
      value: value.subarray(head * valueBytes, (head + 1) * valueBytes),
      positions,
    }));
  });
}

/** Every head's bytes must fit the model and its positions. */
export function checkBlocks({ model, dtype, blocks }: RaggedCache): void {
  if (blocks.length !== model.layers) {
    throw new RangeError(`Cannot make cache: there are ${blocks.length} layers, expected ${model.layers}`);
  }
  blocks.forEach((heads, layer) => {
    if (heads.length !== model.kvHeads) {
      throw new RangeError(`Cannot make cache: layer ${layer} has ${heads.length} heads, expected ${model.kvHeads}`);
    }
    heads.forEach(({ key, value, positions }, head) => {
      const where = `layer ${layer}, head ${head}`;
      checkPositions(`position of ${where}`, positions);
      const shape = (dim: number) => `${positions.length} tokens × ${dim} × ${dtype}`;
      const bytes = positions.length * BYTES_PER_ELEMENT[dtype];
      checkLength(`key of ${where}`, key.length, bytes * model.keyDim, shape(model.keyDim));
      checkLength(`value of ${where}`, value.length, bytes * model.valueDim, shape(model.valueDim));
    });
  });
}

/** A range [begin, end) must lie inside [0, limit]. */
export function checkRange(what: string, begin: number, end: number, limit: number): void {
  if (!(Number.isSafeInteger(begin) && Number.isSafeInteger(end) && begin >= 0 && begin <= end && end <= limit)) {
    throw new RangeError(`Cannot read cache: ${what} [${begin}, ${end}) are outside [0, ${limit})`);
  }
}
