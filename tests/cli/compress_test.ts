import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "deno-std/assert";
import { readSafetensors } from "../../src/adapters/safetensors.ts";
import { inspect } from "../../src/codec/inspect.ts";
import { syntheticProfile } from "../synthetic.ts";
import { decompress } from "../../src/codec/free.ts";
import { kvz, kvzJson, namesIn, withFiles } from "./kvz.ts";

Deno.test("compress, inspect and decompress hold what the issue fixes", () =>
  withFiles(async ({ at, cache, input, profile }) => {
    const file = at("out.kvz");
    const common = ["--profile", profile, "--backend", "wasm", "--threads", "1"];
    const c = await kvzJson([
      ...["compress", input, "-o", file, "--recipe", "kvtc", "--ratio", "4", "--window", "100", "--sinks", "3"],
      ...common,
    ]);
    const size = Deno.statSync(file).size;
    assertEquals(c.bytesIn, 400 * 3 * 2 * 16 * 2);
    assertEquals(c.bytesOut, size);
    assertEquals(c.targetRatio, 4);
    assert(c.paperRatio > 4);
    assertAlmostEquals(c.fileRatio, c.bytesIn / size, 1e-9);
    assert(c.seconds > 0 && c.secondsLoad > 0);
    assertAlmostEquals(c.tokensPerSecond, 400 / c.seconds, 1e-6 * c.tokensPerSecond);
    assertEquals([c.backend, c.threads, c.recipe, c.tokens, c.streamed], ["wasm", 1, "kvtc", 400, false]);
    assert(["base", "simd", "relaxed"].includes(c.build));

    const i = await kvzJson(["inspect", file, "--verify"]);
    assertEquals(i.header.recipe, {
      name: "kvtc",
      version: 1,
      options: { ratio: 4, keyRatio: 4, valueRatio: 4, sinks: 3, window: 100 },
    });
    assertEquals(i.regions, { sinks: 3, coded: 297, window: 100 });
    assertEquals([i.bytes, i.tokens, i.tokenIds, i.verified], [size, 400, true, true]);
    assertEquals(i.streams, c.streams);

    const back = at("back.safetensors");
    const d = await kvzJson(["decompress", file, "-o", back, ...common]);
    assert(d.seconds > 0 && d.secondsLoad > 0 && d.tokensPerSecond > 0);
    assertEquals([d.backend, d.threads, d.tokens, d.streamed], ["wasm", 1, 400, false]);
    assertEquals(d.bytesOut, Deno.statSync(back).size);
    const restored = await readSafetensors(Deno.readFileSync(back));
    assert(restored.slice(300, 400).equals(cache.slice(300, 400)), "the window is bit-exact");
    const { cache: direct } = await decompress(Deno.readFileSync(file), { profile: syntheticProfile() });
    assert(restored.equals(direct), "the command restores what the library does");
  }));

Deno.test("threads, builds and backends give the same file", () =>
  withFiles(async ({ at, input, profile }) => {
    const base = ["compress", input, "-p", profile, "--ratio", "4", "--window", "20"];
    await kvzJson([...base, "-o", at("one.kvz"), "--threads", "1", "--wasm-build", "simd"]);
    const two = await kvzJson([...base, "-o", at("two.kvz"), "--threads", "3", "--wasm-build", "simd"]);
    assertEquals([two.threads, two.build], [3, "simd"]);
    assertEquals(Deno.readFileSync(at("one.kvz")), Deno.readFileSync(at("two.kvz")));
    const reference = await kvzJson([...base, "-o", at("ref.kvz"), "--backend", "reference", "--threads", "1"]);
    assertEquals([reference.backend, reference.build], ["reference", "float64"]);
  }));

Deno.test("large caches are read and written by ranges, with the same result", () =>
  withFiles(async ({ at, input, profile }) => {
    const flags = ["-p", profile, "--threads", "2"];
    const small = { env: { KVZ_IN_MEMORY_BYTES: "1000" } };
    await kvzJson(["compress", input, "-o", at("held.kvz"), ...flags]);
    const c = await kvzJson(["compress", input, "-o", at("ranges.kvz"), ...flags], 0, small);
    assertEquals(c.streamed, true);
    assertEquals(Deno.readFileSync(at("ranges.kvz")), Deno.readFileSync(at("held.kvz")));
    await kvzJson(["decompress", at("held.kvz"), "-o", at("held.safetensors"), ...flags]);
    const d = await kvzJson(["decompress", at("held.kvz"), "-o", at("ranges.safetensors"), ...flags], 0, small);
    assertEquals(d.streamed, true);
    assertEquals(d.bytesOut, Deno.statSync(at("ranges.safetensors")).size);
    assertEquals(Deno.readFileSync(at("ranges.safetensors")), Deno.readFileSync(at("held.safetensors")));
  }));

Deno.test("pipes: - reads standard input and writes standard output", () =>
  withFiles(async ({ at, input, profile }) => {
    const flags = ["-p", profile, "--threads", "1"];
    await kvzJson(["compress", input, "-o", at("file.kvz"), "--ratio", "4", ...flags]);
    const stdin = Deno.readFileSync(input);
    const piped = await kvz(["compress", "-", "-o", "-", "--ratio", "4", ...flags], { stdin });
    assertEquals(piped.code, 0, piped.err);
    assertEquals(piped.stdout, Deno.readFileSync(at("file.kvz")));
    assertStringIncludes(piped.err, "tokens/s");

    const restored = await kvz(["decompress", "-", "-o", "-", ...flags], { stdin: piped.stdout });
    assertEquals(restored.code, 0, restored.err);
    await kvzJson(["decompress", at("file.kvz"), "-o", at("back.safetensors"), ...flags]);
    assertEquals(restored.stdout, Deno.readFileSync(at("back.safetensors")));

    const seen = await kvzJson(["inspect", "-"], 0, { stdin: piped.stdout });
    assertEquals(seen.tokens, 400);

    const both = await kvzJson(["compress", input, "-o", "-", ...flags], 2);
    assertStringIncludes(both.error.message, "--json");
    const twice = await kvzJson(["verify", "-", "-", ...flags], 2);
    assertStringIncludes(twice.error.message, "standard input");
  }));

Deno.test("options of compress reach the file", () =>
  withFiles(async ({ at, input, profile }) => {
    const flags = ["-p", profile, "--threads", "1"];
    await kvzJson([
      ...["compress", input, "-o", at("a.kvz"), "--key-ratio", "3", "--value-ratio", "6", "--no-token-ids", ...flags],
    ]);
    const { header, tokenIds } = await inspect(Deno.readFileSync(at("a.kvz")));
    assertEquals([header.recipe.options.keyRatio, header.recipe.options.valueRatio], [3, 6]);
    assertEquals(tokenIds, false);

    // A small model has few plans: ask for a file ratio that one of them has.
    const window = ["--window", "20", ...flags];
    const { fileRatio } = await kvzJson(["compress", input, "-o", at("b.kvz"), "--ratio", "5", ...window]);
    const wanted = fileRatio.toFixed(3);
    const f = await kvzJson(["compress", input, "-o", at("b2.kvz"), "--file-ratio", wanted, ...window]);
    assertAlmostEquals(f.fileRatio, fileRatio, 0.011 * fileRatio);

    const rope = '{"theta":10000,"dim":8,"pairing":"half-split","first_position":7}';
    await kvzJson(["compress", input, "-o", at("c.kvz"), "--rope", rope, "--architecture", "llama", ...flags]);
    assertEquals((await inspect(Deno.readFileSync(at("c.kvz")))).header.firstPosition, 7);
  }));

Deno.test("options of decompress reach the cache", () =>
  withFiles(async ({ at, input, profile }) => {
    const flags = ["-p", profile, "--threads", "1"];
    await kvzJson(["compress", input, "-o", at("a.kvz"), "--ratio", "4", ...flags]);
    await kvzJson(["decompress", at("a.kvz"), "-o", at("whole.safetensors"), ...flags]);
    const whole = await readSafetensors(Deno.readFileSync(at("whole.safetensors")));
    const part = async (name: string, args: string[]) => {
      await kvzJson(["decompress", at("a.kvz"), "-o", at(name), ...args, ...flags]);
      return await readSafetensors(Deno.readFileSync(at(name)));
    };
    assert((await part("tokens.safetensors", ["--tokens", "37"])).equals(whole.slice(0, 37)));
    assert((await part("layers.safetensors", ["--layers", "1:3"])).equals(whole.sliceLayers(1, 3)));
    assertEquals((await part("moved.safetensors", ["--first-position", "50"])).positions[0], 50);
    assertEquals((await part("wide.safetensors", ["--dtype", "f32"])).dtype, "f32");
  }));

Deno.test("an output is replaced only with --force, and then whole", () =>
  withFiles(async ({ folder, at, input, profile }) => {
    Deno.writeTextFileSync(at("out.kvz"), "precious");
    const args = ["compress", input, "-o", at("out.kvz"), "-p", profile, "--threads", "1"];
    const refused = await kvzJson(args, 8);
    assertEquals(refused.error.name, "FileSystemError");
    assertStringIncludes(refused.error.message, "--force");
    assertEquals(Deno.readTextFileSync(at("out.kvz")), "precious");
    await kvzJson([...args, "--force"]);
    assertEquals((await inspect(Deno.readFileSync(at("out.kvz")))).tokens, 400);
    assertEquals(namesIn(folder), ["in.safetensors", "out.kvz", "p.kvzp"]);
  }));

Deno.test("a failure leaves neither a partial nor a temporary file, nor harms what was there", () =>
  withFiles(async ({ folder, at, input, profile }) => {
    const flags = ["-p", profile, "--threads", "1"];
    await kvzJson(["compress", input, "-o", at("good.kvz"), ...flags]);
    const damaged = Deno.readFileSync(at("good.kvz"));
    damaged[damaged.length >> 1] ^= 1;
    Deno.writeFileSync(at("bad.kvz"), damaged);
    Deno.writeTextFileSync(at("old.safetensors"), "precious");
    const before = namesIn(folder);
    const failed = await kvzJson(["decompress", at("bad.kvz"), "-o", at("new.safetensors"), ...flags], 3);
    assertEquals(failed.error.name, "KvzFormatError");
    await kvzJson(["decompress", at("bad.kvz"), "-o", at("old.safetensors"), "--force", ...flags], 3);
    assertEquals(namesIn(folder), before);
    assertEquals(Deno.readTextFileSync(at("old.safetensors")), "precious");
  }));

Deno.test("lossless needs no profile and gives back every bit, piece by piece as well", () =>
  withFiles(async ({ at, cache, input }) => {
    const file = at("exact.kvz");
    const c = await kvzJson(["compress", input, "-o", file, "--recipe", "lossless", "--threads", "2"]);
    assertEquals([c.recipe, c.targetRatio, c.tokens], ["lossless", null, 400]);
    const i = await kvzJson(["inspect", file, "--verify"]);
    assertEquals(i.header.recipe, { name: "lossless", version: 1, options: {} });
    assertEquals("profileFingerprint" in i.header, false);
    assertStringIncludes((await kvz(["inspect", file])).out, "lossless 1\n");
    await kvzJson(["decompress", file, "-o", at("back.safetensors")]);
    assert((await readSafetensors(Deno.readFileSync(at("back.safetensors")))).equals(cache));
    const { code, err } = await kvz(["compress", input, "-o", at("no.kvz"), "--recipe", "lossless", "--ratio", "4"]);
    assertEquals(code, 2);
    assertStringIncludes(err, '"ratio"');
  }));

Deno.test("kvtc codes its streams by rANS when it is told to", () =>
  withFiles(async ({ at, input, profile }) => {
    const base = ["compress", input, "-p", profile, "--ratio", "4"];
    await kvzJson([...base, "-o", at("deflate.kvz")]);
    await kvzJson([...base, "-o", at("rans.kvz"), "--entropy", "rans"]);
    for (const name of ["deflate", "rans"]) {
      await kvzJson(["decompress", at(`${name}.kvz`), "-o", at(`${name}.safetensors`), "-p", profile]);
    }
    assertEquals((await kvzJson(["inspect", at("rans.kvz")])).header.recipe.options.entropy, "rans");
    const [a, b] = ["deflate", "rans"].map((name) => Deno.readFileSync(at(`${name}.safetensors`)));
    assertEquals(a, b);
    assertEquals((await kvz([...base, "-o", at("no.kvz"), "--entropy", "zip"])).code, 2);
  }));
