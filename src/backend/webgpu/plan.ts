/**
 * A quantization plan on a WebGPU device.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import { type DevicePlan, type QuantGroup, TYPE_BITS } from "../backend.ts";
import type { WebGpuBuffer } from "./buffer.ts";
import type { WebGpuDevice } from "./device.ts";

/** Slots of a segment, and of a group: the invocations of a workgroup. */
const MOST_SLOTS = 256;
/** Components of a slot, unless its group is larger than that times the slots. */
const SLOT_COMPONENTS = 4;

/** How groups are shared out: a segment of whole groups to a workgroup, a slot of a group to an invocation. */
export interface PlanSlots {
  /** vec4<u32> each: first component; components | type << 30; number in the group | slots of the group << 16; group. */
  readonly slots: Uint32Array;
  /** vec2<u32> each: first slot, slots. */
  readonly segments: Uint32Array;
  /** Most slots of a segment, and of a group. */
  readonly widest: number;
  readonly deepest: number;
}

/** Shares out the groups of a plan. */
export function planSlots(groups: readonly QuantGroup[]): PlanSlots {
  const slots: number[] = [];
  const segments: number[] = [];
  let [begin, widest, deepest] = [0, 0, 0];
  groups.forEach(({ first, size, type }, g) => {
    const each = Math.ceil(size / MOST_SLOTS / SLOT_COMPONENTS) * SLOT_COMPONENTS;
    const count = Math.ceil(size / each);
    const at = slots.length / 4;
    if (segments.length === 0 || at + count - begin > MOST_SLOTS) {
      begin = at;
      segments.push(begin, 0);
    }
    for (let i = 0; i < count; i++) {
      const components = Math.min(each, size - i * each);
      slots.push(first + i * each, (components | type << 30) >>> 0, i | count << 16, g);
    }
    segments[segments.length - 1] += count;
    widest = Math.max(widest, segments[segments.length - 1]);
    deepest = Math.max(deepest, count);
  });
  return { slots: Uint32Array.from(slots), segments: Uint32Array.from(segments), widest, deepest };
}

/** The plan. */
export class WebGpuPlan implements DevicePlan {
  readonly groups: readonly QuantGroup[];
  readonly components: number;
  /** Invocations of the quantizer. */
  readonly shape: { readonly segments: number; readonly widest: number; readonly deepest: number };
  readonly #device: WebGpuDevice;
  readonly #lookup: WebGpuBuffer;
  readonly #slots: WebGpuBuffer;
  readonly #segments: WebGpuBuffer;
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
    const { slots, segments, widest, deepest } = planSlots(groups);
    this.shape = { segments: segments.length / 2, widest, deepest };
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
  }
}
