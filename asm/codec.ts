export function probe(p: usize): i32 { if (ASC_FEATURE_RELAXED_SIMD) return 2; if (ASC_FEATURE_SIMD) return 1; return load<i32>(p)*0; }
