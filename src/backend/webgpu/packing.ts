/**
 * pack and unpack on WebGPU.
 *
 * @module
 */
import { KvzLimitError } from "../../errors.ts";
import { type DeviceBuffer, packedLength } from "../backend.ts";
import type { WebGpuDevice } from "./device.ts";
import type { WebGpuPlan } from "./plan.ts";
import { packing } from "./shaders/packing.ts";
import { packingTiles } from "./shaders/packing_tiles.ts";

const WORKGROUP = 256;
/** Tokens whose codes fill whole words in every type. */
const TOKEN_STEP = 16;
/** A workgroup's tile. */
const [TILE_TOKENS, TILE_COMPONENTS] = [128, 64];

/** Most packed bytes, and most bits of a component: kernels count both in 32 bits. */
const MOST = 2 ** 32 - 2 ** 12;

/** What both kernels run over: a range of packed bytes, and a range of tokens. */
interface Part {
  readonly packedBegin: number;
  readonly packedEnd: number;
  readonly tokenBegin: number;
  readonly tokenEnd: number;
}

/** @throws {KvzLimitError} when the kernels cannot count the packed bytes. */
function parts(device: WebGpuDevice, plan: WebGpuPlan, tokens: number): Part[] {
  const most = device.mostBytes;
  const bytes = packedLength(plan.groups, tokens);
  if (Math.max(bytes, 4 * tokens) > MOST) {
    throw new KvzLimitError(`Cannot pack ${tokens} tokens: they take ${bytes} bytes, at most ${MOST} go in a call`);
  }
  const packedStep = Math.floor(most / 4) * 4;
  const tokenStep = Math.max(TOKEN_STEP, Math.floor(most / plan.components / TOKEN_STEP) * TOKEN_STEP);
  const list: Part[] = [];
  for (let packedBegin = 0; packedBegin < bytes; packedBegin += packedStep) {
    for (let tokenBegin = 0; tokenBegin < tokens; tokenBegin += tokenStep) {
      list.push({
        packedBegin,
        packedEnd: Math.min(bytes, packedBegin + packedStep),
        tokenBegin,
        tokenEnd: Math.min(tokens, tokenBegin + tokenStep),
      });
    }
  }
  return list;
}

function bind(
  device: WebGpuDevice,
  plan: WebGpuPlan,
  tokens: number,
  part: Part,
  packed: DeviceBuffer,
  symbols: DeviceBuffer,
) {
  const { groups: { length: groups }, components } = plan;
  const { packedBegin, packedEnd, tokenBegin, tokenEnd } = part;
  const bytes = device.range(packed, packedBegin, packedEnd);
  const codes = device.range(symbols, tokenBegin * components, tokenEnd * components);
  const uniforms = Uint32Array.of(
    packedBegin,
    packedEnd,
    bytes.skip,
    tokenBegin,
    tokenEnd,
    codes.skip,
    components,
    groups,
    tokens,
    0,
    0,
    0,
  );
  return { bytes: bytes.range, codes: codes.range, uniforms };
}

/** Whether the kernels of tiles do: whole words everywhere, and all of it in one binding. */
function tiled(plan: WebGpuPlan, tokens: number, list: readonly Part[]): boolean {
  return list.length === 1 && tokens % TOKEN_STEP === 0 && plan.components % 4 === 0;
}

function runTiles(
  device: WebGpuDevice,
  entry: "pack" | "unpack",
  plan: WebGpuPlan,
  tokens: number,
  packed: DeviceBuffer,
  symbols: DeviceBuffer,
): void {
  const bytes = device.range(packed, 0, packedLength(plan.groups, tokens));
  const codes = device.range(symbols, 0, tokens * plan.components);
  const [from, to] = entry === "pack" ? [codes.range, bytes.range] : [bytes.range, codes.range];
  device.dispatch({
    shader: packingTiles,
    entry,
    buffers: [from, plan.lookup, plan.packing(tokens), to],
    uniforms: Uint32Array.of(bytes.skip, codes.skip, tokens, plan.components),
    workgroups: device.grid(Math.ceil(tokens / TILE_TOKENS) * Math.ceil(plan.components / TILE_COMPONENTS)),
  });
}

/** Backend.pack. */
export function packSymbols(
  device: WebGpuDevice,
  symbols: DeviceBuffer,
  plan: WebGpuPlan,
  tokens: number,
  packed: DeviceBuffer,
): void {
  const list = parts(device, plan, tokens);
  if (tiled(plan, tokens, list)) return runTiles(device, "pack", plan, tokens, packed, symbols);
  for (const part of list) {
    const { bytes, codes, uniforms } = bind(device, plan, tokens, part, packed, symbols);
    device.dispatch({
      shader: packing,
      entry: "pack",
      buffers: [codes, plan.packing(tokens), bytes],
      uniforms,
      workgroups: device.grid(Math.ceil((part.packedEnd - part.packedBegin) / 4 / WORKGROUP)),
    });
  }
}

/** Backend.unpack. */
export function unpackSymbols(
  device: WebGpuDevice,
  packed: DeviceBuffer,
  plan: WebGpuPlan,
  tokens: number,
  symbols: DeviceBuffer,
): void {
  const list = parts(device, plan, tokens);
  if (tiled(plan, tokens, list)) return runTiles(device, "unpack", plan, tokens, packed, symbols);
  for (const part of list) {
    const { bytes, codes, uniforms } = bind(device, plan, tokens, part, packed, symbols);
    const count = (part.tokenEnd - part.tokenBegin) * plan.components;
    device.dispatch({
      shader: packing,
      entry: "unpack",
      buffers: [bytes, plan.lookup, plan.packing(tokens), codes],
      uniforms,
      workgroups: device.grid(Math.ceil(count / 4 / WORKGROUP)),
    });
  }
}
