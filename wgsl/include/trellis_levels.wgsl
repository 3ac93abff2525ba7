// Levels and what is known of their components, for the encoder: two signed integers of 16 bits in a word, and a word
// of facts for each chunk, mode and component (trellis_facts.wgsl).

fn halves(word: u32) -> vec2<i32> {
  return vec2(bitcast<i32>(word << 16u) >> 16u, bitcast<i32>(word) >> 16u);
}

fn joined(pair: vec2<i32>) -> u32 {
  return (bitcast<u32>(pair.x) & 0xffffu) | (bitcast<u32>(pair.y) << 16u);
}

// Place of a component's facts in a token of this word.
fn fact_at(sizes: Sizes, chunk: u32, word: u32, c: u32) -> u32 {
  return (chunk * MODES + min(mode_of(word), MODES - 1u)) * sizes.components + c;
}

fn factor_of(facts: u32) -> i32 {
  return bitcast<i32>(facts << 24u) >> 24u;
}

fn base_of(facts: u32) -> u32 {
  return (facts >> 8u) & 255u;
}

// The class with the component's offset.
fn class_of(facts: u32, energy: u32) -> u32 {
  return token_class(base_of(facts), bitcast<i32>(facts << 8u) >> 24u, energy);
}

fn zigzag(level: i32) -> u32 {
  return u32(select(-2 * level, 2 * level - 1, level > 0));
}

// Symbol of an escape.
fn escape_of(level: i32) -> u32 {
  return ESCAPE_ODD + 1u - u32(level & 1);
}

// Bytes of a LEB128 number.
fn leb_bytes(value: u32) -> u32 {
  return 1u + u32(value >= 0x80u) + u32(value >= 0x4000u) + u32(value >= 0x200000u);
}
