/**
 * Kernels' variants with subgroups on devices that have none: WGSL's functions of subgroups are replaced by functions
 * over workgroup memory. Subgroups are of any size, and their invocations are not side by side unless that is asked for.
 *
 * @module
 */
import { findAdapter, openDevice } from "../../src/backend/webgpu/adapter.ts";
import { WebGpuDevice } from "../../src/backend/webgpu/device.ts";
import { WebGpuBackend } from "../../src/backend/webgpu/webgpu_backend.ts";

const ENTRY = /@compute @workgroup_size\((\d+)\)\nfn \w+\([^{]*\) \{/g;
const LOCAL = /@builtin\(local_invocation_index\) (\w+): u32/;
const LANE = /@builtin\(subgroup_invocation_id\) (\w+): u32,/;

/** A fold of what the invocations of a subgroup have. */
function fold(name: string, first: string, next: string): string {
  return `fn emulated${name}(own: u32) -> u32 {
  emulated[place] = own;
  workgroupBarrier();
  var all = ${first};
  for (var i = first_place(); i < end_place(); i++) { let x = emulated[i]; all = ${next}; }
  workgroupBarrier();
  return all;
}`;
}

/** Functions for subgroups of `size` in workgroups of `width`, in uniform control flow. */
function functions(size: number, width: number): string {
  // A workgroup smaller than a subgroup has the upper lanes of one.
  const lowest = Math.max(0, size - width);
  return `
var<workgroup> emulated: array<u32, ${width}>;
// Subgroups have consecutive places.
var<private> place: u32;
fn first_place() -> u32 { return place / ${size}u * ${size}u; }
fn end_place() -> u32 { return min(first_place() + ${size}u, ${width}u); }
fn emulated_lane() -> u32 { return place % ${size}u + ${lowest}u; }
fn emulatedElect() -> bool { return place == first_place(); }
fn emulatedShuffle(own: u32, lane: u32) -> u32 {
  emulated[place] = own;
  workgroupBarrier();
  let other = first_place() + lane - ${lowest}u;
  var result = 0x5a5a5a5au;
  if (lane >= ${lowest}u && other < end_place()) { result = emulated[other]; }
  workgroupBarrier();
  return result;
}
fn emulatedShuffleXor(own: u32, mask: u32) -> u32 { return emulatedShuffle(own, emulated_lane() ^ mask); }
fn emulatedBroadcastFirst(own: u32) -> u32 { return emulatedShuffle(own, ${lowest}u); }
fn emulatedExclusiveAdd(own: u32) -> u32 {
  emulated[place] = own;
  workgroupBarrier();
  var sum = 0u;
  for (var i = first_place(); i < place; i++) { sum += emulated[i]; }
  workgroupBarrier();
  return sum;
}
fn emulatedAny(own: bool) -> bool { return emulatedOr(select(0u, 1u, own)) != 0u; }
fn emulatedBallot(own: bool) -> vec4<u32> {
  let bit = select(0u, 1u << (emulated_lane() & 31u), own);
  let word = emulated_lane() >> 5u;
  let x = emulatedOr(select(0u, bit, word == 0u));
  let y = emulatedOr(select(0u, bit, word == 1u));
  let z = emulatedOr(select(0u, bit, word == 2u));
  let w = emulatedOr(select(0u, bit, word == 3u));
  return vec4(x, y, z, w);
}
${fold("Add", "0u", "all + x")}
${fold("Min", "0xffffffffu", "min(all, x)")}
${fold("Max", "0u", "max(all, x)")}
${fold("Or", "0u", "all | x")}
`;
}

/** A text that needs subgroups as one that does not; others as they are. `ordered`: places are the invocations' numbers. */
export function emulated(text: string, size: number, ordered: boolean = false): string {
  if (!text.startsWith("enable subgroups;\n")) return text;
  let widest = 0;
  const body = text.slice("enable subgroups;\n".length)
    .replace(/\bsubgroup(?=[A-Z])/g, "emulated")
    .replace(ENTRY, (entry: string, width: string) => {
      widest = Math.max(widest, Number(width));
      const local = LOCAL.exec(entry)![1];
      const lane = LANE.exec(entry)?.[1];
      const place = ordered ? local : `(${local} * 13u + 7u) % ${width}u`;
      return `${entry.replace(LANE, "")}\nplace = ${place};\n` +
        (lane === undefined ? "" : `let ${lane} = emulated_lane();\n`);
    });
  return functions(size, widest) + body;
}

/** A backend whose kernels are those for subgroups, of `size`. */
export async function openEmulated(size: number, ordered: boolean = false): Promise<WebGpuBackend> {
  const opened = await openDevice(await findAdapter());
  const { device } = opened;
  const create = device.createShaderModule.bind(device);
  device.createShaderModule = (descriptor) =>
    create({ ...descriptor, code: emulated(descriptor.code as string, size, ordered) });
  return new WebGpuBackend(new WebGpuDevice({ ...opened, subgroups: true }));
}
