/**
 * Scales and first integers of relative quantization as bytes: binary16 scales, little-endian, then each `first` as a
 * zigzag number of LEB128, which is the one byte that KVComp counts for it where |first| ≤ 63.
 *
 * @module
 */
import { KvzFormatError } from "../../errors.ts";
import type { RelativeCodes } from "./relative.ts";

/** The groups of a tensor. */
export type RelativeGroups = Pick<RelativeCodes, "scales" | "firsts">;

/** Most bytes of a group. */
export const MOST_GROUP_BYTES = 7;

/** Bytes of groups. */
export function packGroups({ scales, firsts }: RelativeGroups): Uint8Array {
  const out = new Uint8Array(MOST_GROUP_BYTES * scales.length);
  scales.forEach((bits, group) => {
    out[2 * group] = bits & 255;
    out[2 * group + 1] = bits >> 8;
  });
  let at = 2 * scales.length;
  for (const first of firsts) {
    let rest = (first << 1 ^ first >> 31) >>> 0;
    for (; rest > 127; rest >>>= 7) out[at++] = rest & 127 | 128;
    out[at++] = rest;
  }
  return out.slice(0, at);
}

/**
 * Inverse of {@linkcode packGroups}.
 *
 * @throws {KvzFormatError} The bytes are not those of so many groups.
 */
export function unpackGroups(bytes: Uint8Array, groups: number): RelativeGroups {
  const fail = (why: string) => new KvzFormatError(`Cannot read scales of ${groups} groups: ${why}`);
  if (bytes.length < 3 * groups) throw fail(`there are ${bytes.length} bytes`);
  const scales = Uint16Array.from({ length: groups }, (_, group) => bytes[2 * group] | bytes[2 * group + 1] << 8);
  scales.forEach((bits, group) => {
    if (bits === 0 || bits >= 0x7c00) throw fail(`scale ${group} is no finite number above 0`);
  });
  const firsts = new Int32Array(groups);
  let at = 2 * groups;
  for (let group = 0; group < groups; group++) {
    let [value, shift, byte] = [0, 0, 0];
    do {
      byte = bytes[at++] ?? 128;
      if (at > bytes.length || (byte === 0 && shift > 0) || (shift === 28 && byte > 15)) {
        throw fail(`integer ${group} is damaged`);
      }
      value |= (byte & 127) << shift;
      shift += 7;
    } while (byte > 127);
    firsts[group] = value >>> 1 ^ -(value & 1);
  }
  if (at !== bytes.length) throw fail(`${bytes.length - at} bytes are left over`);
  return { scales, firsts };
}
