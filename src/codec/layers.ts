/**
 * Layer by layer decoding. Codes are joint over layers, so entropy decoding comes first, once; then each layer is
 * reconstructed with its row block of the basis (KVTC §3).
 *
 * @module
 */
import { BYTES_PER_ELEMENT, type Kind } from "../cache/types.ts";
import type { TaggedStream } from "../recipes/recipe.ts";
import type { FileDecoder } from "./decode.ts";
import { type OpenFile, readGroup, type RecordGroup } from "./groups.ts";
import type { Lanes } from "./lanes.ts";
import { allDone, mapOrdered } from "./ordered.ts";
import { regionOf } from "./regions.ts";

/** One restored layer over all tokens. */
export interface LayerBlock {
  /** Layer of the model, not of the chosen range. */
  readonly layer: number;
  /** Position of each token. */
  readonly positions: Int32Array;
  /** Little-endian [kvHeads][tokens][keyDim], after RoPE, half-split. */
  readonly key: Uint8Array;
  /** Little-endian [kvHeads][tokens][valueDim]. */
  readonly value: Uint8Array;
  /** 1 where a head holds the token, else 0 and zeros, [kvHeads][tokens]; null: all do. */
  readonly kept: Uint8Array | null;
}

interface Inflated {
  readonly group: RecordGroup;
  readonly positions: Int32Array;
  readonly targetPositions: Int32Array;
  /** By the recipe's groups of kinds. */
  readonly streams: readonly (readonly TaggedStream[])[];
  readonly marks: { readonly marks: Uint8Array } | undefined;
}

/** Yields the layers in order. The plan must be loaded. Holds the inflated codes of the whole file. */
export async function* decodeLayers(
  lanes: Lanes,
  file: OpenFile,
  decoder: FileDecoder,
  shape: { readonly positions: Int32Array },
  signal: AbortSignal | undefined,
): AsyncGenerator<LayerBlock, void, void> {
  const { recipe } = decoder;
  const groups: Inflated[] = [];
  const all = async function* () {
    for (const group of file.groups.slice(1)) yield await readGroup(file, group);
  };
  for await (const done of mapOrdered(decoder.limited(all()), lanes.ahead, inflate)) groups.push(done);

  const layers = Array.from({ length: decoder.layerEnd - decoder.layerBegin }, (_, i) => decoder.layerBegin + i);
  yield* mapOrdered(layers, lanes.ahead, async (layer): Promise<LayerBlock> => {
    signal?.throwIfAborted();
    const parts = await allDone(recipe.groups.map((kinds, i) => decodeLayer(kinds, i, layer)));
    const { key, value } = Object.assign({}, ...parts) as Record<Kind, Uint8Array>;
    return { layer, positions: shape.positions, key, value, kept: keptOf(layer) };
  });

  async function inflate(group: RecordGroup): Promise<Inflated> {
    signal?.throwIfAborted();
    const { positions, targetPositions } = await decoder.positionsOf(group);
    const marks = await decoder.marksOf(group);
    const streams = await allDone(recipe.groups.map((kinds) =>
      lanes.run({
        op: "inflate",
        region: regionOf(group.chunk),
        kinds,
        tokens: group.tokens,
        positions,
        streams: decoder.streamsOf(group, kinds),
        ...(decoder.settings === undefined ? {} : { settings: decoder.settings }),
        ...marks,
      }) as Promise<TaggedStream[]>
    ));
    return { group, positions, targetPositions, streams, marks };
  }

  function keptOf(layer: number): Uint8Array | null {
    if (groups.every(({ marks }) => marks === undefined)) return null;
    const { kvHeads } = decoder.header.model;
    const tokens = shape.positions.length;
    const out = new Uint8Array(kvHeads * tokens).fill(1);
    for (const { group: { begin, tokens: own }, marks } of groups) {
      if (marks === undefined) continue;
      for (let head = 0; head < kvHeads; head++) {
        const row = marks.marks.subarray((layer * kvHeads + head) * own, (layer * kvHeads + head + 1) * own);
        row.subarray(0, tokens - begin).forEach((mark, t) => out[head * tokens + begin + t] = Number(mark !== 0));
      }
    }
    return out;
  }

  async function decodeLayer(
    kinds: readonly Kind[],
    index: number,
    layer: number,
  ): Promise<Partial<Record<Kind, Uint8Array>>> {
    const { kvHeads, keyDim, valueDim } = decoder.header.model;
    const tokens = shape.positions.length;
    const row = { key: keyDim, value: valueDim };
    const out: Partial<Record<Kind, Uint8Array>> = {};
    for (const kind of kinds) {
      row[kind] *= BYTES_PER_ELEMENT[decoder.dtype];
      out[kind] = new Uint8Array(kvHeads * tokens * row[kind]);
    }
    for (const { group, positions, targetPositions, streams, marks } of groups) {
      const range = { positions, targetPositions, layerBegin: layer, layerEnd: layer + 1 };
      const parts = await lanes.run({
        ...decoder.decodeJob(group, kinds, range, streams[index]),
        ...marks,
      }) as Uint8Array[];
      const take = Math.min(group.tokens, tokens - group.begin);
      for (const [i, kind] of kinds.entries()) {
        for (let head = 0; head < kvHeads; head++) {
          const from = head * group.tokens * row[kind];
          const bytes = parts[i].subarray(from, from + take * row[kind]);
          out[kind]!.set(bytes, (head * tokens + group.begin) * row[kind]);
        }
      }
    }
    return out;
  }
}
