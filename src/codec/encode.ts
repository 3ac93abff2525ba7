/**
 * CacheSource → recipe → container.
 *
 * @module
 */
import { modelFingerprint, resolveModel } from "../cache/fingerprint.ts";
import type { CacheSource, Kind, ModelSpec } from "../cache/types.ts";
import type { ByteSink } from "../container/bytes.ts";
import type { JsonObject } from "../container/canonical_json.ts";
import { FrameWriter } from "../container/frame_writer.ts";
import { encodeHeader } from "../container/header.ts";
import { KvzUnsupportedError } from "../errors.ts";
import { modelOf } from "../profile/model_of.ts";
import type { Profile } from "../profile/types.ts";
import type { EncodeJob, Recipe, Setup, TaggedStream } from "../recipes/recipe.ts";
import { findRecipe } from "../recipes/registry.ts";
import { type CodedStream, encodeStream } from "../stages/entropy/deflate.ts";
import { splitTokens } from "../stages/tokens/split.ts";
import type { DeviceCache } from "./device_cache.ts";
import type { Lanes } from "./lanes.ts";
import type { CallOptions, CompressOptions } from "./options.ts";
import { allDone, mapOrdered } from "./ordered.ts";
import {
  codedUnits,
  FILE_CHUNK,
  firstOfContiguous,
  int32Bytes,
  regionOf,
  SINK_CHUNK,
  TAG_IDS,
  TAG_KEPT,
  TAG_PLAN,
  TAG_POSITIONS,
  type Unit,
  WINDOW_CHUNK,
} from "./regions.ts";

/** Names of the options that are the codec's; all others are the recipe's. */
const CODEC_OPTIONS = new Set(["recipe", "fileRatio", "tokenIds", "user", "onProgress", "signal"]);

/** Splits call options into the recipe and its parsed options. */
export async function chooseRecipe(
  options: CompressOptions,
  profile: Profile | null,
): Promise<{ recipe: Recipe<object>; recipeOptions: object }> {
  const recipe = await findRecipe(options.recipe ?? defaultRecipe(profile));
  const own = Object.entries(options).filter(([name, value]) => !CODEC_OPTIONS.has(name) && value !== undefined);
  const recipeOptions = recipe.parseOptions(Object.fromEntries(own));
  return { recipe: await recipe.settle?.(recipeOptions) ?? recipe, recipeOptions };
}

/** The recipe that a profile is for. */
export function defaultRecipe(profile: Profile | null): string {
  return profile === null ? "lossless" : profile.method;
}

/** What is settled before the first token is encoded: recipe, options and the setup of the lanes. */
export interface PreparedEncode {
  readonly recipe: Recipe<object>;
  readonly recipeOptions: object;
  readonly model: ModelSpec;
  readonly setup: Setup;
  /** What each head keeps, where the recipe chooses. */
  readonly marks: Uint8Array | undefined;
}

/** Setups made so far, by recipe, options, model and element type: a plan is computed once. */
export type SetupCache = Map<string, Setup>;

/** Plans are small; the bound only keeps a long-lived codec that is asked for ever new ratios from growing. */
const MAX_SETUPS = 64;

/** Checks that cache, profile and options belong together, computes the plan and loads the lanes. */
export async function prepareEncode(
  lanes: Lanes,
  profile: Profile | null,
  source: CacheSource,
  options: CompressOptions,
  setups: SetupCache,
): Promise<PreparedEncode> {
  const { recipe, recipeOptions } = await chooseRecipe(options, profile);
  if (source.ragged) {
    throw new KvzUnsupportedError(
      `Cannot compress a ragged cache with recipe ${recipe.name}: its heads hold different tokens; it takes dense ones`,
    );
  }
  const model = profile === null
    ? source.model
    : resolveModel(source.model, await modelOf(profile), { found: "the cache", wanted: "the profile" });
  const key = JSON.stringify([recipe.name, recipeOptions, source.dtype, model]);
  const selection = await recipe.select?.(source, recipeOptions);
  // What was selected is this cache's alone.
  let setup = selection === undefined ? setups.get(key) : undefined;
  if (setup === undefined) {
    const { dtype } = source;
    const selected = selection?.plan;
    const facts = { model, storedDType: dtype, dtype, selected, openBackend: lanes.openBackend };
    setup = await lanes.plan(() => recipe.planSetup(profile, facts, recipeOptions));
    if (setups.size >= MAX_SETUPS) setups.clear();
    if (selection === undefined) setups.set(key, setup);
  }
  await lanes.load(setup);
  return { recipe, recipeOptions, model, setup, marks: selection?.marks };
}

/** Compresses a whole cache into a sink; returns the writer for its records and size. The lanes must be loaded. */
export async function encodeCache(
  lanes: Lanes,
  profile: Profile | null,
  source: CacheSource,
  sink: ByteSink,
  options: CompressOptions,
  { recipe, recipeOptions, model, setup, marks }: PreparedEncode,
  written?: UnitEncoder["written"],
): Promise<FrameWriter> {
  const firstPosition = firstOfContiguous(source.positions);
  const withIds = options.tokenIds !== false && source.inputIds !== undefined;
  const chunkTokens = recipe.chunkTokensOf?.(model) ?? recipe.chunkTokens;
  const header = encodeHeader({
    recipe: { name: recipe.name, version: recipe.version, options: recipeOptions as JsonObject },
    model,
    modelFingerprint: await modelFingerprint(model),
    ...(profile !== null && recipe.needs.includes("profile") ? { profileFingerprint: profile.fingerprint } : {}),
    dtype: source.dtype,
    chunkTokens,
    ...(firstPosition === undefined ? {} : { firstPosition }),
    ...(options.user === undefined ? {} : { user: options.user }),
  });
  const writer = new FrameWriter(sink, "cache", header);
  await writer.start();
  await writePlan(writer, setup);

  const { sinks, window, recent = 0 } = recipe.regions(recipeOptions, source.tokens);
  const { codedBegin, codedEnd, tokens } = splitTokens(source.tokens, sinks, window);
  const units: Unit[] = [
    ...(codedBegin > 0 ? [{ chunk: SINK_CHUNK, begin: 0, end: codedBegin }] : []),
    ...codedUnits(codedBegin, codedEnd, recent, chunkTokens),
    ...(codedEnd < tokens ? [{ chunk: WINDOW_CHUNK, begin: codedEnd, end: tokens }] : []),
  ];
  await encodeUnits(
    {
      lanes,
      recipe,
      source,
      writer,
      withIds,
      withPositions: firstPosition === undefined,
      marks,
      settings: setup.settings,
      written,
    },
    units,
    options,
  );
  await writer.finish();
  return writer;
}

/** What encoding units needs. */
export interface UnitEncoder {
  readonly lanes: Lanes;
  readonly recipe: Recipe<object>;
  readonly source: CacheSource;
  readonly writer: FrameWriter;
  readonly withIds: boolean;
  readonly withPositions: boolean;
  /** Of the setup. */
  readonly settings: object | undefined;
  /** What each head keeps of all tokens of the source. */
  readonly marks?: Uint8Array;
  /** Told of streams when the sink has them: who gives it sees to it that they come back to their lane some time. */
  readonly written?: (streams: readonly TaggedStream[]) => void;
  /** Streams of the tail chunk that the first coded unit goes on with (append). */
  readonly previous?: { readonly tokens: number; readonly ids: Int32Array | null; readonly positions: Int32Array } & {
    /** By the recipe's groups of kinds. */
    readonly streams: readonly (readonly TaggedStream[])[];
  };
}

/** Encodes units in order and writes their records. `unit.begin` and `unit.end` are token indices of the source. */
export async function encodeUnits(
  encoder: UnitEncoder,
  units: readonly Unit[],
  { onProgress, signal }: CallOptions,
): Promise<void> {
  const { lanes, recipe, source, writer } = encoder;
  let previousUsed = false;
  const started = mapOrdered(units, lanes.jobs + 1, async (unit) => {
    signal?.throwIfAborted();
    const previous = regionOf(unit.chunk) === "chunk" && !previousUsed ? encoder.previous : undefined;
    if (previous) previousUsed = true;
    const kept = encoder.marks === undefined || regionOf(unit.chunk) !== "chunk"
      ? undefined
      : await keptRecord(encoder.marks, source.tokens, unit);
    const streams = await allDone(recipe.groups.map((kinds, i) => {
      if (previous === undefined) return encodeKinds(encoder, unit, kinds, { marks: kept?.marks });
      const { tokens, positions, streams } = previous;
      return encodeKinds(encoder, unit, kinds, { previous: { tokens, positions, streams: streams[i] } });
    }));
    return { unit, previous, streams: [...streams.flat(), ...kept === undefined ? [] : [kept.record]] };
  });
  for await (const { unit, previous, streams } of started) {
    const tokens = unit.end - unit.begin + (previous?.tokens ?? 0);
    for (const { tag, codec, rawLength, bytes } of streams) {
      await writer.writeRecord({ tag, chunk: unit.chunk, tokens, codec, rawLength }, bytes);
    }
    encoder.written?.(streams);
    if (encoder.withPositions) {
      const values = source.positions.subarray(unit.begin, unit.end);
      await writeInts(writer, TAG_POSITIONS, unit.chunk, join(previous?.positions, values));
    }
    if (encoder.withIds) {
      const values = source.inputIds!.subarray(unit.begin, unit.end);
      await writeInts(writer, TAG_IDS, unit.chunk, join(previous?.ids, values));
    }
    onProgress?.({ done: unit.end, total: source.tokens });
  }
}

async function encodeKinds(
  { lanes, recipe, source, settings, written }: UnitEncoder,
  unit: Unit,
  kinds: readonly Kind[],
  { previous, marks }: Pick<EncodeJob, "previous" | "marks">,
): Promise<TaggedStream[]> {
  const data: Uint8Array[] = [];
  const there = onDevice(source) ? source : null;
  const views = there === null && recipe.takesViews && lanes.inline && source.views !== undefined
    ? kinds.map((kind) => source.views!(kind, unit.begin, unit.end))
    : null;
  if (there === null && views === null) {
    for (const kind of kinds) data.push(await source.read(kind, unit.begin, unit.end));
  }
  const result = await lanes.run({
    op: "encode",
    region: regionOf(unit.chunk),
    kinds,
    begin: unit.begin,
    tokens: unit.end - unit.begin,
    after: source.tokens - unit.end,
    positions: source.positions.slice(unit.begin, unit.end),
    data,
    ...(views ? { views } : {}),
    ...(unit.recent ? { recent: true } : {}),
    ...(settings ? { settings } : {}),
    ...(lanes.inline && written !== undefined ? { lent: true as const } : {}),
    ...(there ? { source: there } : {}),
    ...(previous ? { previous } : {}),
    ...(marks ? { marks } : {}),
  });
  return result as TaggedStream[];
}

/** Marks of a unit's tokens, and the record that carries them. Few recipes have any: loaded when there are some. */
async function keptRecord(
  marks: Uint8Array,
  tokens: number,
  { begin, end }: Unit,
): Promise<{ marks: Uint8Array; record: TaggedStream }> {
  const { encodeMarks, sliceMarks } = await import("./marks.ts");
  const own = sliceMarks(marks, tokens, begin, end);
  return { marks: own, record: { ...await encodeMarks(own, end - begin), tag: TAG_KEPT } };
}

/** By its form, so that programs without a GPU do not carry the class. */
function onDevice(source: CacheSource): source is DeviceCache {
  return "copyTo" in source;
}

/** Plans as files have them, of setups that are in use again. */
const plans = new WeakMap<Setup, CodedStream>();

async function writePlan(writer: FrameWriter, setup: Setup): Promise<void> {
  const coded = plans.get(setup) ?? await encodeStream(setup.plan);
  plans.set(setup, coded);
  const { codec, rawLength, bytes } = coded;
  await writer.writeRecord({ tag: TAG_PLAN, chunk: FILE_CHUNK, tokens: 0, codec, rawLength }, bytes);
}

async function writeInts(writer: FrameWriter, tag: string, chunk: number, values: Int32Array): Promise<void> {
  const { codec, rawLength, bytes } = await encodeStream(int32Bytes(values));
  await writer.writeRecord({ tag, chunk, tokens: values.length, codec, rawLength }, bytes);
}

function join(before: Int32Array | null | undefined, values: Int32Array): Int32Array {
  if (!before) return values;
  const out = new Int32Array(before.length + values.length);
  out.set(before);
  out.set(values, before.length);
  return out;
}
