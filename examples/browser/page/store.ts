/**
 * Where the compressed cache lies between two loads of the page: the origin's private file system, or IndexedDB where
 * there is none.
 *
 * @module
 */
import type { Storage } from "./protocol.ts";

/** Named files. */
export interface Store {
  /** Which one it is. */
  readonly storage: Storage;
  /** The bytes of a file, null where there is none. */
  read(name: string): Promise<Uint8Array<ArrayBuffer> | null>;
  /** Writes or replaces a file. */
  write(name: string, bytes: Uint8Array): Promise<void>;
  /** Removes a file if it is there. */
  remove(name: string): Promise<void>;
}

/** Opens the private file system; IndexedDB where that is refused, with the reason, which the page shows. */
export async function openStore(): Promise<Store> {
  try {
    if (navigator.storage?.getDirectory === undefined) {
      throw new Error("this browser has none, or the page is not secure");
    }
    return opfsStore(await navigator.storage.getDirectory());
  } catch (error) {
    return await indexedDbStore(error instanceof Error ? error.message : String(error));
  }
}

function opfsStore(root: FileSystemDirectoryHandle): Store {
  const unlessMissing = async <T>(work: Promise<T>): Promise<T | null> => {
    try {
      return await work;
    } catch (error) {
      if ((error as DOMException).name === "NotFoundError") return null;
      throw error;
    }
  };
  return {
    storage: { kind: "OPFS" },
    async read(name) {
      const handle = await unlessMissing(root.getFileHandle(name));
      return handle && new Uint8Array(await (await handle.getFile()).arrayBuffer());
    },
    async write(name, bytes) {
      const handle = await root.getFileHandle(name, { create: true });
      // The file changes only when the stream closes: a page that is left midway keeps the old one.
      const stream = await handle.createWritable();
      await stream.write(bytes as Uint8Array<ArrayBuffer>);
      await stream.close();
    },
    async remove(name) {
      await unlessMissing(root.removeEntry(name));
    },
  };
}

const TABLE = "files";

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function indexedDbStore(reason: string): Promise<Store> {
  const opening = indexedDB.open("kvz-example", 1);
  opening.onupgradeneeded = () => void opening.result.createObjectStore(TABLE);
  const database = await done(opening);
  const table = (mode: IDBTransactionMode) => database.transaction(TABLE, mode).objectStore(TABLE);
  return {
    storage: { kind: "IndexedDB", reason },
    read: async (name) => (await done(table("readonly").get(name))) ?? null,
    write: async (name, bytes) => void await done(table("readwrite").put(bytes, name)),
    remove: async (name) => void await done(table("readwrite").delete(name)),
  };
}
