/**
 * Several promises under way, results in order.
 *
 * @module
 */

/**
 * Results of all promises. After a failure it waits for the others before it throws the first one in order: lanes must not
 * have jobs under way that nobody waits for.
 */
export async function allDone<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  const settled = await Promise.allSettled(promises);
  return settled.map((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value;
  });
}

/**
 * Maps items through an asynchronous function, at most `limit` under way, yielding results in the order of the items.
 * After a failure no further item is started.
 */
export async function* mapOrdered<T, R>(
  items: Iterable<T> | AsyncIterable<T>,
  limit: number,
  start: (item: T) => Promise<R>,
): AsyncGenerator<R, void, void> {
  const pending: Promise<R>[] = [];
  try {
    for await (const item of items) {
      const started = start(item);
      // It may fail while an earlier one is waited for; its failure is heard when its turn comes.
      started.catch(() => {});
      pending.push(started);
      if (pending.length >= limit) yield await pending.shift()!;
    }
    while (pending.length > 0) yield await pending.shift()!;
  } finally {
    // Only after a failure or an early end: wait for what is under way, whose own failures have lost their reader.
    await Promise.allSettled(pending);
  }
}
