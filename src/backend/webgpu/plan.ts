/**
 * A quantization plan on a WebGPU device.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import { type DevicePlan, type QuantGroup, TYPE_BITS } from "../backend.ts";
import { codeRows } from "../gpu/code_streams.ts";
import type { WebGpuBuffer } from "./buffer.ts";
import type { WebGpuDevice } from "./device.ts";

/** Slots of a segment, and of a group: the invocations of a workgroup. */
const MOST_SLOTS = 256;
/** Components of a slot: of small groups, of larger ones; more where a group has too many slots. */
const [SMALL_SLOT, LARGE_SLOT] = [4, 8];
/** Groups from which on slots are large. */
const LARGE_GROUP = 64;
/** Components from the first to the last of a segment, gaps included. */
const MOST_SPAN = 3000;
/** Words that the one-pass kernel stages in workgroup memory. */
const STAGED_WORDS = 768;

/** How groups are shared out: a segment of whole groups to a workgroup, a slot of a group to an invocation. */
export interface PlanSlots {
  /** vec4<u32> each: first component; components | type << 30; number in the group | slots of the group << 16; group. */
  readonly slots: Uint32Array;
  /** vec4<u32> each: first slot, slots, first component, one past the last. */
  readonly segments: Uint32Array;
  /** Most slots of a segment, and of a group. */
  readonly widest: number;
  readonly deepest: number;
  /** For the one-pass kernel: tokens of a workgroup and most words of a token's segment; 0 tokens: it cannot be used. */
  readonly rows: number;
  readonly words: number;
  /** Groups begin and end at multiples of 4 components, and there is nothing between them. */
  readonly whole: boolean;
}

/** Shares out the groups of a plan. */
export function planSlots(groups: readonly QuantGroup[]): PlanSlots {
  const slots: number[] = [];
  const segments: { begin: number; count: number; first: number; end: number }[] = [];
  let [deepest, largest] = [0, 0];
  groups.forEach(({ first, size, type }, g) => {
    const fitting = Math.ceil(size / MOST_SLOTS / SMALL_SLOT) * SMALL_SLOT;
    const each = Math.max(size < LARGE_GROUP ? SMALL_SLOT : LARGE_SLOT, fitting);
    const count = Math.ceil(size / each);
    const at = slots.length / 4;
    const last = segments.at(-1);
    if (last === undefined || last.count + count > MOST_SLOTS || first + size - last.first > MOST_SPAN) {
      segments.push({ begin: at, count, first, end: first + size });
    } else {
      last.count += count;
      last.end = first + size;
    }
    for (let i = 0; i < count; i++) {
      const components = Math.min(each, size - i * each);
      slots.push(first + i * each, (components | type << 30) >>> 0, i | count << 16, g);
    }
    deepest = Math.max(deepest, count);
    largest = Math.max(largest, each);
  });
  const widest = Math.max(0, ...segments.map(({ count }) => count));
  const spans = segments.map(({ first, end }) => end - first);
  const words = Math.ceil((Math.max(0, ...spans) + 3) / 4) + 1;
  // Two seams would share a word of a shorter segment.
  const onePass = largest <= LARGE_SLOT && Math.min(...spans) >= 8;
  return {
    slots: Uint32Array.from(slots),
    segments: Uint32Array.from(segments.flatMap(({ begin, count, first, end }) => [begin, count, first, end])),
    widest,
    deepest,
    rows: onePass ? Math.min(Math.floor(MOST_SLOTS / widest), Math.floor(STAGED_WORDS / words)) : 0,
    words,
    whole: groups.every(({ first, size }, g) => {
      const before = g === 0 ? 0 : groups[g - 1].first + groups[g - 1].size;
      return first === before && size % 4 === 0;
    }),
  };
}

/** The plan. */
export class WebGpuPlan implements DevicePlan {
  readonly groups: readonly QuantGroup[];
  readonly components: number;
  /** Invocations of the quantizer. */
  readonly shape: Omit<PlanSlots, "slots" | "segments"> & { readonly segments: number };
  readonly #device: WebGpuDevice;
  readonly #lookup: WebGpuBuffer;
  readonly #slots: WebGpuBuffer;
  readonly #segments: WebGpuBuffer;
  /** Made when it is asked for: only what decodes needs it. */
  #places: WebGpuBuffer | null = null;
  /** Where groups begin in the packed form, for one number of tokens. */
  readonly #packing: WebGpuBuffer;
  #packedTokens = -1;
  #freed = false;

  constructor(device: WebGpuDevice, groups: readonly QuantGroup[], components: number) {
    this.#device = device;
    this.groups = [...groups];
    this.components = components;
    const lookup = new Uint32Array(Math.ceil(components / 4) * 4);
    groups.forEach(({ first, size, type }, g) => lookup.fill((g | type << 30) >>> 0, first, first + size));
    const { slots, segments, ...shape } = planSlots(groups);
    this.shape = { ...shape, segments: segments.length / 4 };
    const upload = (words: Uint32Array) => {
      const buffer = device.alloc(words.byteLength);
      device.write(buffer, words, 0);
      return buffer;
    };
    this.#lookup = upload(lookup);
    this.#slots = upload(slots);
    this.#segments = upload(segments);
    this.#packing = device.alloc(groups.length * 16);
  }

  /** @throws {KvzBackendError} when a plan is not of this device, or was freed. */
  static of(device: WebGpuDevice, plan: DevicePlan): WebGpuPlan {
    if (!(plan instanceof WebGpuPlan) || plan.#device !== device) {
      throw new KvzBackendError("Cannot use a plan: it belongs to another backend");
    }
    if (plan.#freed) throw new KvzBackendError("Cannot use a plan: it was freed");
    return plan;
  }

  /** u32 [components, up to a multiple of 4]: group | type << 30, 0 outside any group. */
  get lookup(): WebGpuBuffer {
    return this.#lookup;
  }

  /** vec2<u32> a component: as in {@linkcode lookup}, and its row in the stream of its type. */
  get places(): WebGpuBuffer {
    if (this.#places === null) {
      const words = new Uint32Array(Math.max(2, 2 * this.components));
      this.groups.forEach(({ first, size, type }, g) => {
        for (let c = first; c < first + size; c++) words[2 * c] = g | type << 30;
      });
      codeRows(this).forEach((row, c) => words[2 * c + 1] = row);
      this.#places = this.#device.alloc(words.byteLength);
      this.#device.write(this.#places, words, 0);
    }
    return this.#places;
  }

  /** {@linkcode PlanSlots.slots}. */
  get slots(): WebGpuBuffer {
    return this.#slots;
  }

  /** {@linkcode PlanSlots.segments}. */
  get segments(): WebGpuBuffer {
    return this.#segments;
  }

  /** vec4<u32> a group: its first byte in the packed form of so many tokens, first component, size, bits of a code. */
  packing(tokens: number): WebGpuBuffer {
    if (tokens !== this.#packedTokens) {
      let at = 0;
      const words = this.groups.flatMap(({ first, size, type }) => {
        const begin = at;
        at += size * Math.ceil(tokens * TYPE_BITS[type] / 8);
        return [begin, first, size, TYPE_BITS[type]];
      });
      this.#device.write(this.#packing, Uint32Array.from(words), 0);
      this.#packedTokens = tokens;
    }
    return this.#packing;
  }

  free(): void {
    this.#freed = true;
    for (const buffer of [this.#lookup, this.#slots, this.#segments, this.#packing]) buffer.free();
    this.#places?.free();
  }
}
