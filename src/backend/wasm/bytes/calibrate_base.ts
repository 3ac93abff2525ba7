// Made by `deno task wasm` from asm/calibrate.ts (base build). Do not edit.
/** The module's bytes in base64. */
export const calibrate_base: string =
  "AGFzbQEAAAABBgFgAX8BfwMCAQAFAwEAAAcSAgVwcm9iZQAABm1lbW9yeQIACgwBCgAgACgCAEEAbAs=";
