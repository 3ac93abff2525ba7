/**
 * Canonical JSON (RFC 8785): one text for one value, so that hashes and byte comparisons mean something. Keys sorted by
 * UTF-16 code units, no whitespace, numbers as ECMAScript prints them, no lone surrogates.
 *
 * @module
 */

/** A JSON value. */
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;

/** A JSON object; keys whose value is `undefined` are left out of the text. */
export interface JsonObject {
  /** A member. */
  readonly [key: string]: JsonValue | undefined;
}

/** Deepest nesting that is written or believed. */
export const MAX_JSON_DEPTH = 64;

/**
 * The canonical text of a value.
 *
 * @throws {TypeError} when the value is not JSON: NaN, infinities, `undefined` in an array, functions, typed arrays,
 * strings with lone surrogates, nesting deeper than {@linkcode MAX_JSON_DEPTH}
 */
export function canonicalJson(value: JsonValue): string {
  return write(value, "$", 0);
}

function write(value: unknown, path: string, depth: number): string {
  if (depth > MAX_JSON_DEPTH) {
    throw new TypeError(`Cannot write JSON: nested deeper than ${MAX_JSON_DEPTH} levels at ${path.slice(0, 80)}`);
  }
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "string") return writeString(value, path);
  if (typeof value === "number") {
    if (!Number.isFinite(value)) {
      throw new TypeError(`Cannot write JSON: ${path} is ${value}, expected a finite number`);
    }
    return JSON.stringify(value);
  }
  if (Array.isArray(value)) {
    // Not map(): it would skip the holes of a sparse array.
    const items = Array.from(value, (item, i) => write(item, `${path}[${i}]`, depth + 1));
    return `[${items.join(",")}]`;
  }
  if (typeof value === "object" && isPlain(value)) {
    const members: string[] = [];
    for (const key of Object.keys(value).sort()) {
      const member = (value as Record<string, unknown>)[key];
      if (member === undefined) continue;
      members.push(`${writeString(key, path)}:${write(member, `${path}.${key}`, depth + 1)}`);
    }
    return `{${members.join(",")}}`;
  }
  throw new TypeError(`Cannot write JSON: ${path} is ${Object.prototype.toString.call(value)}, expected a JSON value`);
}

function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype || Object.getPrototypeOf(prototype) === null;
}

/** A surrogate without its other half. */
const LONE_SURROGATE = /[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/;

function writeString(value: string, path: string): string {
  if (LONE_SURROGATE.test(value)) throw new TypeError(`Cannot write JSON: a string at ${path} holds a lone surrogate`);
  return JSON.stringify(value);
}
