/** What node_test.ts runs in Node: the CUDA backend through koffi. Prints one line of JSON. */
import { CudaBackend } from "../../../src/backend/cuda/cuda_backend.ts";
import { findCuda } from "../../../src/backend/cuda/detect.ts";

const { available, detail } = await findCuda();
const backend = await CudaBackend.open().catch((error: Error) => error);
if (backend instanceof Error) {
  console.log(JSON.stringify({ available, detail, error: `${backend.name}: ${backend.message}` }));
} else {
  // More than the rings hold, and a kernel between.
  const values = Float32Array.from({ length: 2_500_000 }, (_, i) => (i % 449) - 224);
  const [src, codes, scales] = [backend.alloc(values.byteLength), backend.alloc(values.length), backend.alloc(2)];
  backend.write(src, values);
  backend.encodeFp8(src, 1, values.length, codes, scales);
  backend.decodeFp8(codes, scales, 1, values.length, src);
  const back = new Float32Array((await backend.read(src)).buffer);
  const worst = back.reduce((most, value, i) => Math.max(most, Math.abs(value - values[i]) / 448), 0);
  const scale = new Uint16Array((await backend.read(scales)).buffer)[0];
  let refused = "";
  try {
    backend.alloc(2 ** 40);
  } catch (error) {
    refused = (error as Error).message;
  }
  backend[Symbol.dispose]();
  console.log(JSON.stringify({ available, detail, worst, scale, refused }));
}
