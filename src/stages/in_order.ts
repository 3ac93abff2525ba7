/**
 * Calls that are begun together and awaited together.
 *
 * @module
 */

/**
 * Results of calls under way, when all are done. Where some fail, the first of them in order is thrown, whichever failed
 * first: which error a damaged file gives does not depend on a device's pace.
 */
export async function allInOrder<T extends readonly unknown[] | []>(
  calls: T,
): Promise<{ -readonly [I in keyof T]: Awaited<T[I]> }> {
  const settled = await Promise.allSettled(calls);
  for (const one of settled) if (one.status === "rejected") throw one.reason;
  return settled.map((one) => one.status === "fulfilled" ? one.value : undefined) as {
    -readonly [I in keyof T]: Awaited<T[I]>;
  };
}
