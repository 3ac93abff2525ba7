/**
 * How a llama.cpp state file lays out its cache: what is needed beside a cache to write the file again.
 *
 * @module
 */
import type { ModelSpec } from "../cache/types.ts";
import { KvzFormatError } from "../errors.ts";
import { type GgmlType, isGgmlType, isQuantized, rowBytes } from "./ggml_types.ts";

/** How a state file lays out its cache; plain data, so that it can travel as JSON beside a compressed cache. */
export interface LlamaStateLayout {
  /** Element type of the keys. */
  readonly keyType: GgmlType;
  /** Element type of the values. */
  readonly valueType: GgmlType;
  /** Values lie as [channel][cell] (contexts without flash attention). */
  readonly transposedValues: boolean;
  /** Quantized heads are Walsh–Hadamard transformed. */
  readonly hadamard: boolean;
  /** Streams of the context; llama.cpp loads a state only into a context of as many. */
  readonly streams: number;
  /** The stream that holds the sequence. */
  readonly stream: number;
  /** Sequence id. */
  readonly sequence: number;
  /** Position of each cell in the order of the file, where that is not ascending. */
  readonly cells?: readonly number[];
  /** Token ids of the file, where they are not one for each cell (and then not the cache's `inputIds`). */
  readonly tokens?: readonly number[];
}

const INT32 = 2 ** 31;
/** llama.cpp's limit on sequences of a context. */
export const MAX_STREAMS = 256;

function isInt32(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= -INT32 && Number(value) < INT32;
}

/**
 * Checks a layout that comes from outside, for instance from the metadata of a compressed file.
 *
 * @throws {KvzFormatError} A field is missing, of the wrong type or out of range; the message names it.
 */
export function parseLlamaStateLayout(value: unknown): LlamaStateLayout {
  const refuse = (name: string, found: unknown, wanted: string): never => {
    throw new KvzFormatError(
      `Cannot read llama.cpp state layout: ${name} is ${JSON.stringify(found)}, expected ${wanted}`,
    );
  };
  if (typeof value !== "object" || value === null) return refuse("it", value, "an object");
  const fields = value as Readonly<Record<string, unknown>>;
  const type = (name: string): GgmlType => {
    const found = fields[name];
    return isGgmlType(found) ? found : refuse(name, found, "a ggml type");
  };
  const flag = (name: string): boolean => {
    const found = fields[name];
    return typeof found === "boolean" ? found : refuse(name, found, "true or false");
  };
  const integer = (name: string, from: number): number => {
    const found = fields[name];
    return isInt32(found) && found >= from ? found : refuse(name, found, `a 32-bit integer of at least ${from}`);
  };
  const list = (name: string): { [key: string]: number[] } => {
    const found = fields[name];
    if (found === undefined) return {};
    if (!Array.isArray(found) || !found.every(isInt32)) return refuse(name, found, "32-bit integers");
    return { [name]: found };
  };
  const layout: LlamaStateLayout = {
    keyType: type("keyType"),
    valueType: type("valueType"),
    transposedValues: flag("transposedValues"),
    hadamard: flag("hadamard"),
    streams: integer("streams", 1),
    stream: integer("stream", 0),
    sequence: integer("sequence", 0),
    ...list("cells"),
    ...list("tokens"),
  };
  if (layout.streams > MAX_STREAMS || layout.stream >= layout.streams) {
    refuse("stream", layout.stream, `less than the number of streams (${layout.streams}, at most ${MAX_STREAMS})`);
  }
  if (layout.transposedValues && isQuantized(layout.valueType)) {
    refuse("transposedValues", true, `false for values of type ${layout.valueType}`);
  }
  return layout;
}

/**
 * Checks that a layout can hold a model's heads.
 *
 * @throws {RangeError} It cannot; the message says why.
 * @throws {KvzFormatError} The layout contradicts itself.
 */
export function checkLayout(layout: LlamaStateLayout, model: ModelSpec): void {
  const { keyType, valueType } = parseLlamaStateLayout(layout);
  for (const [type, dim] of [[keyType, model.keyDim], [valueType, model.valueDim]] as const) {
    if (Number.isNaN(rowBytes(type, model.kvHeads * dim))) {
      throw new RangeError(
        `Cannot write llama.cpp state: ${model.kvHeads} heads of ${dim} are no whole blocks of ${type}`,
      );
    }
  }
}
