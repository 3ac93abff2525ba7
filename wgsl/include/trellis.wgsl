// The trellis and its side information, as src/stages/quantize/trellis/*.ts define them. Bytes and 16-bit integers lie in
// words, the first in the lowest bits.

struct Sizes {
  chunks: u32,
  components: u32,
  tokens: u32,
  // Of token-major rows, in 16-bit integers.
  stride: u32,
  // Groups of 32 tokens of a row.
  groups: u32,
  // Tokens [begin, end) of each chunk are coded, λ in 1/256 (encoders).
  begin: u32,
  end: u32,
  weight: u32,
}

const MODES = 5u;
const ENERGIES = 3u;
// Symbols of levels outside of their table begin here.
const ESCAPE_ODD = 254u;

// Status words (src/backend/gpu/trellis.ts).
const STATUS_OK = 0xffffffffu;
const STATUS_TOO_LARGE = 0xf0000001u;
const STATUS_SURPLUS = 0xf0000000u;

// A token's word: reference (0xffff: none), mode, energy.
fn mode_of(word: u32) -> u32 {
  return (word >> 16u) & 255u;
}

fn kind_of(word: u32) -> u32 {
  return (ENERGIES * mode_of(word) + (word >> 24u)) & 15u;
}

fn token_class(base: u32, offset: i32, energy: u32) -> u32 {
  return u32(clamp(i32(base) + offset + 2 * i32(energy) - 2, 0, 63));
}

// Escapes among the bytes of a word that a mask (0x80 a byte) names.
fn escapes_in(word: u32, mask: u32) -> u32 {
  // Bytes 254 and 255 become 0; then the highest bit of every byte that is 0.
  let x = ~(word | 0x01010101u);
  return countOneBits(~(((x & 0x7f7f7f7fu) + 0x7f7f7f7fu) | x | 0x7f7f7f7fu) & mask);
}

// The mask of the bytes from `begin` on and before `end` (0 to 4).
fn bytes_between(begin: u32, end: u32) -> u32 {
  let before = select(0x80808080u >> (32u - 8u * end), 0u, end == 0u);
  return select(before & (0xffffffffu << (8u * begin)), 0u, begin >= end);
}
