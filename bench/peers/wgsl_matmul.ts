/**
 * The product of TensorFlow.js's WebGPU backend and of ONNX Runtime's, which took it over, as a peer: written anew after its
 * description in tfjs-backend-webgpu/src/matmul_packed_webgpu.ts (Apache-2.0, "packed vec4"). Tiles of 32 × 32, 32 deep, 64
 * invocations with 4 × 4 sums each; a[m][k] · b[k][n] in binary32, sizes multiples of 32.
 *
 * @module
 */
import type { Shader } from "../../src/backend/webgpu/pipelines.ts";

/** Rows and columns of a workgroup's tile. */
export const PEER_TILE = 32;

/** Bindings: a, b, c, uniform (m, n / 4, k / 4, 0). */
export const peerMatmul: Shader = {
  name: "peer_matmul",
  text: `
struct Sizes { m: u32, columns: u32, depth: u32, none: u32 }
@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> sizes: Sizes;
var<workgroup> a_tile: array<array<vec4<f32>, 8>, 32>;
var<workgroup> b_tile: array<array<vec4<f32>, 8>, 32>;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(local_invocation_id) local: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
  let row = group.y * 32u + local.y * 4u;
  let column = group.x * 8u + local.x;
  var sums: array<vec4<f32>, 4>;
  for (var k = 0u; k < sizes.depth; k += 8u) {
    for (var i = 0u; i < 4u; i++) {
      a_tile[local.y * 4u + i][local.x] = a[(row + i) * sizes.depth + k + local.x];
      b_tile[local.y * 4u + i][local.x] = b[(k * 4u + local.y * 4u + i) * sizes.columns + column];
    }
    workgroupBarrier();
    for (var d = 0u; d < 8u; d++) {
      let b0 = b_tile[d * 4u][local.x];
      let b1 = b_tile[d * 4u + 1u][local.x];
      let b2 = b_tile[d * 4u + 2u][local.x];
      let b3 = b_tile[d * 4u + 3u][local.x];
      for (var i = 0u; i < 4u; i++) {
        let x = a_tile[local.y * 4u + i][d];
        sums[i] = b0 * x.x + sums[i];
        sums[i] = b1 * x.y + sums[i];
        sums[i] = b2 * x.z + sums[i];
        sums[i] = b3 * x.w + sums[i];
      }
    }
    workgroupBarrier();
  }
  for (var i = 0u; i < 4u; i++) {
    c[(row + i) * sizes.columns + column] = sums[i];
  }
}
`,
};
