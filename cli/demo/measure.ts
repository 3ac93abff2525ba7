/**
 * Compresses and restores a cache at several ratios and collects what the demo shows.
 *
 * @module
 */
import { packedLength, TYPE_BITS } from "../../src/backend/backend.ts";
import type { QuantGroup } from "../../src/backend/backend.ts";
import type { CacheSource, Kind } from "../../src/cache/types.ts";
import type { Codec } from "../../src/codec/codec.ts";
import { describeModel } from "../../src/cache/describe_model.ts";
import { inspect } from "../../src/codec/inspect.ts";
import { fp16Bytes } from "../../src/codec/report.ts";
import { KvzMismatchError } from "../../src/errors.ts";
import { planFor } from "../../src/profile/plan.ts";
import { requireProfile } from "../../src/profile/require.ts";
import { planComponents } from "../../src/stages/quantize/plan_format.ts";
import { GROUP_METADATA_BITS, type KvtcProfile } from "../../src/profile/types.ts";
import { measureErrors } from "../../src/eval/error_meter.ts";
import { VERSION } from "../version.ts";
import { type DemoData, type DemoRun, PARTS, type PerKind, STAGES } from "./data.ts";

/** Ratios shown when the user names none, as far as the profile allows. */
const RATIOS = [8, 16, 24, 32, 40, 48, 64];
/** Most ratios shown unasked. */
const MAX_RUNS = 4;

type Plans = PerKind<readonly QuantGroup[]>;

/** Options of {@linkcode measureDemo}. */
export interface DemoOptions {
  /** Default: up to four that the profile allows. */
  readonly ratios?: readonly number[];
  readonly window: number;
  readonly signal: AbortSignal;
  readonly onProgress: (progress: { readonly done: number; readonly total: number; readonly stage: string }) => void;
}

/** Runs the codec over a cache at every ratio. */
export async function measureDemo(codec: Codec, cache: CacheSource, options: DemoOptions): Promise<DemoData> {
  const profile = requireProfile(codec.profile, "kvtc");
  const plans = choosePlans(profile, options.ratios);
  const { window, signal } = options;
  const total = plans.length + 1;
  // The first call compiles and fills caches; it is not timed.
  options.onProgress({ done: 0, total, stage: "warming up" });
  const first = plans[0].ratio;
  const warm = await codec.compress(cache, { ratio: first, window, signal });
  await codec.decompress(warm.bytes, { signal });

  const runs: DemoRun[] = [];
  for (const [i, { ratio, groups }] of plans.entries()) {
    options.onProgress({ done: i + 1, total, stage: `ratio ${ratio}` });
    runs.push(await measureRun(codec, cache, ratio, groups, options));
  }
  const { regions } = await inspect(warm.bytes);
  const { tokens, sequences } = profile.calibration;
  const { backend, build, threads } = codec.info;
  const { model } = profile;
  return {
    version: VERSION,
    model: model.id ?? cache.model.id ?? "an unnamed model",
    geometry: describeModel(model),
    tokens: cache.tokens,
    dtype: cache.dtype,
    fp16Bytes: fp16Bytes(model, cache.tokens),
    ...regions,
    profile: { fingerprint: profile.fingerprint, tokens, sequences },
    components: { key: profile.kinds.key.table.rank, value: profile.kinds.value.table.rank },
    backend: `${backend} ${build}, ${threads} ${threads === 1 ? "thread" : "threads"}`,
    runs,
    qualities: [],
    partNames: PARTS.map(({ name }) => name),
    stageNames: STAGES,
  };
}

async function measureRun(
  codec: Codec,
  cache: CacheSource,
  ratio: number,
  groups: Plans,
  { window, signal }: DemoOptions,
): Promise<DemoRun> {
  const { bytes, report } = await codec.compress(cache, { ratio, window, signal });
  const { report: restored } = await codec.decompress(bytes, { signal });
  const { regions } = await inspect(bytes);
  const errors = await measureErrors(cache, codec.blocks(bytes, { signal }), regions);

  const bytesOf = (tags: RegExp) =>
    Object.entries(report.streams).reduce((sum, [tag, size]) => tags.test(tag) ? sum + size : sum, 0);
  const parts = PARTS.map(({ tags }) => bytesOf(tags));
  // Record headers, index and footer belong to no stream.
  parts[parts.length - 1] += bytes.length - bytesOf(/^/);
  const coded = regions.coded;
  const codedBytes = PARTS.slice(1, 5).reduce((sum, { tags }) => sum + bytesOf(tags), 0);
  return {
    ratio,
    bytesOut: bytes.length,
    paperRatio: report.paperRatio,
    fileRatio: report.fileRatio,
    error: { key: errors.key.regions.coded, value: errors.value.regions.coded },
    compressTokensPerSecond: report.tokensPerSecond,
    decompressTokensPerSecond: restored.tokensPerSecond,
    parts,
    stages: [
      fp16Bytes(cache.model, 1),
      2 * (groups.key.reduce(addSize, 0) + groups.value.reduce(addSize, 0)),
      coded === 0 ? 0 : quantizedBytes(groups, coded) / coded,
      coded === 0 ? 0 : codedBytes / coded,
    ],
    layers: { key: errors.key.layers, value: errors.value.layers },
    tokens: { key: errors.key.tokens, value: errors.value.tokens },
    bits: { key: bitLevels(groups.key), value: bitLevels(groups.value) },
  };
}

/** The ratios that the profile holds enough components for, with their plans. */
function choosePlans(profile: KvtcProfile, wanted: readonly number[] | undefined): { ratio: number; groups: Plans }[] {
  const plan = (ratio: number) => ({
    ratio,
    groups: { key: planFor(profile, "key", ratio), value: planFor(profile, "value", ratio) },
  });
  if (wanted !== undefined) return wanted.map(plan);
  const allowed: { ratio: number; groups: Plans }[] = [];
  for (const ratio of RATIOS) {
    try {
      allowed.push(plan(ratio));
    } catch (error) {
      // A trimmed profile refuses low ratios, which need more components.
      if (!(error instanceof KvzMismatchError)) throw error;
    }
  }
  if (allowed.length === 0) {
    throw new KvzMismatchError(`Cannot show ratios ${RATIOS.join(", ")}: the profile was trimmed below all of them`);
  }
  return pickEvenly(allowed, MAX_RUNS);
}

function pickEvenly<T>(items: readonly T[], count: number): T[] {
  if (items.length <= count) return [...items];
  return Array.from({ length: count }, (_, i) => items[Math.round(i * (items.length - 1) / (count - 1))]);
}

function addSize(sum: number, { size }: QuantGroup): number {
  return sum + size;
}

/** Codes and parameters before DEFLATE. */
function quantizedBytes(groups: Plans, tokens: number): number {
  return (["key", "value"] as Kind[]).reduce(
    (sum, kind) => sum + packedLength(groups[kind], tokens) + groups[kind].length * tokens * GROUP_METADATA_BITS / 8,
    0,
  );
}

/** Where the bits a component change. */
function bitLevels(groups: readonly QuantGroup[]): [first: number, bits: number][] {
  const levels: [number, number][] = [];
  const add = (first: number, bits: number) => {
    if (levels.at(-1)?.[1] !== bits) levels.push([first, bits]);
  };
  let end = 0;
  for (const { first, size, type } of groups) {
    if (first > end) add(end, 0);
    add(first, TYPE_BITS[type] + GROUP_METADATA_BITS / size);
    end = first + size;
  }
  add(planComponents(groups), 0);
  return levels;
}
