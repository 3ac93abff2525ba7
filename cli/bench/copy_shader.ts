/**
 * Copying by a shader: what kernels on WebGPU are compared with.
 *
 * @module
 */
import type { DeviceBuffer } from "../../src/backend/backend.ts";
import type { Shader } from "../../src/backend/webgpu/pipelines.ts";
import type { WebGpuBackend } from "../../src/backend/webgpu/webgpu_backend.ts";

/** Workgroups of a dimension that every device takes. */
const MOST_GROUPS = 65535;
const THREADS = 256;

/** Sixteen bytes an invocation, read and written once. */
const copyShader: Shader = {
  name: "copy",
  text: `
@group(0) @binding(0) var<storage, read> from_words: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> to_words: array<vec4<u32>>;
@group(0) @binding(2) var<uniform> sizes: vec4<u32>;

@compute @workgroup_size(${THREADS}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let at = (group.y * sizes.y + group.x) * ${THREADS}u + thread;
  if (at < sizes.x) { to_words[at] = from_words[at]; }
}
`,
};

/** Enqueues a copy of whole buffers, of a multiple of 16 bytes. */
export function dispatchCopy({ device }: WebGpuBackend, from: DeviceBuffer, to: DeviceBuffer): void {
  const words = from.byteLength / 16;
  const groups = Math.ceil(words / THREADS);
  const across = Math.min(groups, MOST_GROUPS);
  device.dispatch({
    shader: copyShader,
    entry: "main",
    buffers: [from, to],
    uniforms: Uint32Array.of(words, across, 0, 0),
    workgroups: [across, Math.ceil(groups / across), 1],
  });
}
