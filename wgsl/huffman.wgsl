// Products of Huffman-coded vectors with weights, straight from the codes (src/stages/entropy/huffman_blocks.ts). A
// workgroup takes a coded block, up to 64 vectors of up to 128 symbols: codes, decoding table and weights go to workgroup
// memory, then each invocation decodes a vector and multiplies as it goes.
struct Args {
  // Blocks of tokens of all heads, and of one.
  count: u32,
  token_blocks: u32,
  // Of the first head: its first block and vector of this part; then from head to head, and from one block of tokens to
  // the next.
  block: u32,
  vector: u32,
  head_blocks: u32,
  head_vectors: u32,
  block_stride: u32,
  vector_stride: u32,
  // Vectors of a block, symbols of a vector, symbols of the alphabet.
  vectors: u32,
  length: u32,
  alphabet: u32,
  // Sets of weights of a head: 1, or one a block of tokens.
  sets: u32,
  // First word of the table in its buffer.
  table: u32,
  unused0: u32,
  unused1: u32,
  unused2: u32,
};

// 1 or 4.
override LANES: u32 = 1u;

// Words of two 16-bit entries: 1024 by the next 10 bits, 16 limits and 16 bases by length, 256 symbols.
const TABLE_WORDS = 656u;

@group(0) @binding(0) var<storage, read> codes: array<u32>;
// Two words a block: where it begins; its bytes, and in the upper half its flags.
@group(0) @binding(1) var<storage, read> blocks: array<u32>;
// 16 bits a vector.
@group(0) @binding(2) var<storage, read> infos: array<u32>;
@group(0) @binding(3) var<storage, read> tables: array<u32>;
@group(0) @binding(4) var<storage, read> all_weights: array<f32>;
@group(0) @binding(5) var<storage, read_write> result: array<f32>;
@group(0) @binding(6) var<storage, read_write> status: array<u32>;
@group(0) @binding(7) var<uniform> args: Args;

// A block has at most 8192 bytes, which begin anywhere in a word; a damaged vector may read 240 bytes behind them.
var<workgroup> words: array<u32, 2113>;
var<workgroup> table: array<u32, TABLE_WORDS>;
var<workgroup> weights: array<f32, 512>;

fn entry(i: u32) -> u32 {
  return (table[i >> 1u] >> (16u * (i & 1u))) & 0xffffu;
}

fn info_of(i: u32) -> u32 {
  return (infos[i >> 1u] >> (16u * (i & 1u))) & 0xffffu;
}

// Length · 256 + symbol of the code that the next 15 bits begin with.
fn find(window: u32) -> u32 {
  let found = entry(window >> 5u);
  if (found != 0u) {
    return found;
  }
  var size = 11u;
  while (size < 15u && window >= entry(1024u + size)) {
    size++;
  }
  let place = (entry(1040u + size) + (window >> (15u - size))) & 255u;
  return (size << 8u) | entry(1056u + place);
}

// The 32 bits from a bit on.
fn bits_at(bit: u32) -> u32 {
  let at = bit >> 5u;
  let shift = bit & 31u;
  let low = select(words[at + 1u] >> (32u - shift), 0u, shift == 0u);
  return (words[at] << shift) | low;
}

@compute @workgroup_size(64)
fn dots(
  @builtin(local_invocation_index) t: u32,
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
) {
  let item = group.y * groups.x + group.x;
  if (item >= args.count) {
    return;
  }
  let head = item / args.token_blocks;
  let tokens = item % args.token_blocks;
  let place = 2u * (args.block + head * args.head_blocks + tokens * args.block_stride);
  let begin = blocks[place];
  let bytes = blocks[place + 1u] & 0xffffu;
  let skip = begin & 3u;
  let wanted = (skip + bytes + 3u) / 4u;
  // The first byte on top, so that bits follow each other from word to word.
  for (var i = t; i < wanted + 62u; i += 64u) {
    var word = 0u;
    if (i < wanted) {
      word = codes[begin / 4u + i];
    }
    words[i] = (word << 24u) | ((word & 0xff00u) << 8u) | ((word >> 8u) & 0xff00u) | (word >> 24u);
  }
  for (var i = t; i < TABLE_WORDS; i += 64u) {
    table[i] = tables[args.table + i];
  }
  let chosen = select(head * args.sets + tokens, head, args.sets == 1u);
  for (var i = t; i < args.length * LANES; i += 64u) {
    weights[i] = all_weights[chosen * args.length * LANES + i];
  }
  workgroupBarrier();
  if (t >= args.vectors) {
    return;
  }
  let own = args.vector + head * args.head_vectors + tokens * args.vector_stride + t;
  var start = 0u;
  if (t > 0u) {
    start = (info_of(own - 1u) >> 3u) + 1u;
  }
  let info = info_of(own);
  let raw = (blocks[place + 1u] >> 16u) != 0u;
  let first = 8u * (skip + start);
  var bit = first;
  var sums = vec4<f32>();
  var bad = false;
  for (var n = 0u; n < args.length; n++) {
    let window = bits_at(bit);
    var found = 0x800u | (window >> 24u);
    if (raw) {
      bad = bad || (found & 255u) >= args.alphabet;
    } else {
      found = find(window >> 17u);
    }
    bit += found >> 8u;
    let symbol = f32(found & 255u);
    if (LANES == 4u) {
      sums += symbol * vec4(weights[4u * n], weights[4u * n + 1u], weights[4u * n + 2u], weights[4u * n + 3u]);
    } else {
      sums.x += symbol * weights[n];
    }
  }
  if (bad || bit - first != 8u * ((info >> 3u) + 1u - start) - (info & 7u)) {
    status[0] = 1u;
  }
  let to = (item * args.vectors + t) * LANES;
  result[to] = sums.x;
  if (LANES == 4u) {
    result[to + 1u] = sums.y;
    result[to + 2u] = sums.z;
    result[to + 3u] = sums.w;
  }
}
