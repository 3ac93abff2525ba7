/**
 * A quantization plan on a CUDA device, in the forms that cuda/quantize.cu reads: slices of components that a block
 * quantizes, tasks that a warp does, and what each component belongs to.
 *
 * @module
 */
import type { DevicePlan, QuantGroup } from "../backend.ts";
import { requirePlan } from "../check.ts";
import type { CudaBuffer, CudaDevice } from "./device.ts";

/** Most components of a slice of several groups: what a block stages in shared memory. */
const SLICE = 4096;
/** Threads of a warp. */
const WARP = 32;

/** A range of components that no group crosses the ends of, and the groups in it. */
interface Slice {
  readonly begin: number;
  readonly end: number;
  readonly firstGroup: number;
  readonly endGroup: number;
}

/** A plan. */
export class CudaPlan implements DevicePlan {
  readonly groups: readonly QuantGroup[];
  readonly components: number;
  readonly device: CudaDevice;
  /** Slices u32 [slices][4], tasks u32 [tasks][4], groups u32 [groups][4]. */
  readonly slices: CudaBuffer;
  readonly sliceCount: number;
  readonly tasks: CudaBuffer;
  readonly groupTable: CudaBuffer;
  /** Group and type of each component, u32 [components rounded up to 4]. */
  readonly map: CudaBuffer;
  /** Components of each type before each component, and its own type, u32 [components][4]. */
  readonly packing: CudaBuffer;
  /** Components that the widest staged slice has. */
  readonly width: number;

  /** @throws {RangeError} as {@linkcode requirePlan}. */
  constructor(device: CudaDevice, groups: readonly QuantGroup[]) {
    this.components = requirePlan(groups);
    this.groups = [...groups];
    this.device = device;
    const slices = cut(this.groups, this.components);
    const tasks: number[] = [];
    const table: number[] = [];
    for (const { begin, end, firstGroup, endGroup } of slices) {
      const firstTask = tasks.length / 4;
      pushTasks(this.groups, firstGroup, endGroup, tasks);
      table.push(begin, end, firstTask, tasks.length / 4);
    }
    this.sliceCount = slices.length;
    this.width = slices.reduce((most, { begin, end }) => end - begin <= SLICE ? Math.max(most, end - begin) : most, 0);
    const put = (values: Uint32Array) => {
      const buffer = device.alloc(values.byteLength);
      device.write(buffer, values);
      return buffer;
    };
    this.slices = put(Uint32Array.from(table));
    this.tasks = put(Uint32Array.from(tasks));
    this.groupTable = put(Uint32Array.from(this.groups.flatMap(({ first, size, type }) => [first, size, type, 0])));
    this.map = put(mapOf(this.groups, this.components));
    this.packing = put(packingOf(this.groups, this.components));
  }

  free(): void {
    for (const buffer of [this.slices, this.tasks, this.groupTable, this.map, this.packing]) buffer.free();
  }
}

/** Slices of at most SLICE components; a larger group is one by itself. */
function cut(groups: readonly QuantGroup[], components: number): Slice[] {
  const slices: Slice[] = [];
  let begin = 0;
  let firstGroup = 0;
  const push = (end: number, endGroup: number) => {
    if (end > begin) slices.push({ begin, end, firstGroup, endGroup });
    begin = end;
    firstGroup = endGroup;
  };
  groups.forEach(({ first, size }, g) => {
    while (first - begin > SLICE) push(begin + SLICE, g);
    if (first + size - begin > SLICE) push(first, g);
    if (size > SLICE) push(first + size, g + 1);
  });
  push(components, groups.length);
  return slices;
}

/** Threads of a group as a power of 2: up to a warp. */
function lanesLog2(size: number): number {
  let log2 = 0;
  while (1 << log2 < Math.min(size, WARP)) log2++;
  return log2;
}

/** Neighbouring groups that take as many threads each share a warp. */
function pushTasks(groups: readonly QuantGroup[], first: number, end: number, tasks: number[]): void {
  for (let g = first; g < end;) {
    const log2 = lanesLog2(groups[g].size);
    let count = 1;
    while (count < WARP >> log2 && g + count < end && lanesLog2(groups[g + count].size) === log2) count++;
    tasks.push(g, count, log2, 0);
    g += count;
  }
}

function mapOf(groups: readonly QuantGroup[], components: number): Uint32Array<ArrayBuffer> {
  const map = new Uint32Array((components + 3) & ~3);
  groups.forEach(({ first, size, type }, g) => map.fill((type << 30 | g) >>> 0, first, first + size));
  return map;
}

function packingOf(groups: readonly QuantGroup[], components: number): Uint32Array<ArrayBuffer> {
  const table = new Uint32Array(components * 4);
  const before = [0, 0, 0];
  for (const { first, size, type } of groups) {
    for (let c = first; c < first + size; c++) {
      table.set(before, c * 4);
      table[c * 4 + 3] = type;
      before[type - 1]++;
    }
  }
  return table;
}
