/**
 * The example's server: page, bundle, model, profile and runtime from this machine, nothing from the network.
 *
 *     deno task start [--port 8080] [--profile FILE.kvzp] [--model FOLDER]
 *
 * Every response carries the headers of cross-origin isolation, which give onnxruntime-web its threads.
 *
 * @module
 */
import { basename, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { BUNDLE_DIR, bundlePage } from "./bundle.ts";
import { installPackages, packageDir, PAGE_PACKAGES } from "./packages.ts";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** Options of {@linkcode startServer}. */
export interface ServeOptions {
  /** Port on localhost; 0 takes any that is free. Default 8080. */
  readonly port?: number;
  /** Profile that the page compresses with. Default: that of the samples. */
  readonly profile?: string;
  /** Folder of the model, in the layout of Transformers.js. Default: models/smollm2. */
  readonly model?: string;
  /** More folders: path on the server, beginning and ending with "/" → folder. */
  readonly folders?: Readonly<Record<string, string>>;
}

/** A server that runs. */
export interface RunningServer {
  /** Address of the page. */
  readonly url: string;
  /** Ends it. */
  close(): Promise<void>;
}

const TYPES: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  css: "text/css; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  mjs: "text/javascript; charset=utf-8",
  json: "application/json",
  wasm: "application/wasm",
};

const HEADERS = {
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
  "cross-origin-resource-policy": "same-origin",
  "cache-control": "no-cache",
};

/** The file behind a path of the URL, null where there is none. */
function findFile(path: string, profile: string, folders: Readonly<Record<string, string>>): string | null {
  if (path === "/") return here("page/index.html");
  if (path === "/profile.kvzp") return profile;
  for (const [prefix, folder] of Object.entries(folders)) {
    if (!path.startsWith(prefix)) continue;
    const file = resolve(folder, path.slice(prefix.length));
    return file.startsWith(folder + sep) ? file : null;
  }
  return null;
}

async function respond(request: Request, file: string | null): Promise<Response> {
  if (request.method !== "GET" && request.method !== "HEAD") {
    return new Response("Method not allowed", { status: 405, headers: HEADERS });
  }
  const notFound = () => new Response("Not found", { status: 404, headers: HEADERS });
  if (file === null) return notFound();
  let opened: Deno.FsFile;
  try {
    opened = await Deno.open(file);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return notFound();
    throw error;
  }
  const { size, isFile } = await opened.stat();
  const body = isFile && request.method === "GET";
  if (!body) opened.close();
  if (!isFile) return notFound();
  const type = TYPES[file.slice(file.lastIndexOf(".") + 1)] ?? "application/octet-stream";
  const headers = { ...HEADERS, "content-type": type, "content-length": String(size) };
  return new Response(body ? opened.readable : null, { headers });
}

/**
 * Installs, bundles and serves.
 *
 * @throws {Error} A package cannot be installed or the page cannot be bundled.
 */
export async function startServer(options: ServeOptions = {}): Promise<RunningServer> {
  const profile = resolve(options.profile ?? here("../../samples/smollm2-demo.kvzp"));
  await installPackages(PAGE_PACKAGES);
  await bundlePage();
  const folders = {
    "/app/": BUNDLE_DIR,
    "/page/": here("page"),
    "/model/": resolve(options.model ?? here("../../models/smollm2")),
    "/onnxruntime/": `${packageDir("onnxruntime-web")}/dist`,
    "/tokenizers/": `${packageDir("@huggingface/tokenizers")}/dist`,
    ...options.folders,
  };
  const server = Deno.serve({ hostname: "localhost", port: options.port ?? 8080, onListen: () => {} }, (request) => {
    const path = decodeURIComponent(new URL(request.url).pathname);
    if (path === "/profile.json") return Response.json({ name: basename(profile) }, { headers: HEADERS });
    return respond(request, findFile(path, profile, folders));
  });
  return { url: `http://localhost:${server.addr.port}/`, close: () => server.shutdown() };
}

if (import.meta.main) {
  const { values } = parseArgs({
    args: Deno.args,
    options: { port: { type: "string" }, profile: { type: "string" }, model: { type: "string" } },
  });
  const { port, ...paths } = values;
  if (port !== undefined && !/^\d{1,5}$/.test(port)) {
    console.error(`Cannot serve: --port is ${port}, expected a number`);
    Deno.exit(1);
  }
  const { url } = await startServer({ ...paths, ...(port === undefined ? {} : { port: Number(port) }) });
  console.log(`The page is at ${url}`);
}
