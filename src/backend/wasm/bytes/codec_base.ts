// Made by `deno task wasm` from asm/codec.ts (base build). Do not edit.
/** The module's bytes in base64. */
export const codec_base: string =
  "AGFzbQEAAAABBgFgAX8BfwMCAQAFAwEAAAcSAgVwcm9iZQAABm1lbW9yeQIACgwBCgAgACgCAEEAbAs=";
