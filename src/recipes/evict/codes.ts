/**
 * How what is kept can be coded: as it is, or by a method that codes each head by itself.
 *
 * @module
 */
import type { Backend } from "../../backend/backend.ts";
import type { DType, Kind } from "../../cache/types.ts";
import { KvzFormatError, KvzUnsupportedError } from "../../errors.ts";
import { q40, q80 } from "../baselines/ggml.ts";
import { kivi } from "../baselines/kivi.ts";
import { quarot } from "../baselines/quarot.ts";
import { turboquant } from "../baselines/turboquant.ts";
import { compositionError } from "../composition.ts";
import { kvz, type KvzQuality } from "../kvz.ts";
import type { RecipeInfo } from "../recipe.ts";
import { findRecipe } from "../registry.ts";
import type { TensorCoder, TensorModule } from "../tensor/coder.ts";

/** The options of a code. */
export interface CodeOptions {
  /** "raw", or the name of a recipe. */
  readonly code: string;
  /** Bits of its codes; null: the recipe's default. */
  readonly bits: number | null;
  /** Of code kvz: one of both. */
  readonly quality?: KvzQuality;
  readonly step?: number;
}

/** A method of codes whose length follows from the number of tokens. */
interface Code {
  parse(options: Record<string, unknown>): object;
  load(): Promise<TensorModule<object>>;
}

/** The type of its options is the module's own business. */
function code<Options>(
  { parseOptions }: { parseOptions(options: Record<string, unknown>): object },
  load: () => Promise<TensorModule<Options>>,
): Code {
  return { parse: parseOptions, load: load as () => Promise<TensorModule<object>> };
}

const ggml = async (type: "q8_0" | "q4_0") => (await import("../baselines/ggml_coder.ts")).ggmlModule(type);

const CODES: ReadonlyMap<string, Code> = new Map([
  ["kivi", code({ parseOptions: (o) => kivi.parseOptions(o) }, () => import("../baselines/kivi_coder.ts"))],
  ["quarot", code({ parseOptions: (o) => quarot.parseOptions(o) }, () => import("../baselines/quarot_coder.ts"))],
  [
    "turboquant",
    code({ parseOptions: (o) => turboquant.parseOptions(o) }, () => import("../baselines/turboquant_coder.ts")),
  ],
  ["q8_0", code({ parseOptions: (o) => q80.parseOptions(o) }, () => ggml("q8_0"))],
  ["q4_0", code({ parseOptions: (o) => q40.parseOptions(o) }, () => ggml("q4_0"))],
]);

/** What {@linkcode checkCode} and {@linkcode openCode} read. */
function parseBits(found: Code, bits: number | null): object {
  return found.parse(bits === null ? {} : { bits });
}

/**
 * Refuses a code that cannot follow a recipe.
 *
 * @throws {RangeError} There is no such recipe, or its bits are out of range.
 * @throws {KvzUnsupportedError} It cannot code what the recipe leaves; the message says why.
 */
export async function checkCode(
  recipe: Pick<RecipeInfo, "name" | "stages">,
  { code: name, bits }: CodeOptions,
): Promise<void> {
  if (name === "raw") {
    if (bits !== null) throw new RangeError(`Cannot use option "bits": it is ${bits}, code raw has none`);
    return;
  }
  const why = compositionError(recipe, await findRecipe(name));
  if (why !== null) throw new KvzUnsupportedError(why);
  if (name === kvz.name) {
    if (bits !== null) throw new RangeError(`Cannot use option "bits": it is ${bits}, code kvz has none`);
    return;
  }
  const found = CODES.get(name);
  if (found === undefined) {
    throw new KvzUnsupportedError(
      `Cannot put ${name} after ${recipe.name}: it cannot code one head alone; there is raw, ${
        [...CODES.keys()].join(", ")
      }`,
    );
  }
  parseBits(found, bits);
}

/**
 * Makes the coder of one head.
 *
 * @throws {KvzFormatError} There is no such code.
 * @throws {KvzUnsupportedError} It does not take heads of that many elements.
 */
export async function openCode(
  { code: name, bits }: CodeOptions,
  { kind, dim, storedDType, backend }: { kind: Kind; dim: number; storedDType: DType; backend: Backend },
): Promise<TensorCoder> {
  const found = CODES.get(name);
  if (found === undefined) throw new KvzFormatError(`Cannot read file: its heads are coded by "${name}", unknown`);
  const shapes = [{ kind, layers: 1, heads: 1, dim }];
  return await (await found.load()).open(parseBits(found, bits), { shapes, region: "chunk", storedDType, backend });
}
