/** A small PCA for tests, through the Gram matrix of the rows. */

function gram(a: Float32Array, b: Float32Array, p: number): Float64Array {
  const m = a.length / p;
  const n = b.length / p;
  const out = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    const x = a.subarray(i * p, (i + 1) * p);
    for (let j = a === b ? i : 0; j < n; j++) {
      const y = b.subarray(j * p, (j + 1) * p);
      let sum = 0;
      for (let k = 0; k < p; k++) sum += x[k] * y[k];
      out[i * n + j] = sum;
      if (a === b) out[j * n + i] = sum;
    }
  }
  return out;
}

/** Orthonormalizes rows in place (modified Gram–Schmidt). */
function orthonormalize(rows: Float64Array[]): void {
  rows.forEach((row, i) => {
    for (let j = 0; j < i; j++) {
      const other = rows[j];
      let dot = 0;
      for (let k = 0; k < row.length; k++) dot += row[k] * other[k];
      for (let k = 0; k < row.length; k++) row[k] -= dot * other[k];
    }
    let norm = 0;
    for (const value of row) norm += value * value;
    norm = 1 / Math.sqrt(norm);
    for (let k = 0; k < row.length; k++) row[k] *= norm;
  });
}

/**
 * Fits PCA with `components` components on the first `split` rows of x [rows][p] and returns ‖residual‖ / ‖x‖ of the
 * others. With centred training rows A = U S Vᵀ the projection on V needs only A·Bᵀ and the leading subspace of A·Aᵀ,
 * which orthogonal iteration finds.
 */
export function heldOutError(x: Float32Array, p: number, split: number, components: number): number {
  const rows = x.length / p;
  const centred = x.slice();
  let energy = 0;
  for (let i = split * p; i < x.length; i++) energy += x[i] * x[i];
  for (let f = 0; f < p; f++) {
    let mean = 0;
    for (let r = 0; r < split; r++) mean += x[r * p + f] / split;
    for (let r = 0; r < rows; r++) centred[r * p + f] -= mean;
  }
  const train = centred.subarray(0, split * p);
  const test = centred.subarray(split * p);
  const a = gram(train, train, p);
  let seed = 1;
  let u = Array.from({ length: components }, () =>
    Float64Array.from({ length: split }, () => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return seed / 2 ** 32 - 0.5;
    }));
  const multiply = (row: Float64Array) =>
    Float64Array.from({ length: split }, (_, i) => {
      let sum = 0;
      for (let k = 0; k < split; k++) sum += a[i * split + k] * row[k];
      return sum;
    });
  for (let iteration = 0; iteration < 15; iteration++) {
    u = u.map(multiply);
    orthonormalize(u);
  }
  // Span of V: the rows Uᵀ·A. Their Gram matrix is Uᵀ (A Aᵀ) U; orthonormalize by its Cholesky factor.
  const au = u.map(multiply);
  const lower = Array.from({ length: components }, () => new Float64Array(components));
  for (let i = 0; i < components; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = 0;
      for (let k = 0; k < split; k++) sum += u[i][k] * au[j][k];
      for (let k = 0; k < j; k++) sum -= lower[i][k] * lower[j][k];
      lower[i][j] = i === j ? Math.sqrt(sum) : sum / lower[j][j];
    }
  }
  const cross = gram(train, test, p);
  const tests = rows - split;
  let residual = 0;
  for (let t = 0; t < tests; t++) {
    for (let f = 0; f < p; f++) residual += test[t * p + f] ** 2;
    const c = new Float64Array(components);
    for (let i = 0; i < components; i++) {
      let sum = 0;
      for (let k = 0; k < split; k++) sum += u[i][k] * cross[k * tests + t];
      for (let k = 0; k < i; k++) sum -= lower[i][k] * c[k];
      c[i] = sum / lower[i][i];
      residual -= c[i] ** 2;
    }
  }
  return Math.sqrt(residual / energy);
}
