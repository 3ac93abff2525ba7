/**
 * What the lanes of a tensor recipe run: from source elements to the method's coder and back.
 *
 * @module
 */
import type { Backend } from "../../backend/backend.ts";
import { asUint16, fromFloat32 } from "../../cache/elements.ts";
import { requireFinite } from "../../cache/finite.ts";
import { rotateRows, rotationTable, shiftTable } from "../../cache/rope.ts";
import { BYTES_PER_ELEMENT, type DType, type Kind, type ModelSpec } from "../../cache/types.ts";
import { KvzFormatError, KvzUnsupportedError } from "../../errors.ts";
import type { Profile } from "../../profile/types.ts";
import { decodeStream, encodeStream, rawStream } from "../../stages/entropy/deflate.ts";
import type {
  ChunkCodec,
  DecodeJob,
  EncodeJob,
  InflateJob,
  Region,
  Setup,
  SetupFacts,
  TaggedStream,
} from "../recipe.ts";
import type { BlockShape, TensorCoder, TensorShape } from "./coder.ts";
import { elementsOf, floatsOf } from "./halves.ts";
import type { TensorMethod } from "./tensor_recipe.ts";

interface TensorSetup extends Setup {
  readonly model: ModelSpec;
  readonly storedDType: DType;
  readonly dtype: DType;
  readonly options: object;
  readonly profile: Profile | null;
}

/** The setup of an encoder or a decoder. Tensor recipes need no plan in the file: their options are in its header. */
export function makeSetup(
  recipe: string,
  { model, storedDType, dtype }: SetupFacts,
  options: object,
  profile: Profile | null,
): Setup {
  const key = `${recipe} ${JSON.stringify([model, storedDType, dtype, options, profile?.fingerprint])}`;
  const setup: TensorSetup = { recipe, key, plan: new Uint8Array(0), model, storedDType, dtype, options, profile };
  return setup;
}

/**
 * The setup for a file.
 *
 * @throws {KvzFormatError} The file has a plan.
 * @throws {KvzUnsupportedError} Tokens shall be appended, and the method's residual holds coded tokens.
 */
export function loadSetup<Own extends object>(
  method: TensorMethod<Own>,
  facts: SetupFacts,
  plan: Uint8Array,
  options: object,
  append: boolean,
  profile: Profile | null,
): Setup {
  const { name } = method;
  if (plan.length > 0) {
    throw new KvzFormatError(`Cannot read file: the plan of recipe ${name} has ${plan.length} bytes, expected none`);
  }
  if (append && method.residual !== undefined) {
    throw new KvzUnsupportedError(
      `Cannot append: the newest tokens of recipe ${name} are coded in part, and would have to be coded twice`,
    );
  }
  return makeSetup(name, facts, options, profile);
}

/** Makes the chunk codec of a method. */
export async function openCodec<Own extends object>(
  method: TensorMethod<Own>,
  backend: Backend,
  setup: Setup,
): Promise<ChunkCodec> {
  const { model, storedDType, options, profile } = setup as TensorSetup;
  const { open } = await method.load();
  const { layers, kvHeads: heads, keyDim, valueDim } = model;
  const shapes: Readonly<Record<Kind, TensorShape>> = {
    key: { kind: "key", layers, heads, dim: keyDim },
    value: { kind: "value", layers, heads, dim: valueDim },
  };
  const groups: readonly (readonly Kind[])[] = method.together ? [["key", "value"]] : [["key"], ["value"]];
  const coders = new Map<string, TensorCoder>();
  for (const region of ["chunk", ...(method.residual ? ["window"] as const : [])] as const) {
    for (const kinds of groups) {
      const context = { shapes: kinds.map((kind) => shapes[kind]), region, storedDType, profile, backend };
      coders.set(coderName(region, kinds), await open(options as Own, context));
    }
  }
  return new TensorCodec(method, setup as TensorSetup, method.preRope(options as Own, profile), shapes, coders);
}

function coderName(region: Region, kinds: readonly Kind[]): string {
  return `${region} ${kinds.join()}`;
}

class TensorCodec<Own extends object> implements ChunkCodec {
  readonly #method: TensorMethod<Own>;
  readonly #setup: TensorSetup;
  readonly #preRope: boolean;
  readonly #shapes: Readonly<Record<Kind, TensorShape>>;
  readonly #coders: ReadonlyMap<string, TensorCoder>;

  constructor(
    method: TensorMethod<Own>,
    setup: TensorSetup,
    preRope: boolean,
    shapes: Readonly<Record<Kind, TensorShape>>,
    coders: ReadonlyMap<string, TensorCoder>,
  ) {
    this.#method = method;
    this.#setup = setup;
    this.#preRope = preRope;
    this.#shapes = shapes;
    this.#coders = coders;
  }

  async encode(job: EncodeJob): Promise<TaggedStream[]> {
    const { region, kinds, data, tokens, positions, begin, previous } = job;
    const coder = this.#coders.get(coderName(region, kinds));
    if (coder === undefined) return data.map((bytes, i) => ({ ...rawStream(bytes), tag: rawTag(kinds[i]) }));
    const { storedDType } = this.#setup;
    const shapes = kinds.map((kind): BlockShape => ({ ...this.#shapes[kind], tokens, begin }));
    shapes.forEach((shape, i) => requireFinite(data[i], storedDType, { ...shape, firstToken: begin }));
    const streams = storedDType === "f16" && !this.#turns(kinds) && coder.encodeHalves !== undefined
      ? await coder.encodeHalves(shapes.map((shape, i) => ({ ...shape, halves: asUint16(data[i]) })))
      : await coder.encode(shapes.map((shape, i) => {
        const x = floatsOf(data[i], storedDType);
        const rope = this.#turns([shape.kind]) ? this.#ropeOf(shape.kind) : null;
        if (rope !== null) rotateRows(x, shape.dim, rope.dim, rotationTable(rope, positions, "undo"));
        return { ...shape, x };
      }));
    if (previous === undefined) return await this.#pack(kinds, streams);
    if (coder.join === undefined) {
      throw new KvzUnsupportedError(
        `Cannot append: recipe ${this.#method.name} codes chunks of ${this.#method.chunkTokens} tokens as one, the ` +
          `file's last has ${previous.tokens}`,
      );
    }
    const before = await this.#unpack(coder, previous.tokens, previous.streams);
    return await this.#pack(kinds, await coder.join(before, previous.tokens, streams, tokens));
  }

  async decode(job: DecodeJob): Promise<Uint8Array[]> {
    const { region, kinds, tokens, positions, targetPositions, layerBegin, layerEnd, streams } = job;
    const { storedDType, dtype } = this.#setup;
    const coder = this.#coders.get(coderName(region, kinds));
    const moved = positions.some((position, t) => position !== targetPositions[t]);
    const range = { tokens, layerBegin, layerEnd };
    if (dtype === "f16" && !moved && !this.#turns(kinds) && coder?.decodeHalves !== undefined) {
      const halves = await coder.decodeHalves(await this.#unpack(coder, tokens, streams), range);
      return halves.map(({ buffer, byteOffset, byteLength }) => new Uint8Array(buffer, byteOffset, byteLength));
    }
    let restored: readonly Float32Array[];
    if (coder === undefined) {
      const raw = await Promise.all(kinds.map((kind, i) => this.#rawLayers(kind, job, streams[i])));
      if (!moved && storedDType === dtype) return raw;
      restored = raw.map((bytes) => floatsOf(bytes, storedDType));
    } else {
      restored = await coder.decode(await this.#unpack(coder, tokens, streams), range);
    }
    return kinds.map((kind, i) => {
      const rope = this.#ropeOf(kind);
      if (rope !== null) {
        const turn = (table: Float32Array) => rotateRows(restored[i], this.#shapes[kind].dim, rope.dim, table);
        if (coder !== undefined && this.#preRope) turn(rotationTable(rope, targetPositions, "redo"));
        else if (moved) turn(shiftTable(rope, positions, targetPositions));
      }
      return coder === undefined ? fromFloat32(restored[i], dtype) : elementsOf(restored[i], dtype);
    });
  }

  async inflate({ region, kinds, tokens, streams }: InflateJob): Promise<TaggedStream[]> {
    const coder = this.#coders.get(coderName(region, kinds));
    if (coder === undefined) return [...streams];
    const inflated = await this.#unpack(coder, tokens, streams);
    return inflated.map((bytes, i) => ({ ...rawStream(bytes), tag: streams[i].tag }));
  }

  [Symbol.dispose](): void {
    for (const coder of this.#coders.values()) coder[Symbol.dispose]?.();
  }

  /** Whether coders have keys of these kinds before RoPE. */
  #turns(kinds: readonly Kind[]): boolean {
    return this.#preRope && kinds.some((kind) => this.#ropeOf(kind) !== null);
  }

  #ropeOf(kind: Kind) {
    return kind === "key" ? this.#setup.model.rope : null;
  }

  async #pack(kinds: readonly Kind[], streams: readonly Uint8Array[]): Promise<TaggedStream[]> {
    const letter = kinds.length > 1 ? "J" : rawTag(kinds[0])[0];
    return await Promise.all(this.#method.streams.map(async ({ tag, deflate }, i) => ({
      ...deflate ? await encodeStream(streams[i]) : rawStream(streams[i]),
      tag: letter + tag,
    })));
  }

  /** The streams, refused where geometry says that no encoder makes so many bytes. */
  async #unpack(coder: TensorCoder, tokens: number, streams: readonly TaggedStream[]): Promise<Uint8Array[]> {
    const limits = coder.limits(tokens);
    return await Promise.all(streams.map((stream, i) => {
      const { tag, rawLength } = stream;
      if (rawLength > limits[i]) {
        throw new KvzFormatError(
          `Cannot read file: stream ${tag} has ${rawLength} bytes, ${tokens} tokens have at most ${limits[i]}`,
        );
      }
      return decodeStream(stream, rawLength, `stream ${tag}`);
    }));
  }

  /** The job's layers of a raw region. */
  async #rawLayers(kind: Kind, { tokens, layerBegin, layerEnd }: DecodeJob, stream: TaggedStream): Promise<Uint8Array> {
    const { layers, heads, dim } = this.#shapes[kind];
    const perLayer = heads * tokens * dim * BYTES_PER_ELEMENT[this.#setup.storedDType];
    const bytes = await decodeStream(stream, layers * perLayer, `stream ${stream.tag}`);
    return bytes.slice(layerBegin * perLayer, layerEnd * perLayer);
  }
}

function rawTag(kind: Kind): string {
  return kind === "key" ? "KRAW" : "VRAW";
}
