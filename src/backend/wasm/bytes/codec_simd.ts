// Made by `deno task wasm` from asm/codec.ts (simd build). Do not edit.
/** The module's bytes in base64. */
export const codec_simd: string =
  "AGFzbQEAAAABBgFgAX8BfwMCAQAFAwEAAAcSAgVwcm9iZQAABm1lbW9yeQIACgYBBABBAQs=";
