// What levels cost. `rates` holds the costs of the tables' symbols in 1/256 bit, 16 bits each, [128][256], then the first
// zigzag code that each table lacks, a byte each.

const LIMITS = 16384u;

@group(0) @binding(0) var<storage, read> rates: array<u32>;

// Cost of a level in 1/256 bit, its escape included.
fn level_bits(table: u32, level: i32) -> u32 {
  let z = zigzag(level);
  let limit = (rates[LIMITS + (table >> 2u)] >> (8u * (table & 3u))) & 255u;
  let escaped = z >= limit;
  let i = table * 256u + select(z, escape_of(level), escaped);
  let bits = (rates[i >> 1u] >> (16u * (i & 1u))) & 0xffffu;
  return bits + select(0u, 2048u * leb_bytes(z - limit), escaped);
}
