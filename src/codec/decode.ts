/**
 * Container → recipe → blocks of a cache.
 *
 * @module
 */
import { describeModel } from "../cache/describe_model.ts";
import { modelFingerprint } from "../cache/fingerprint.ts";
import { BYTES_PER_ELEMENT, type CacheSink, type DType, type Kind, KINDS, type ModelSpec } from "../cache/types.ts";
import type { KvzHeader } from "../container/header.ts";
import { KvzFormatError, KvzLimitError, KvzMismatchError } from "../errors.ts";
import { modelOf } from "../profile/model_of.ts";
import type { Profile } from "../profile/types.ts";
import type { DecodeJob, Recipe, TaggedStream } from "../recipes/recipe.ts";
import { recipeNamed } from "../recipes/registry.ts";
import { decodeStream } from "../stages/entropy/deflate.ts";
import { groupIds, groupPositions, type RecordGroup, requireRecord } from "./groups.ts";
import type { Lanes } from "./lanes.ts";
import { type DecompressOptions, DEFAULT_MAX_BYTES } from "./options.ts";
import { allDone, mapOrdered } from "./ordered.ts";
import { FILE_CHUNK, regionOf, requireRising, TAG_IDS, TAG_KEPT, TAG_PLAN, TAG_POSITIONS } from "./regions.ts";
import { layerRanges, sharesOf } from "./shares.ts";

/** A piece of a restored cache. */
export interface CacheBlock {
  /** Keys or values. */
  readonly kind: Kind;
  /** First layer. */
  readonly layerBegin: number;
  /** One past the last layer. */
  readonly layerEnd: number;
  /** Index of the first token. */
  readonly begin: number;
  /** Tokens in the block. */
  readonly tokens: number;
  /** Positions of the restored tokens. */
  readonly positions: Int32Array;
  /** Token ids, null where the file has none. */
  readonly inputIds: Int32Array | null;
  /** Little-endian elements [layers][kvHeads][tokens][dim], keys after RoPE, half-split. */
  readonly data: Uint8Array;
  /** 1 where a head holds the token, else 0 and `data` zeros, [layers][kvHeads][tokens]; null: all do. */
  readonly kept: Uint8Array | null;
}

/**
 * Largest chunk that a decoder takes: a chunk without codes (an empty plan) has no bytes that would bound its tokens, so
 * this bounds the memory that a lane uses for it.
 */
const MAX_CHUNK_TOKENS = 4096;
/** Largest plan that a decoder takes. */
const MAX_PLAN_BYTES = 8 << 20;

/** Everything about a file that decoding depends on, checked once. */
export class FileDecoder {
  readonly header: KvzHeader;
  readonly recipe: Recipe<object>;
  readonly dtype: DType;
  readonly layerBegin: number;
  readonly layerEnd: number;
  /** Tokens to restore at most. */
  readonly tokenLimit: number;
  readonly #options: DecompressOptions;
  readonly #lanes: Lanes;
  readonly #profile: Profile | null;
  #settings: object | undefined;
  /** Position of the file's first token, once its group is known; groups start in order. */
  #first: Promise<Int32Array> | null = null;

  private constructor(
    lanes: Lanes,
    profile: Profile | null,
    header: KvzHeader,
    recipe: Recipe<object>,
    options: DecompressOptions,
  ) {
    this.#lanes = lanes;
    this.#profile = profile;
    this.#options = options;
    this.header = header;
    this.recipe = recipe;
    if (header.chunkTokens > MAX_CHUNK_TOKENS) {
      throw new KvzFormatError(
        `Cannot read file: its chunks have ${header.chunkTokens} tokens, recipe ${this.recipe.name} takes up to ` +
          `${MAX_CHUNK_TOKENS}`,
      );
    }
    this.dtype = options.dtype ?? header.dtype;
    if (!Object.hasOwn(BYTES_PER_ELEMENT, this.dtype)) {
      throw new TypeError(`Cannot use option "dtype": it is ${this.dtype}, expected f32, f16 or bf16`);
    }
    const [layerBegin, layerEnd] = options.layers ?? [0, header.model.layers];
    if (
      !(Number.isInteger(layerBegin) && Number.isInteger(layerEnd) && 0 <= layerBegin && layerBegin < layerEnd &&
        layerEnd <= header.model.layers)
    ) {
      throw new RangeError(
        `Cannot restore layers [${layerBegin}, ${layerEnd}): the cache has ${header.model.layers} layers`,
      );
    }
    this.layerBegin = layerBegin;
    this.layerEnd = layerEnd;
    const { tokens = Infinity, firstPosition } = options;
    if (tokens !== Infinity && !(Number.isInteger(tokens) && tokens >= 0)) {
      throw new RangeError(`Cannot restore ${tokens} tokens: expected a whole number of at least 0`);
    }
    this.tokenLimit = tokens;
    if (
      firstPosition !== undefined && !(Number.isInteger(firstPosition) && firstPosition >= 0 && firstPosition < 2 ** 31)
    ) {
      throw new RangeError(`Cannot use option "firstPosition": it is ${firstPosition}, expected 0 to 2147483647`);
    }
  }

  /**
   * Checks that file, profile and options belong together.
   *
   * @throws {KvzMismatchError} naming both sides.
   */
  static async open(
    lanes: Lanes,
    profile: Profile | null,
    header: KvzHeader,
    options: DecompressOptions,
  ): Promise<FileDecoder> {
    const decoder = new FileDecoder(lanes, profile, header, await recipeOf(header), options);
    const own = await modelFingerprint(header.model);
    if (own !== header.modelFingerprint) {
      throw new KvzFormatError("Cannot decompress: the file's model fingerprint is not that of its model facts");
    }
    const needsProfile = decoder.recipe.needs.includes("profile");
    if (needsProfile !== (header.profileFingerprint !== undefined)) {
      throw new KvzFormatError(
        `Cannot decompress: the file ${needsProfile ? "names no profile" : "names a profile"}, recipe ` +
          `${header.recipe.name} ${needsProfile ? "needs one" : "takes none"}`,
      );
    }
    if (!needsProfile) return decoder;
    if (profile === null) {
      throw new KvzMismatchError(
        `Cannot decompress: the file needs profile ${header.profileFingerprint?.slice(0, 12)} for ` +
          `${describeModel(header.model)}, none is given`,
      );
    }
    const served = await modelOf(profile);
    if (header.profileFingerprint !== profile.fingerprint) {
      throw new KvzMismatchError(
        `Cannot decompress: the file was made with profile ${header.profileFingerprint?.slice(0, 12)} for ` +
          `${describeModel(header.model)}, the profile given is ${profile.fingerprint.slice(0, 12)} for ` +
          `${describeModel(served)}`,
      );
    }
    if (own !== await modelFingerprint(served)) {
      throw new KvzMismatchError(
        `Cannot decompress: the file is of ${describeModel(header.model)}, the profile of ${describeModel(served)}`,
      );
    }
    return decoder;
  }

  /** Of the setup, for jobs, once the plan is loaded. */
  get settings(): object | undefined {
    return this.#settings;
  }

  /** Bytes of a restored token over the chosen layers. */
  get bytesPerToken(): number {
    const { kvHeads, keyDim, valueDim } = this.header.model;
    return (this.layerEnd - this.layerBegin) * kvHeads * (keyDim + valueDim) * BYTES_PER_ELEMENT[this.dtype];
  }

  /** The model of what is restored: the file's, with the layers chosen. */
  get model(): ModelSpec {
    return { ...this.header.model, layers: this.layerEnd - this.layerBegin };
  }

  /** @throws {KvzLimitError} when so many tokens exceed `maxBytes`. */
  requireWithinLimit(tokens: number): void {
    const { maxBytes = DEFAULT_MAX_BYTES } = this.#options;
    if (tokens * this.bytesPerToken > maxBytes) {
      throw new KvzLimitError(
        `Cannot decompress: ${tokens} tokens take ${tokens * this.bytesPerToken} bytes, maxBytes is ${maxBytes}`,
      );
    }
  }

  /** Loads the plan, the first group of every file, into the lanes; `append` lets them encode as well. */
  async loadPlan(group: RecordGroup, { append = false } = {}): Promise<void> {
    if (group.chunk !== FILE_CHUNK) throw new KvzFormatError("Cannot read file: it does not begin with its plan");
    const record = requireRecord(group, TAG_PLAN);
    if (record.rawLength > MAX_PLAN_BYTES) {
      throw new KvzFormatError(`Cannot read file: its plan has ${record.rawLength} bytes, at most ${MAX_PLAN_BYTES}`);
    }
    const plan = await decodeStream(record, record.rawLength, "plan");
    const { model, dtype: storedDType } = this.header;
    const facts = { model, storedDType, dtype: this.dtype, openBackend: this.#lanes.openBackend };
    const options = this.recipe.parseOptions({ ...this.header.recipe.options });
    const appended = append ? options : undefined;
    const setup = await this.#lanes.plan(() => this.recipe.loadSetup(this.#profile, facts, plan, appended, options));
    this.#settings = setup.settings;
    await this.#lanes.load(setup);
  }

  /**
   * Restores the groups that `groups` yields (after the plan), in order, for each range of layers a block of keys and one of
   * values.
   *
   * @param total tokens to restore, where lanes may share out the last chunks by layers; otherwise all layers are one range
   * @param sink where blocks will be written: data that its views have already is empty
   */
  async *blocks(
    groups: AsyncIterable<RecordGroup>,
    total = Infinity,
    sink?: CacheSink,
  ): AsyncGenerator<CacheBlock, void, void> {
    const { signal, onProgress } = this.#options;
    const lanes = this.#lanes;
    const decode = async (group: RecordGroup) => {
      signal?.throwIfAborted();
      const { positions, targetPositions, inputIds } = await this.positionsOf(group);
      const { tokens } = group;
      const take = Math.min(tokens, this.tokenLimit - group.begin);
      const marks = await this.marksOf(group);
      const shares = this.#sharesOf(group, take, total);
      const views = take === tokens && this.recipe.takesViews && lanes.inline ? sink?.views?.bind(sink) : undefined;
      const ranges = layerRanges(this.layerBegin, this.layerEnd, shares).map(async ([layerBegin, layerEnd]) => {
        const data = new Map<Kind, Uint8Array>();
        await allDone(this.recipe.groups.map(async (kinds) => {
          const job = this.decodeJob(group, kinds, { positions, targetPositions, layerBegin, layerEnd });
          const layers = layerEnd - layerBegin;
          const first = layerBegin - this.layerBegin;
          const there = views && { views: kinds.map((kind) => views(kind, first, first + layers, group.begin, take)) };
          const parts = await lanes.run({ ...job, ...marks, ...there }) as Uint8Array[];
          kinds.forEach((kind, i) => data.set(kind, this.#firstTokens(parts[i], kind, layers, tokens, take)));
        }));
        return { layerBegin, layerEnd, data };
      });
      return {
        begin: group.begin,
        tokens: take,
        ranges: await allDone(ranges),
        kept: marks === undefined ? null : this.keptOf(marks.marks, tokens, take),
        positions: targetPositions.slice(0, take),
        inputIds: inputIds?.slice(0, take) ?? null,
      };
    };
    for await (const { ranges, ...group } of mapOrdered(this.limited(groups), lanes.ahead, decode)) {
      for (const { layerBegin, layerEnd, data } of ranges) {
        for (const kind of KINDS) yield { kind, layerBegin, layerEnd, ...group, data: data.get(kind)! };
      }
      onProgress?.({ done: group.begin + group.tokens });
    }
  }

  /** In how many ranges of layers a group is decoded. */
  #sharesOf({ chunk, begin, records }: RecordGroup, tokens: number, total: number): number {
    const whole = this.recipe.byLayers !== true || regionOf(chunk) !== "chunk" || records.has(TAG_KEPT);
    return whole ? 1 : sharesOf(tokens, total - begin, this.#lanes.size, this.layerEnd - this.layerBegin);
  }

  /** Stops at the token limit and checks the output limit before a group is worked on. */
  async *limited(groups: AsyncIterable<RecordGroup>): AsyncGenerator<RecordGroup, void, void> {
    for await (const group of groups) {
      if (group.begin >= this.tokenLimit) return;
      this.#requireKnownTags(group);
      this.requireWithinLimit(Math.min(group.begin + group.tokens, this.tokenLimit));
      yield group;
    }
  }

  /** Stored and target positions and token ids of a group; groups must come in order. */
  async positionsOf(
    group: RecordGroup,
  ): Promise<{ positions: Int32Array; targetPositions: Int32Array; inputIds: Int32Array | null }> {
    const stored = groupPositions(this.header, group);
    if (group.begin === 0) this.#first = stored;
    const [positions, inputIds, first] = await Promise.all([stored, groupIds(group), this.#first]);
    const { firstPosition } = this.#options;
    requireRising(positions, -1);
    if (firstPosition === undefined) return { positions, targetPositions: positions, inputIds };
    if (first === null) throw new KvzFormatError("Cannot read file: its first token is missing");
    const shift = firstPosition - first[0];
    const last = positions[positions.length - 1] + shift;
    if (last >= 2 ** 31) throw new RangeError(`Cannot move the cache to position ${firstPosition}: it ends at ${last}`);
    return { positions, targetPositions: positions.map((position) => position + shift), inputIds };
  }

  /** What each head of all layers keeps of a group, as jobs want it; undefined: everything. */
  async marksOf(group: RecordGroup): Promise<{ marks: Uint8Array } | undefined> {
    const record = group.records.get(TAG_KEPT);
    if (record === undefined) return undefined;
    return { marks: await (await import("./marks.ts")).decodeMarks(record, this.header.model, group.tokens) };
  }

  /** Zeros and ones of the chosen layers' first `take` tokens. */
  keptOf(marks: Uint8Array, tokens: number, take: number): Uint8Array {
    const { kvHeads } = this.header.model;
    const out = new Uint8Array((this.layerEnd - this.layerBegin) * kvHeads * take);
    for (let i = 0, row = this.layerBegin * kvHeads; i < out.length; row++) {
      for (let t = 0; t < take; t++) out[i++] = Number(marks[row * tokens + t] !== 0);
    }
    return out;
  }

  /** The recipe's streams of kinds that are coded together, in a group of records. */
  streamsOf(group: RecordGroup, kinds: readonly Kind[]): TaggedStream[] {
    return this.recipe.tags(regionOf(group.chunk), kinds).map((tag) => requireRecord(group, tag));
  }

  /** The job that decodes a group's streams of kinds, or others in their place. */
  decodeJob(
    group: RecordGroup,
    kinds: readonly Kind[],
    range: Pick<DecodeJob, "positions" | "targetPositions" | "layerBegin" | "layerEnd">,
    streams: readonly TaggedStream[] = this.streamsOf(group, kinds),
  ): DecodeJob {
    const { chunk, tokens } = group;
    const settings = this.#settings === undefined ? {} : { settings: this.#settings };
    return { op: "decode", region: regionOf(chunk), kinds, tokens, ...range, streams, ...settings };
  }

  /** What an unknown record means could change what the others mean. */
  #requireKnownTags(group: RecordGroup): void {
    const region = regionOf(group.chunk);
    const kept = region === "chunk" && this.recipe.select !== undefined ? [TAG_KEPT] : [];
    const known = [
      TAG_IDS,
      TAG_POSITIONS,
      ...kept,
      ...this.recipe.groups.flatMap((kinds) => this.recipe.tags(region, kinds)),
    ];
    for (const tag of group.records.keys()) {
      if (!known.includes(tag)) throw new KvzFormatError(`Cannot read file: unknown record ${tag}`);
    }
  }

  /** The first `take` tokens of [layers][heads][tokens][dim]. */
  #firstTokens(bytes: Uint8Array, kind: Kind, layers: number, tokens: number, take: number): Uint8Array {
    if (take === tokens) return bytes;
    const { kvHeads, keyDim, valueDim } = this.header.model;
    const row = (kind === "key" ? keyDim : valueDim) * BYTES_PER_ELEMENT[this.dtype];
    const blocks = layers * kvHeads;
    const out = new Uint8Array(blocks * take * row);
    for (let b = 0; b < blocks; b++) {
      out.set(bytes.subarray(b * tokens * row, (b * tokens + take) * row), b * take * row);
    }
    return out;
  }
}

/** The recipe that made a file. */
export async function recipeOf(header: KvzHeader): Promise<Recipe<object>> {
  const { name, version, options } = header.recipe;
  const recipe = await recipeNamed(name);
  if (recipe === undefined) throw new KvzFormatError(`Cannot read file: its recipe "${name}" is unknown`);
  if (recipe.version !== version) {
    throw new KvzFormatError(`Cannot read file: recipe ${name} has version ${version}, expected ${recipe.version}`);
  }
  try {
    return await recipe.settle?.(recipe.parseOptions({ ...options })) ?? recipe;
  } catch (cause) {
    throw new KvzFormatError(`Cannot read file: options of recipe ${name} are out of range`, { cause });
  }
}
