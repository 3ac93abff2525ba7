/**
 * The Recipe contract: a method, declared as its stages and options, and the two things the codec asks of it: a plain
 * description of what a lane has to load (`Setup`, which can be posted to a worker), and the chunk codec a lane runs.
 *
 * @module
 */
import type { Backend } from "../backend/backend.ts";
import type { DType, Kind, ModelSpec } from "../cache/types.ts";
import type { Profile } from "../profile/types.ts";
import type { CodedStream } from "../stages/entropy/deflate.ts";

/** Where a token range lies in the cache; each region has its own streams. */
export type Region = "sinks" | "chunk" | "window";

/** A coded stream with the four-letter record tag it is stored under. */
export interface TaggedStream extends CodedStream {
  readonly tag: string;
}

/** One kind of one token range to be encoded. */
export interface EncodeJob {
  readonly op: "encode";
  readonly region: Region;
  readonly kind: Kind;
  /** Index of the first token in the cache, for messages. */
  readonly begin: number;
  readonly tokens: number;
  readonly positions: Int32Array;
  /** Source elements [layers][heads][tokens][dim]. */
  readonly data: Uint8Array;
  /** Streams of the tokens before these in the same chunk, which stay as they are (append). */
  readonly previous?: { readonly tokens: number; readonly streams: readonly TaggedStream[] };
}

/** One kind of one token range to be decoded. */
export interface DecodeJob {
  readonly op: "decode";
  readonly region: Region;
  readonly kind: Kind;
  readonly tokens: number;
  /** Positions the tokens were stored with. */
  readonly positions: Int32Array;
  /** Positions the restored keys shall have. */
  readonly targetPositions: Int32Array;
  readonly layerBegin: number;
  readonly layerEnd: number;
  readonly streams: readonly TaggedStream[];
}

/** Undoes the entropy coding only, so that a stream can be decoded for several layer ranges. */
export interface InflateJob {
  readonly op: "inflate";
  readonly region: Region;
  readonly kind: Kind;
  readonly tokens: number;
  readonly streams: readonly TaggedStream[];
}

/** What a lane can be asked. */
export type Job = EncodeJob | DecodeJob | InflateJob;

/** Encodes and decodes token ranges of one file or cache; lives in one lane (thread). */
export interface ChunkCodec extends Disposable {
  encode(job: EncodeJob): Promise<TaggedStream[]>;
  decode(job: DecodeJob): Promise<Uint8Array>;
  inflate(job: InflateJob): Promise<TaggedStream[]>;
}

/** What a lane loads to run a recipe: plain data, cloneable. `key` names it, so that lanes reload only on change. */
export interface Setup {
  readonly recipe: string;
  readonly key: string;
  /** Payload of the file's plan record; empty where a recipe has none. */
  readonly plan: Uint8Array;
}

/** An option of a recipe, for `kvz recipes` and for checks. */
export interface OptionSpec {
  /** Name as in {@linkcode CompressOptions}. */
  readonly name: string;
  /** Default, null where it follows from other options. */
  readonly default: number | null;
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
  /** What must be given: "profile", "queries", … */
  readonly needs: readonly string[];
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
}

/** A method as the codec sees it. */
export interface Recipe<Options extends object = Record<string, unknown>> extends RecipeInfo {
  /** Fills in defaults and checks ranges. Throws RangeError or TypeError naming the option. */
  parseOptions(options: Record<string, unknown>): Options;
  /** Oldest and newest tokens kept out of the chunks. */
  regions(options: Options): { sinks: number; window: number };
  /** The setup for encoding: computes the plan. */
  planSetup(profile: Profile, facts: SetupFacts, options: Options): Setup;
  /** The setup for decoding a file that carries `plan`. Throws KvzFormatError or KvzMismatchError. */
  loadSetup(profile: Profile, facts: SetupFacts, plan: Uint8Array): Setup;
  /** Record tags of a region and kind. */
  tags(region: Region, kind: Kind): readonly string[];
  /** Makes the chunk codec in a lane. */
  open(backend: Backend, setup: Setup): ChunkCodec;
}
