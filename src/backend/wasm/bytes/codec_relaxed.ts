// Made by `deno task wasm` from asm/codec.ts (relaxed build). Do not edit.
/** The module's bytes in base64. */
export const codec_relaxed: string =
  "AGFzbQEAAAABBgFgAX8BfwMCAQAFAwEAAAcSAgVwcm9iZQAABm1lbW9yeQIACgYBBABBAgs=";
