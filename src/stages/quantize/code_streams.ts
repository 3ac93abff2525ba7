/**
 * Packed codes by width: all int2 components, all int4, all fp8, each a stream of its own, since their byte statistics
 * differ. Within a stream the order of Backend.pack stays: component by component, token after token. Measured against
 * other layouts in docs/results.md.
 *
 * @module
 */
import { packedLength, type QuantGroup, TYPE_BITS } from "../../backend/backend.ts";

/** Packed codes of the int2, int4 and fp8 groups. */
export type CodeStreams = readonly [int2: Uint8Array, int4: Uint8Array, fp8: Uint8Array];

/** Bytes of each of the three streams. */
export function codeLengths(groups: readonly QuantGroup[], tokens: number): [number, number, number] {
  const of = (wanted: number) => packedLength(groups.filter(({ type }) => type === wanted), tokens);
  return [of(1), of(2), of(3)];
}

/** Calls `copy` for each group with its range in the packed codes and its place in its stream. */
function eachGroup(
  groups: readonly QuantGroup[],
  tokens: number,
  copy: (type: number, packedBegin: number, streamBegin: number, length: number) => void,
): void {
  const ends = [0, 0, 0];
  let at = 0;
  for (const { size, type } of groups) {
    const length = size * Math.ceil(tokens * TYPE_BITS[type] / 8);
    copy(type, at, ends[type - 1], length);
    ends[type - 1] += length;
    at += length;
  }
}

/** Output of Backend.pack → three streams. */
export function splitCodes(packed: Uint8Array, groups: readonly QuantGroup[], tokens: number): CodeStreams {
  const [a, b, c] = codeLengths(groups, tokens);
  const streams: CodeStreams = [new Uint8Array(a), new Uint8Array(b), new Uint8Array(c)];
  eachGroup(groups, tokens, (type, from, to, length) => {
    streams[type - 1].set(packed.subarray(from, from + length), to);
  });
  return streams;
}

/** Inverse of {@linkcode splitCodes}. */
export function joinCodes(streams: CodeStreams, groups: readonly QuantGroup[], tokens: number): Uint8Array {
  const packed = new Uint8Array(packedLength(groups, tokens));
  eachGroup(groups, tokens, (type, to, from, length) => {
    packed.set(streams[type - 1].subarray(from, from + length), to);
  });
  return packed;
}
