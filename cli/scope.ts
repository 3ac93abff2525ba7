/**
 * Resources that end with a block. `using` declarations say the same, but Node 20 cannot parse them and packing does
 * not rewrite them.
 *
 * @module
 */

/** Collects what has to be disposed of. */
export interface Scope {
  /** Takes a resource and hands it back. */
  use<T extends AsyncDisposable | Disposable>(resource: T): T;
}

/** Runs `work`; what it took through the scope is disposed of afterwards, last taken first, also on failure. */
export async function scoped<T>(work: (scope: Scope) => Promise<T>): Promise<T> {
  const resources: (AsyncDisposable | Disposable)[] = [];
  try {
    return await work({
      use(resource) {
        resources.push(resource);
        return resource;
      },
    });
  } finally {
    for (const resource of resources.reverse()) {
      if (Symbol.asyncDispose in resource) await resource[Symbol.asyncDispose]();
      else resource[Symbol.dispose]();
    }
  }
}
