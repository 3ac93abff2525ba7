import { assert, assertEquals, assertMatch, assertStringIncludes } from "deno-std/assert";
import { writeSafetensors } from "../../src/adapters/safetensors_sink.ts";
import { KvCacheBuilder } from "../../src/cache/builder.ts";
import type { KvCache } from "../../src/cache/kv_cache.ts";
import {
  KvzBackendError,
  KvzFormatError,
  KvzLimitError,
  KvzMismatchError,
  KvzUnsupportedError,
} from "../../src/errors.ts";
import { serializeProfile } from "../../src/profile/profile_format.ts";
import {
  EXIT,
  EXIT_CODES_HELP,
  exitCodeOf,
  FileSystemError,
  InterruptedError,
  UsageError,
} from "../../cli/exit_codes.ts";
import { VERSION } from "../../cli/version.ts";
import { SMALL_MODEL, syntheticCache, syntheticProfile } from "../synthetic.ts";
import { kvz, kvzJson, MAIN, namesIn, withFiles } from "./kvz.ts";

Deno.test("every error has its exit code", () => {
  const cases: [Error, number][] = [
    [new Error("x"), 1],
    [new TypeError("Cannot read properties of undefined (reading 'x')"), 1],
    [new RangeError("Invalid array length"), 1],
    [new UsageError("x"), 2],
    [new RangeError("Cannot restore layers [9, 10): the cache has 3 layers"), 2],
    [new TypeError('Cannot use options "fileRatio" and "ratio" together'), 2],
    [new KvzFormatError("x"), 3],
    [new KvzMismatchError("x"), 4],
    [new KvzLimitError("x"), 5],
    [new KvzBackendError("x"), 6],
    [new KvzUnsupportedError("x"), 7],
    [new FileSystemError("x"), 8],
    [new InterruptedError("x"), 130],
  ];
  for (const [error, code] of cases) assertEquals(exitCodeOf(error), code, `${error.name}: ${error.message}`);
});

Deno.test("--help lists commands and exit codes, --version the package's version", async () => {
  const help = await kvz(["--help"]);
  assertEquals(help.code, 0);
  const commands = "calibrate compress decompress inspect verify append profile recipes doctor demo".split(" ");
  for (const command of commands) assertMatch(help.out, new RegExp(`^  ${command} `, "m"));
  assertStringIncludes(help.out, EXIT_CODES_HELP);
  for (const code of Object.values(EXIT)) assertMatch(EXIT_CODES_HELP, new RegExp(`^  ${code} +\\S`, "m"));
  const config = JSON.parse(Deno.readTextFileSync(new URL("../../deno.json", import.meta.url)));
  assertEquals((await kvz(["--version"])).out, `${config.version}\n`);
  assertEquals(VERSION, config.version);
});

Deno.test("2: usage", () =>
  withFiles(async ({ at, input, profile }) => {
    const compress = (...more: string[]) => ["compress", input, "-o", at("x.kvz"), "-p", profile, ...more];
    await kvzJson(compress("--ratio", "4"));
    const file = at("x.kvz");
    const restore = (...more: string[]) => ["decompress", file, "-o", at("y.safetensors"), "-p", profile, ...more];
    const wrong: [string[], RegExp][] = [
      [[], /--json/],
      [["explode"], /unknown command/],
      [["inspect"], /missing required argument/],
      [["compress", input], /--output/],
      [compress("--rato", "4"), /unknown option.*--ratio/],
      [compress("--ratio", "-4"), /--ratio/],
      [compress("--ratio", "0.5"), /ratio/],
      [compress("--recipe", "zip"), /recipe "zip"/],
      [compress("--threads", "1.5"), /--threads/],
      [compress("--rope", "{"), /JSON/],
      [compress("--rope", '{"theta":1}'), /dim/],
      [compress("--ratio", "4", "--file-ratio", "3", "--force"), /fileRatio/],
      [compress("--backend", "reference", "--wasm-build", "simd"), /--wasm-build/],
      [restore("--layers", "2:1"), /A:B/],
      [restore("--layers", "0:9"), /3 layers/],
      [restore("--max-bytes", "many"), /--max-bytes/],
      [restore("--format", "state"), /llama.cpp state/],
    ];
    for (const [args, message] of wrong) {
      const { error } = await kvzJson(args, 2);
      assertMatch(error.message, message);
      assert(!error.message.includes("\n"));
    }
    const none = await kvz([]);
    assertEquals([none.code, none.out, none.err], [2, "", "kvz: Cannot run: a command is missing (see kvz --help)\n"]);
    const plain = await kvz(["explode"]);
    assertEquals([plain.code, plain.out], [2, ""]);
    assertMatch(plain.err, /^kvz: unknown command 'explode'.*\n$/);
  }));

Deno.test("3: file format", () =>
  withFiles(async ({ at, input, profile }) => {
    await kvzJson(["compress", input, "-o", at("a.kvz"), "-p", profile]);
    const whole = Deno.readFileSync(at("a.kvz"));
    Deno.writeFileSync(at("cut.kvz"), whole.subarray(0, whole.length - 7));
    Deno.writeFileSync(at("empty"), new Uint8Array(0));
    for (
      const args of [
        ["inspect", at("cut.kvz")],
        ["inspect", input],
        ["inspect", at("empty")],
        ["decompress", at("cut.kvz"), "-o", at("b.safetensors"), "-p", profile],
        ["compress", at("a.kvz"), "-o", at("b.kvz"), "-p", profile],
        ["compress", at("empty"), "-o", at("b.kvz"), "-p", profile],
        ["compress", input, "-o", at("b.kvz"), "-p", input],
        ["calibrate", "--recipe", "kvtc", "--merge", profile, "-o", at("q.kvzp")],
      ]
    ) {
      assertEquals((await kvzJson(args, 3)).error.name, "KvzFormatError", args.join(" "));
    }
  }));

Deno.test("4: mismatch", () =>
  withFiles(async ({ at, input, profile }) => {
    await kvzJson(["compress", input, "-o", at("a.kvz"), "-p", profile]);
    Deno.writeFileSync(at("other.kvzp"), await serializeProfile(syntheticProfile(SMALL_MODEL, 7)));
    const wrongProfile = await kvzJson(["decompress", at("a.kvz"), "-o", at("b"), "-p", at("other.kvzp")], 4);
    assertEquals(wrongProfile.error.name, "KvzMismatchError");
    const wrongModel = ["compress", input, "-o", at("b.kvz"), "-p", profile, "--model-id", "another-model"];
    assertStringIncludes((await kvzJson(wrongModel, 4)).error.message, "another-model");
    Deno.writeFileSync(at("short.safetensors"), await writeSafetensors(syntheticCache(50)));
    await kvzJson(["verify", at("a.kvz"), at("short.safetensors"), "-p", profile], 4);
  }));

Deno.test("5: limit", () =>
  withFiles(async ({ folder, at, input, profile }) => {
    await kvzJson(["compress", input, "-o", at("a.kvz"), "-p", profile]);
    const args = ["decompress", at("a.kvz"), "-o", at("b.safetensors"), "-p", profile, "--max-bytes", "10KiB"];
    assertEquals((await kvzJson(args, 5)).error.name, "KvzLimitError");
    assertEquals(namesIn(folder), ["a.kvz", "in.safetensors", "p.kvzp"]);
  }));

Deno.test("6: backend", () =>
  withFiles(async ({ at, input, profile }) => {
    const args = ["compress", input, "-o", at("a.kvz"), "-p", profile, "--backend", "abacus"];
    const { error } = await kvzJson(args, 6);
    assertEquals(error.name, "KvzBackendError");
    assertStringIncludes(error.message, "abacus");
  }));

Deno.test("7: unsupported content", () =>
  withFiles(async ({ folder, at, cache, profile }) => {
    Deno.writeFileSync(at("nan.safetensors"), await writeSafetensors(withNaN(cache)));
    const args = ["compress", at("nan.safetensors"), "-o", at("a.kvz"), "-p", profile];
    for (const threads of ["1", "3"]) {
      const { error } = await kvzJson([...args, "--threads", threads], 7);
      assertEquals(error.name, "KvzUnsupportedError");
      assertStringIncludes(error.message, "layer 1, head 0, token 12");
    }
    assertEquals(namesIn(folder), ["in.safetensors", "nan.safetensors", "p.kvzp"]);
  }));

Deno.test("8: file system", () =>
  withFiles(async ({ folder, at, input, profile }) => {
    for (
      const args of [
        ["inspect", at("nothing.kvz")],
        ["inspect", folder],
        ["compress", input, "-o", at("a.kvz"), "-p", at("nothing.kvzp")],
        ["compress", input, "-o", at("no/such/folder/a.kvz"), "-p", profile],
        ["compress", input, "-o", folder, "-p", profile],
        ["calibrate", at("nothing.safetensors"), "-o", at("q.kvzp")],
      ]
    ) {
      assertEquals((await kvzJson(args, 8)).error.name, "FileSystemError", args.join(" "));
    }
    const plain = await kvz(["inspect", at("nothing.kvz")]);
    assertEquals([plain.code, plain.out], [8, ""]);
    assertMatch(plain.err, /^kvz: Cannot use .*nothing\.kvz: there is no such file or folder\n$/);
  }));

Deno.test("130: SIGINT ends a run cleanly", () =>
  withFiles(async ({ folder, at, profile }) => {
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", MAIN, "compress", "-", "-o", at("a.kvz"), "-p", profile],
      stdin: "piped",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    // More than a pipe holds: when it has been taken, the command is reading.
    await writer.write(new Uint8Array(1 << 20));
    child.kill("SIGINT");
    const kill = setTimeout(() => child.kill("SIGKILL"), 10_000);
    const { code, signal, stderr } = await child.output();
    clearTimeout(kill);
    await writer.abort();
    assertEquals([code, signal], [130, null]);
    assertEquals(new TextDecoder().decode(stderr), "kvz: interrupted\n");
    assertEquals(namesIn(folder), ["in.safetensors", "p.kvzp"]);
  }));

Deno.test("KVZ_DEBUG prints the stack with its causes", async () => {
  const quiet = await kvz(["inspect", "nothing.kvz"]);
  assertEquals(quiet.err.trimEnd().split("\n").length, 1);
  const loud = await kvz(["inspect", "nothing.kvz"], { env: { KVZ_DEBUG: "1" } });
  assertMatch(loud.err, /^kvz: .*\nFileSystemError: [^]*\n +at /);
  assertStringIncludes(loud.err, "Caused by:");
});

/** A copy with a NaN among the keys of layer 1, head 0, token 12. */
function withNaN(cache: KvCache): KvCache {
  const { model, dtype, positions, inputIds, tokens } = cache;
  const builder = new KvCacheBuilder({ model, dtype, positions, inputIds });
  const keys = cache.read("key", 0, tokens);
  new DataView(keys.buffer).setUint16(((1 * model.kvHeads * tokens + 12) * model.keyDim + 3) * 2, 0x7e00, true);
  builder.write("key", 0, 0, tokens, keys);
  builder.write("value", 0, 0, tokens, cache.read("value", 0, tokens));
  return builder.build();
}
