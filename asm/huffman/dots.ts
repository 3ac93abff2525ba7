// dots: Σ symbol · weight of the vectors of one part of the blocks of a head. Two vectors are decoded side by side, so that
// one's look-ups hide the other's. Weights are f32 [sets][length][lanes], `weightStride` bytes from set to set (0: one for
// all); out is f32 [tokenBlocks][vectors][lanes].
import { find, next32 } from "./reader";

/** Returns 0, or 1 when a vector is damaged. */
export function dots(
  codes: usize,
  blocks: usize,
  infos: usize,
  table: usize,
  alphabet: u32,
  tokenBlocks: usize,
  blockStride: usize,
  vectorStride: usize,
  vectors: usize,
  length: usize,
  weights: usize,
  weightStride: usize,
  lanes: usize,
  out: usize,
): u32 {
  let bad: u32 = 0;
  for (let b: usize = 0; b < tokenBlocks; b++) {
    const begin = codes + load<u32>(blocks);
    if (load<u16>(blocks, 6) != 0) {
      bad |= rawBlock(begin, alphabet, vectors, length, weights, lanes, out);
    } else {
      let at = begin, v: usize = 0;
      for (; v + 1 < vectors; v += 2) {
        const one = <usize>load<u16>(infos + (v << 1)), two = <usize>load<u16>(infos + (v << 1), 2);
        const middle = begin + (one >> 3) + 1, end = begin + (two >> 3) + 1;
        const to = out + ((v * lanes) << 2);
        const used = lanes == 1
          ? pair1(at, middle, table, length, weights, to)
          : pair4(at, middle, table, length, weights, to);
        const bits = <u64>(((middle - at) << 3) - (one & 7)) | <u64>(((end - middle) << 3) - (two & 7)) << 32;
        bad |= u32(used != bits);
        at = end;
      }
      if (v < vectors) {
        const info = <usize>load<u16>(infos + (v << 1)), end = begin + (info >> 3) + 1;
        const used = single(at, table, length, weights, lanes, out + ((v * lanes) << 2));
        bad |= u32(used != <u32>(((end - at) << 3) - (info & 7)));
      }
    }
    blocks += blockStride << 3;
    infos += vectorStride << 1;
    weights += weightStride;
    out += (vectors * lanes) << 2;
  }
  return bad;
}

/** One product of each of two vectors; returns the bits of both, the second's in the upper half. */
function pair1(a: usize, b: usize, table: usize, length: usize, weights: usize, out: usize): u64 {
  let p: u64 = 0, q: u64 = 0, havep: i32 = 0, haveq: i32 = 0;
  const begina = a, beginb = b;
  let x: f32 = 0, y: f32 = 0;
  for (let n: usize = 0; n < length; n++, weights += 4) {
    if (havep < 15) {
      p |= next32(a) << (32 - havep);
      havep += 32;
      a += 4;
    }
    if (haveq < 15) {
      q |= next32(b) << (32 - haveq);
      haveq += 32;
      b += 4;
    }
    const f = find(table, p), g = find(table, q), weight = load<f32>(weights);
    x += <f32>(f & 255) * weight;
    y += <f32>(g & 255) * weight;
    p <<= f >> 8;
    q <<= g >> 8;
    havep -= f >> 8;
    haveq -= g >> 8;
  }
  store<f32>(out, x);
  store<f32>(out, y, 4);
  return <u64>(((a - begina) << 3) - havep) | <u64>(((b - beginb) << 3) - haveq) << 32;
}

/** Four products of each of two vectors. */
function pair4(a: usize, b: usize, table: usize, length: usize, weights: usize, out: usize): u64 {
  if (!ASC_FEATURE_SIMD) {
    const one = single(a, table, length, weights, 4, out);
    return <u64>one | <u64>single(b, table, length, weights, 4, out + 16) << 32;
  }
  let p: u64 = 0, q: u64 = 0, havep: i32 = 0, haveq: i32 = 0;
  const begina = a, beginb = b;
  let x = f32x4.splat(0), y = x;
  for (let n: usize = 0; n < length; n++, weights += 16) {
    if (havep < 15) {
      p |= next32(a) << (32 - havep);
      havep += 32;
      a += 4;
    }
    if (haveq < 15) {
      q |= next32(b) << (32 - haveq);
      haveq += 32;
      b += 4;
    }
    const f = find(table, p), g = find(table, q), weight = v128.load(weights);
    x = f32x4.add(x, f32x4.mul(f32x4.splat(<f32>(f & 255)), weight));
    y = f32x4.add(y, f32x4.mul(f32x4.splat(<f32>(g & 255)), weight));
    p <<= f >> 8;
    q <<= g >> 8;
    havep -= f >> 8;
    haveq -= g >> 8;
  }
  v128.store(out, x);
  v128.store(out, y, 16);
  return <u64>(((a - begina) << 3) - havep) | <u64>(((b - beginb) << 3) - haveq) << 32;
}

/** All products of one vector; returns its bits. */
function single(at: usize, table: usize, length: usize, weights: usize, lanes: usize, out: usize): u32 {
  let buffer: u64 = 0, have: i32 = 0;
  const begin = at;
  let x: f32 = 0, y: f32 = 0, z: f32 = 0, w: f32 = 0;
  for (let n: usize = 0; n < length; n++, weights += lanes << 2) {
    if (have < 15) {
      buffer |= next32(at) << (32 - have);
      have += 32;
      at += 4;
    }
    const found = find(table, buffer), symbol = <f32>(found & 255);
    x += symbol * load<f32>(weights);
    if (lanes == 4) {
      y += symbol * load<f32>(weights, 4);
      z += symbol * load<f32>(weights, 8);
      w += symbol * load<f32>(weights, 12);
    }
    buffer <<= found >> 8;
    have -= found >> 8;
  }
  store<f32>(out, x);
  if (lanes == 4) {
    store<f32>(out, y, 4);
    store<f32>(out, z, 8);
    store<f32>(out, w, 12);
  }
  return <u32>((at - begin) << 3) - have;
}

/** A block whose symbols stand as bytes. */
function rawBlock(
  at: usize,
  alphabet: u32,
  vectors: usize,
  length: usize,
  weights: usize,
  lanes: usize,
  out: usize,
): u32 {
  let bad: u32 = 0;
  for (let v: usize = 0; v < vectors; v++, at += length) {
    for (let lane: usize = 0; lane < lanes; lane++, out += 4) {
      let sum: f32 = 0;
      for (let n: usize = 0; n < length; n++) {
        const symbol = <u32>load<u8>(at + n);
        bad |= u32(symbol >= alphabet);
        sum += <f32>symbol * load<f32>(weights + ((n * lanes + lane) << 2));
      }
      store<f32>(out, sum);
    }
  }
  return bad;
}
