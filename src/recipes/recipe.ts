/**
 * The Recipe contract: a method, declared as its stages and options, and the two things the codec asks of it: a plain
 * description of what a lane has to load (`Setup`, which can be posted to a worker), and the chunk codec a lane runs.
 *
 * @module
 */
import type { Backend, DeviceBuffer } from "../backend/backend.ts";
import type { DeviceCache } from "../codec/device_cache.ts";
import type { KvCache } from "../cache/kv_cache.ts";
import type { CacheSource, DType, Kind, ModelSpec } from "../cache/types.ts";
import type { Profile } from "../profile/types.ts";
import type { CodedStream } from "../stages/entropy/deflate.ts";
import type { RunningCache } from "./running.ts";

/** Where a token range lies in the cache; each region has its own streams. */
export type Region = "sinks" | "chunk" | "window";

/** A coded stream with the four-letter record tag it is stored under. */
export interface TaggedStream extends CodedStream {
  readonly tag: string;
}

/** One token range to be encoded: the kinds that the recipe codes together. */
export interface EncodeJob {
  readonly op: "encode";
  readonly region: Region;
  readonly kinds: readonly Kind[];
  /** Index of the first token in the cache, for messages. */
  readonly begin: number;
  readonly tokens: number;
  /** Tokens that the cache has after these. */
  readonly after: number;
  readonly positions: Int32Array;
  /** A chunk of the newest tokens. */
  readonly recent?: true;
  /** {@linkcode Setup.settings} of the file's setup. */
  readonly settings?: object;
  /** Source elements [layers][heads][tokens][dim] of each kind. */
  readonly data: readonly Uint8Array[];
  /** Views [tokens][dim] of each layer and head of each kind instead, where the recipe takes them; `data` is empty then. */
  readonly views?: readonly (readonly Uint8Array[])[];
  /** Streams come back by {@linkcode ChunkCodec.reuse} when nobody reads them any more. */
  readonly lent?: true;
  /** What the recipe's {@linkcode Selection} says of these tokens, [layers][heads][tokens]; absent: all are kept. */
  readonly marks?: Uint8Array;
  /** Where the elements lie instead, on the lane's device; `data` is empty then. */
  readonly source?: DeviceCache;
  /** Streams of the tokens before these in the same chunk, which stay as they are (append). */
  readonly previous?: {
    readonly tokens: number;
    readonly positions: Int32Array;
    readonly streams: readonly TaggedStream[];
  };
}

/** One token range to be decoded: the kinds that the recipe codes together. */
export interface DecodeJob {
  readonly op: "decode";
  readonly region: Region;
  readonly kinds: readonly Kind[];
  readonly tokens: number;
  /** Positions the tokens were stored with. */
  readonly positions: Int32Array;
  /** Positions the restored keys shall have. */
  readonly targetPositions: Int32Array;
  readonly layerBegin: number;
  readonly layerEnd: number;
  readonly streams: readonly TaggedStream[];
  /** {@linkcode Setup.settings} of the file's setup. */
  readonly settings?: object;
  /** Marks of all layers, as in {@linkcode EncodeJob}. The decoder gives zeros where a head holds no token. */
  readonly marks?: Uint8Array;
  /** Where the first `take` tokens go, from token `begin` on, on the lane's device; the result is empty then. */
  readonly sink?: { readonly cache: DeviceCache; readonly begin: number; readonly take: number };
  /**
   * Where elements may go, [kinds][layers · heads] views of [tokens][dim]: a result that is empty is there. For recipes that
   * take views, in the calling thread.
   */
  readonly views?: readonly (readonly Uint8Array[])[];
}

/** Undoes the entropy coding only, so that a stream can be decoded for several layer ranges. */
export interface InflateJob {
  readonly op: "inflate";
  readonly region: Region;
  readonly kinds: readonly Kind[];
  readonly tokens: number;
  /** Positions the tokens were stored with. */
  readonly positions: Int32Array;
  readonly streams: readonly TaggedStream[];
  /** As in {@linkcode DecodeJob}. */
  readonly settings?: object;
  /** As in {@linkcode DecodeJob}. */
  readonly marks?: Uint8Array;
}

/** What a lane can be asked. */
export type Job = EncodeJob | DecodeJob | InflateJob;

/** Encodes and decodes token ranges of one file or cache; lives in one lane (thread). */
export interface ChunkCodec extends Disposable {
  /** Jobs that may be under way at once, by default one: a GPU is filled by several chunks. */
  readonly jobs?: number;
  encode(job: EncodeJob): Promise<TaggedStream[]>;
  /** Elements [layerEnd − layerBegin][heads][tokens][dim] of each kind of the job. */
  decode(job: DecodeJob): Promise<Uint8Array[]>;
  /** Encodes a chunk, or sinks, whose elements (finite ones) lie in buffers of the backend, where the recipe can. */
  encodeOnDevice?(job: EncodeJob, elements: readonly DeviceBuffer[]): Promise<TaggedStream[]>;
  /** Decodes a chunk, or sinks, into buffers of the backend, where the recipe can. Enqueues the last steps. */
  decodeOnDevice?(job: DecodeJob, to: readonly DeviceBuffer[]): Promise<void>;
  inflate(job: InflateJob): Promise<TaggedStream[]>;
  /** Takes back streams of jobs that say `lent`. */
  reuse?(streams: readonly TaggedStream[]): void;
}

/** What a lane loads to run a recipe: plain data, cloneable. `key` names it, so that lanes reload only on change. */
export interface Setup {
  readonly recipe: string;
  readonly key: string;
  /** Key of a setup that can do all that this one can: a lane that has it loads nothing. */
  readonly within?: string;
  /** What goes with every job instead of into the lanes, so that files of different settings share a key. */
  readonly settings?: object;
  /** Payload of the file's plan record; empty where a recipe has none. */
  readonly plan: Uint8Array;
}

/** What the setup of a recipe that hands work to another one takes over from the other's; `by` names it in keys. */
export function outerSetup({ key, within, plan, settings }: Setup, by: string): Omit<Setup, "recipe"> {
  return {
    key: `${by} ${key}`,
    plan,
    ...(within === undefined ? {} : { within: `${by} ${within}` }),
    ...(settings === undefined ? {} : { settings }),
  };
}

/** An option of a recipe, for `kvz recipes` and for checks. */
export interface OptionSpec {
  /** Name as in {@linkcode CompressOptions}. */
  readonly name: string;
  /** Default, null where it follows from other options. */
  readonly default: number | string | null;
  /** What it does, one line. */
  readonly description: string;
}

/** What a recipe says of itself. */
export interface RecipeInfo {
  /** Name in files and options, for instance "kvtc". */
  readonly name: string;
  /** Version of the recipe's payloads; a file of another version is refused. */
  readonly version: number;
  /** The method, one line. */
  readonly description: string;
  /** Its options with defaults. */
  readonly options: readonly OptionSpec[];
  /** What must be given: "profile", "queries", … Without "profile" a file stands alone. */
  readonly needs: readonly string[];
  /** The recipe whose profiles it takes, where it needs one and that is not its own name. */
  readonly profile?: string;
  /** Stages in encoding order, by name. */
  readonly stages: readonly string[];
}

/** Facts of the cache in hand that a setup depends on. */
export interface SetupFacts {
  readonly model: ModelSpec;
  /** Element type of the stored raw tokens and of the encoder's input. */
  readonly storedDType: DType;
  /** Element type of what decoding yields. */
  readonly dtype: DType;
  /** What the recipe's `select` wants in the plan; encoding only. */
  readonly selected?: Uint8Array;
  /**
   * Makes a backend in this thread, for setups that compute much. Given, not imported, so that the edge entry does not carry
   * the inlined kernels.
   */
  readonly openBackend: () => Promise<Backend>;
}

/**
 * What a recipe chose after a look at the whole cache (keys of all tokens, queries), before any of it is encoded.
 */
export interface Selection {
  /**
   * [layers][kvHeads][tokens]: 0 where the head does not keep the token; any other number up to 255 is a class of the
   * recipe's own. Every chunk of the file carries those of its tokens, sinks and window are kept whole. Absent: all kept.
   */
  readonly marks?: Uint8Array;
  /** What holds for the whole file; comes to `planSetup` as `facts.selected`. */
  readonly plan?: Uint8Array;
}

/** The option that sets how small a file becomes: the file's ratio rises with it. */
export interface Knob {
  /** Name of the option. */
  readonly name: string;
  /** Range that a search may use; both above 0. */
  readonly min: number;
  readonly max: number;
  /** Where the search for a ratio of the whole file begins. */
  start(fileRatio: number, profile: Profile | null): number | Promise<number>;
}

/**
 * A method as the codec sees it: a light declaration. What its lanes run may be loaded when it is used (`planSetup`,
 * `loadSetup` and `open` may be asynchronous), so that a program carries only the methods it uses.
 */
export interface Recipe<Options extends object = Record<string, unknown>> extends RecipeInfo {
  /** Kinds that are coded together; each kind stands in one group. */
  readonly groups: readonly (readonly Kind[])[];
  /** Tokens of a full chunk. */
  readonly chunkTokens: number;
  /** Tokens of a full chunk of so large a model, where those are fewer. */
  chunkTokensOf?(model: ModelSpec): number;
  /** Whether decoding a few layers of a chunk costs little more than their share, so that threads may share it out. */
  readonly byLayers?: boolean;
  /** Whether elements may come from and go to views of the caller's memory ({@linkcode EncodeJob}, {@linkcode DecodeJob}). */
  readonly takesViews?: boolean;
  /** What `fileRatio` varies; null where nothing does. */
  readonly knob: Knob | null;
  /** Whether option `ratio` means the ratio of the whole file, found by the knob. */
  readonly ratioOfFile: boolean;
  /** Fills in defaults and checks ranges. Throws RangeError or TypeError naming the option. */
  parseOptions(options: Record<string, unknown>): Options;
  /**
   * The recipe as its options make it, where they hand a part of the work to another method: of the same name and version,
   * with that method's groups, chunks, tags and needs. Absent: it is always as it stands.
   *
   * @throws {KvzUnsupportedError} The two do not compose; the message says why.
   */
  settle?(options: Options): Promise<Recipe<Options>>;
  /**
   * Oldest and newest tokens kept out of the chunks of a cache of `tokens` tokens; `recent`: newest of those in chunks that
   * get chunks of their own, coded more finely (default: none).
   */
  regions(options: Options, tokens: number): { sinks: number; window: number; recent?: number };
  /**
   * Chooses what each head keeps. A recipe that has this takes the cache as a whole: nothing can be appended to its files.
   *
   * @throws {KvzUnsupportedError} The cache lacks what the choice depends on, for instance queries.
   */
  select?(source: CacheSource, options: Options): Promise<Selection>;
  /**
   * The setup for encoding: computes the plan. `profile` is null only where the recipe needs none.
   * Throws KvzMismatchError when the profile is not of this recipe's kind.
   */
  planSetup(profile: Profile | null, facts: SetupFacts, options: Options): Setup | Promise<Setup>;
  /**
   * The setup for decoding a file that carries `plan` and was made with `options`; with `append`, the same options, for
   * encoding more tokens of it as well.
   * Throws KvzFormatError or KvzMismatchError.
   */
  loadSetup(
    profile: Profile | null,
    facts: SetupFacts,
    plan: Uint8Array,
    append: Options | undefined,
    options: Options,
  ): Setup | Promise<Setup>;
  /** Record tags of a region and a group of kinds. */
  tags(region: Region, kinds: readonly Kind[]): readonly string[];
  /**
   * Layers that share keys and values: the layer that each of `layers` layers attends to, in the model as well. Restored
   * caches hold the source's in all of them. Absent: every layer has its own.
   */
  layerSource?(options: Options, layers: number): readonly number[];
  /**
   * What the method does to a cache while a model goes on after it. Absent: nothing, tokens that come stay as they are.
   *
   * @param source what was compressed
   * @param restored what came back of it
   * @throws {KvzUnsupportedError} The source lacks what the choice depends on, for instance queries.
   */
  running?(source: CacheSource, restored: KvCache, options: Options): Promise<RunningCache>;
  /** Makes the chunk codec in a lane. */
  open(backend: Backend, setup: Setup): ChunkCodec | Promise<ChunkCodec>;
}
