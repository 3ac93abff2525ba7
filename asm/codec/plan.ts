// A quantization plan in memory: i32 [groups][3] = first component, size, type.

/** Group types. */
export const INT2: i32 = 1;
export const INT4: i32 = 2;
export const FP8: i32 = 3;

/** Bytes of a plan entry. */
export const GROUP_BYTES: usize = 12;

// @ts-ignore: decorator
@inline
export function groupFirst(plan: usize, g: usize): usize {
  return load<u32>(plan + g * GROUP_BYTES);
}

// @ts-ignore: decorator
@inline
export function groupSize(plan: usize, g: usize): usize {
  return load<u32>(plan + g * GROUP_BYTES, 4);
}

// @ts-ignore: decorator
@inline
export function groupType(plan: usize, g: usize): i32 {
  return load<i32>(plan + g * GROUP_BYTES, 8);
}

/** Code bits of a group type: 2, 4, 8. */
// @ts-ignore: decorator
@inline
export function typeBits(type: i32): usize {
  return (<usize>1) << type;
}
