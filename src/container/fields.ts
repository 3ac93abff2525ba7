/**
 * Strict reading of JSON objects: every field is checked, every unknown one refused, every message names the field, its
 * value and what was wanted.
 *
 * @module
 */
import { KvzFormatError } from "../errors.ts";
import type { JsonObject, JsonValue } from "./canonical_json.ts";

/** One JSON object that is being taken apart. Ask for each field, then call {@linkcode Fields.done}. */
export class Fields {
  readonly #object: JsonObject;
  readonly #path: string;
  readonly #what: string;
  readonly #asked = new Set<string>();

  /**
   * Begins to take an object apart.
   *
   * @param what the thing read, for messages: "cache header"
   * @param path the object's own path in it, empty for the top
   * @throws {KvzFormatError} when `value` is not an object
   */
  constructor(value: JsonValue | undefined, what: string, path = "") {
    this.#what = what;
    this.#path = path;
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw this.#error(path === "" ? "it" : path, value, "an object");
    }
    this.#object = value as JsonObject;
  }

  /** Whether the field is there. */
  has(name: string): boolean {
    return this.#get(name) !== undefined;
  }

  /** An integer in [min, max]. */
  integer(name: string, min: number, max: number): number {
    const value = this.#get(name);
    if (!Number.isInteger(value) || (value as number) < min || (value as number) > max) {
      throw this.fault(name, `an integer from ${min} to ${max}`);
    }
    return value as number;
  }

  /** A finite number above 0 (or from `min` on, when that is given). */
  number(name: string, min?: number): number {
    const value = this.#get(name);
    if (typeof value !== "number" || !Number.isFinite(value) || (min === undefined ? value <= 0 : value < min)) {
      throw this.fault(name, min === undefined ? "a number above 0" : `a number from ${min} on`);
    }
    return value;
  }

  /** A boolean. */
  boolean(name: string): boolean {
    const value = this.#get(name);
    if (typeof value !== "boolean") throw this.fault(name, "true or false");
    return value;
  }

  /** A text of 1 to `maxLength` UTF-16 units. */
  string(name: string, maxLength = 1024): string {
    const value = this.#get(name);
    if (typeof value !== "string" || value.length === 0 || value.length > maxLength) {
      throw this.fault(name, `a text of 1 to ${maxLength} characters`);
    }
    return value;
  }

  /** One of a few texts. */
  oneOf<T extends string>(name: string, choices: readonly T[]): T {
    const value = this.#get(name) as T;
    if (!choices.includes(value)) throw this.fault(name, choices.map((c) => JSON.stringify(c)).join(" or "));
    return value;
  }

  /** A SHA-256 in 64 lower-case hexadecimal digits. */
  sha256(name: string): string {
    const value = this.#get(name);
    if (typeof value !== "string" || !/^[0-9a-f]{64}$/.test(value)) {
      throw this.fault(name, "64 lower-case hexadecimal digits");
    }
    return value;
  }

  /** Any object, not taken apart. */
  object(name: string): JsonObject {
    const value = this.#get(name);
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw this.fault(name, "an object");
    return value as JsonObject;
  }

  /** An object to be taken apart. */
  fields(name: string): Fields {
    return new Fields(this.#get(name), this.#what, this.#pathOf(name));
  }

  /** The value as it is. */
  value(name: string): JsonValue | undefined {
    return this.#get(name);
  }

  /**
   * Ends the reading.
   *
   * @throws {KvzFormatError} when there is a field that was not asked for
   */
  done(): void {
    for (const name of Object.keys(this.#object)) {
      if (!this.#asked.has(name) && this.#object[name] !== undefined) {
        throw new KvzFormatError(`Cannot read ${this.#what}: unknown field ${JSON.stringify(this.#pathOf(name))}`);
      }
    }
  }

  /** The error that a field is not what was wanted, for checks made outside. */
  fault(name: string, wanted: string): KvzFormatError {
    return this.#error(this.#pathOf(name), this.#get(name), wanted);
  }

  #get(name: string): JsonValue | undefined {
    this.#asked.add(name);
    return Object.hasOwn(this.#object, name) ? this.#object[name] : undefined;
  }

  #pathOf(name: string): string {
    return this.#path === "" ? name : `${this.#path}.${name}`;
  }

  #error(path: string, value: JsonValue | undefined, wanted: string): KvzFormatError {
    const shown = value === undefined ? "absent" : typeof value === "number" ? String(value) : JSON.stringify(value);
    const short = shown.length > 60 ? `${shown.slice(0, 57)}...` : shown;
    return new KvzFormatError(`Cannot read ${this.#what}: ${path} is ${short}, expected ${wanted}`);
  }
}
