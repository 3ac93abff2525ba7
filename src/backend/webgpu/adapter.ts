/**
 * Finding a WebGPU adapter and opening a device: `navigator.gpu` in browsers and Deno, the npm package "webgpu" (Dawn)
 * in Node, or what the caller has.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import { FailedBackendError } from "../gpu/failed.ts";

/** Limits of which the adapter's best is asked for. All others stay at WebGPU's defaults. */
export const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxComputeWorkgroupSizeZ",
  "maxComputeWorkgroupsPerDimension",
] as const;

/** Features that kernels use where they are there. */
const FEATURES = ["subgroups", "timestamp-query", "shader-f16"] as const;

/** A kernel that needs them, as kernels do. */
const SUBGROUPS = `enable subgroups;
@compute @workgroup_size(32)
fn probe(@builtin(subgroup_invocation_id) lane: u32) {
_ = subgroupShuffleXor(subgroupAdd(lane), 1u);
}`;

/** Names of adapters that compute on the host's processor. */
const SOFTWARE = /llvmpipe|lavapipe|swiftshader|software|basic render/i;

/** A device with the facts about its adapter. */
export interface OpenedDevice {
  readonly device: GPUDevice;
  /** Name of the adapter; "" where the runtime hides it. */
  readonly adapter: string;
  /** Whether it is ours to destroy. */
  readonly own: boolean;
  /** Whether it compiles kernels with subgroups. */
  readonly subgroups: boolean;
}

/** Dawn's entry: it must outlive its adapters and devices, which do not hold it. */
let dawn: GPU | null = null;

/** Whether WGSL has an extension here, as far as the runtime says; known once a device is open. */
export function hasLanguageFeature(name: string): boolean {
  const { navigator } = globalThis as { navigator?: { readonly gpu?: GPU } };
  const features = (navigator?.gpu ?? dawn)?.wgslLanguageFeatures as ReadonlySet<string> | undefined;
  return features?.has(name) === true;
}

/** What an adapter is called, from the fields that the runtime fills. */
export function adapterName({ info }: { readonly info: GPUAdapterInfo }): string {
  const { vendor, architecture, device, description } = info;
  // Deno has PCI numbers for vendor and device beside a description; browsers have words.
  if (description) return description;
  return [vendor, architecture, device].filter((part) => part && !/^\d+$/.test(part)).join(" ");
}

/** Whether an adapter is the host's processor in disguise. */
export function isSoftware(adapter: GPUAdapter): boolean {
  return SOFTWARE.test(adapterName(adapter)) || SOFTWARE.test(adapter.info.architecture);
}

/**
 * The runtime's entry to WebGPU.
 *
 * @throws {KvzBackendError} when it has none.
 */
export async function findGpu(): Promise<GPU> {
  const { navigator, process } = globalThis as {
    navigator?: { readonly gpu?: GPU };
    process?: { readonly versions?: { readonly node?: string } };
  };
  if (navigator?.gpu !== undefined) return navigator.gpu;
  if (process?.versions?.node === undefined || "Deno" in globalThis || "Bun" in globalThis) {
    throw new KvzBackendError("Cannot use the webgpu backend: this runtime has no navigator.gpu");
  }
  // Not a literal, so that bundlers do not look for an optional package.
  const name = "webgpu";
  if (dawn !== null) return dawn;
  try {
    const { create } = await import(name) as { create(flags: readonly string[]): GPU };
    return dawn = create([]);
  } catch (error) {
    throw new KvzBackendError('Cannot use the webgpu backend: Node needs the npm package "webgpu" (0.6 or later)', {
      cause: error,
    });
  }
}

/**
 * The best adapter.
 *
 * @throws {KvzBackendError} when there is none, or looking for it fails.
 */
export async function findAdapter(): Promise<GPUAdapter> {
  silenceMesa();
  const gpu = await findGpu();
  let adapter: GPUAdapter | null;
  try {
    adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new FailedBackendError(`Cannot use the webgpu backend: its runtime finds no adapter: ${reason}`, { cause });
  }
  if (adapter === null) {
    throw new KvzBackendError("Cannot use the webgpu backend: there is no adapter (no GPU, or no driver for it)");
  }
  return adapter;
}

/**
 * Without a desktop, Mesa's Vulkan layer that asks it for the preferred GPU complains on standard error; this is its own
 * switch. Where the environment may not be read or changed nobody is asked for it.
 */
function silenceMesa(): void {
  const { Deno, process } = globalThis as {
    Deno?: { permissions: { querySync(descriptor: { name: "env" }): { state: string } } };
    process?: { readonly env?: Record<string, string | undefined> };
  };
  if (process?.env === undefined || (Deno && Deno.permissions.querySync({ name: "env" }).state !== "granted")) return;
  if (process.env.XDG_RUNTIME_DIR === undefined) process.env.NODEVICE_SELECT ??= "1";
}

/** Whether a device takes `enable subgroups`: not every runtime that names the feature reads the text. */
export async function compilesSubgroups(device: GPUDevice): Promise<boolean> {
  if (!(device.features as ReadonlySet<string>).has("subgroups")) return false;
  device.pushErrorScope("validation");
  device.createShaderModule({ label: "subgroups", code: SUBGROUPS });
  return await device.popErrorScope() === null;
}

/** Opens a device with the best limits that the adapter has. */
export async function openDevice(adapter: GPUAdapter): Promise<OpenedDevice> {
  const requiredLimits: Record<string, number> = {};
  for (const name of LIMITS) requiredLimits[name] = adapter.limits[name];
  const requiredFeatures = FEATURES.filter((name) => adapter.features.has(name as GPUFeatureName)) as GPUFeatureName[];
  try {
    const device = await adapter.requestDevice({ label: "kvz", requiredLimits, requiredFeatures });
    return { device, adapter: adapterName(adapter), own: true, subgroups: await compilesSubgroups(device) };
  } catch (error) {
    throw new KvzBackendError(`Cannot open a WebGPU device: ${(error as Error).message}`, { cause: error });
  }
}
