/**
 * The plan in a file: which components are coded in which groups, for keys and for values. Per kind a u32 group count,
 * then 4 bytes a group: u16 components dropped before it, u8 index into GROUP_SIZES, u8 type (1 = int2, 2 = int4,
 * 3 = fp8). Little-endian. A last byte 1 says that the streams of chunks are coded by rANS; without it DEFLATE is used.
 *
 * @module
 */
import type { QuantGroup } from "../../backend/backend.ts";
import { KvzFormatError } from "../../errors.ts";
import { GROUP_SIZES } from "../../profile/types.ts";

/** A plan for both kinds. */
export interface KvPlan {
  readonly key: readonly QuantGroup[];
  readonly value: readonly QuantGroup[];
  /** Coder of the chunks' streams; DEFLATE where absent. */
  readonly entropy?: "rans";
}

/** More groups than any rank within the format's reach can have. */
const MAX_GROUPS = 1 << 20;

/** Components that a plan reaches: one past its last. */
export function planComponents(groups: readonly QuantGroup[]): number {
  return groups.length === 0 ? 0 : groups[groups.length - 1].first + groups[groups.length - 1].size;
}

/** Serializes a plan. */
export function encodePlan(plan: KvPlan): Uint8Array {
  const out = new Uint8Array(8 + 4 * (plan.key.length + plan.value.length) + (plan.entropy === "rans" ? 1 : 0));
  const view = new DataView(out.buffer);
  let at = 0;
  for (const groups of [plan.key, plan.value]) {
    view.setUint32(at, groups.length, true);
    at += 4;
    let end = 0;
    for (const { first, size, type } of groups) {
      const gap = first - end;
      if (gap > 0xffff) throw new RangeError(`Cannot write plan: ${gap} dropped components in a row, at most 65535`);
      view.setUint16(at, gap, true);
      view.setUint8(at + 2, GROUP_SIZES.indexOf(size));
      view.setUint8(at + 3, type);
      at += 4;
      end = first + size;
    }
  }
  if (plan.entropy === "rans") out[at] = 1;
  return out;
}

/**
 * Parses a plan.
 *
 * @throws {KvzFormatError} on anything but a well-formed plan.
 */
export function decodePlan(bytes: Uint8Array): KvPlan {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const readGroups = (): QuantGroup[] => {
    if (at + 4 > bytes.length) throw new KvzFormatError("Cannot read plan: it is truncated");
    const count = view.getUint32(at, true);
    at += 4;
    if (count > MAX_GROUPS || at + 4 * count > bytes.length) {
      throw new KvzFormatError(`Cannot read plan: it declares ${count} groups in ${bytes.length - at} bytes`);
    }
    const groups: QuantGroup[] = [];
    let end = 0;
    for (let g = 0; g < count; g++, at += 4) {
      const first = end + view.getUint16(at, true);
      const size = GROUP_SIZES[view.getUint8(at + 2)];
      const type = view.getUint8(at + 3);
      if (size === undefined) throw new KvzFormatError(`Cannot read plan: group ${g} has an unknown size`);
      if (type !== 1 && type !== 2 && type !== 3) {
        throw new KvzFormatError(`Cannot read plan: group ${g} has type ${type}, expected 1, 2 or 3`);
      }
      groups.push({ first, size, type });
      end = first + size;
    }
    return groups;
  };
  const key = readGroups();
  const value = readGroups();
  if (at === bytes.length - 1 && bytes[at] === 1) return { key, value, entropy: "rans" };
  if (at !== bytes.length) throw new KvzFormatError(`Cannot read plan: ${bytes.length - at} bytes follow it`);
  return { key, value };
}
