/**
 * How many cases properties try.
 *
 * @module
 */

/** The usual number of cases of a property, or what KVZ_CASES says: 10,000 in `deno task test:night`. */
export function casesFor(usual: number): number {
  const wanted = Deno.env.get("KVZ_CASES");
  if (wanted === undefined) return usual;
  const cases = Number(wanted);
  if (!(Number.isInteger(cases) && cases > 0)) throw new Error(`KVZ_CASES is ${wanted}, expected a whole number > 0`);
  return cases;
}
