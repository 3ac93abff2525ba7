/**
 * The form in which bytes/ carries a kernel module: all its builds one after the other, deflated together (they are much
 * alike), as text.
 *
 * @module
 */
import { KvzBackendError } from "../../errors.ts";
import { WASM_BUILDS, type WasmBuild } from "./exports.ts";

/** All builds of a module. */
export interface InlinedModule {
  /** Length of each build in bytes, in the order of {@linkcode WASM_BUILDS}. */
  readonly lengths: readonly number[];
  /** The builds in that order, raw DEFLATE, base64. */
  readonly deflated: string;
}

/**
 * The bytes of one build.
 *
 * @throws {KvzBackendError} when the runtime has no DecompressionStream
 */
export async function inflateBuild(
  { lengths, deflated }: InlinedModule,
  build: WasmBuild,
): Promise<Uint8Array<ArrayBuffer>> {
  if (typeof DecompressionStream === "undefined") {
    throw new KvzBackendError("Cannot load the wasm kernels: this runtime has no DecompressionStream");
  }
  const bytes = Uint8Array.from(atob(deflated), (char) => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  const index = WASM_BUILDS.indexOf(build);
  const begin = lengths.slice(0, index).reduce((sum, length) => sum + length, 0);
  return new Uint8Array(await new Response(stream).arrayBuffer(), begin, lengths[index]);
}
