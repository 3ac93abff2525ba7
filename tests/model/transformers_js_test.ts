/**
 * The real model in Transformers.js, through kvz. Needs `deno task model`; KVZ_TRANSFORMERS names another folder with
 * Transformers.js than .cache/eval.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "deno-std/assert";
import { Chat } from "../../examples/transformers-js/chat.ts";
import { firstDifference } from "../../examples/transformers-js/compare.ts";
import { type DynamicCache, loadRuntime, type Tensor } from "../../examples/transformers-js/runtime.ts";
import { toTransformersJs } from "../../src/adapters/transformers_js.ts";
import { KvzBackendError, KvzMismatchError, loadProfile, openCodec, readSafetensors } from "../../mod.ts";
import { restoreCache, saveCache } from "../../transformers.ts";
import { syntheticCache, syntheticProfile } from "../synthetic.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const runtime = await loadRuntime();
const { model, tokenizer, transformers } = runtime;
const profile = await loadProfile(await Deno.readFile(`${ROOT}samples/smollm2-demo.kvzp`));
const sample = await readSafetensors(await Deno.readFile(`${ROOT}samples/smollm2-256.safetensors`));
const codec = await openCodec(profile);

const PROMPT = "The lighthouse stood on a rock. Every evening its keeper climbed the stairs and";

function greedy(inputs: object, tokens: number): Promise<{ sequences: Tensor; past_key_values: DynamicCache }> {
  return model.generate({ ...inputs, max_new_tokens: tokens, do_sample: false, return_dict_in_generate: true });
}

function inputsOf(ids: readonly number[]): object {
  const data = BigInt64Array.from(ids, BigInt);
  const dims = [1, ids.length];
  return {
    input_ids: new transformers.Tensor("int64", data, dims),
    attention_mask: new transformers.Tensor("int64", new BigInt64Array(ids.length).fill(1n), dims),
  };
}

const idsOf = (sequences: Tensor) => Array.from(sequences.data as BigInt64Array, Number);

Deno.test("12 + 18 tokens through a lossless cache are 30 uninterrupted tokens", async () => {
  const prompt = tokenizer.encode(PROMPT, { add_special_tokens: false });
  const whole = await greedy(inputsOf(prompt), 30);
  assertEquals(whole.sequences.dims, [1, prompt.length + 30]);
  const part = await greedy(inputsOf(prompt), 12);
  const { bytes } = await saveCache(part.past_key_values, {
    model,
    tokenizer,
    codec,
    inputIds: part.sequences.data as BigInt64Array,
    lossless: true,
  });
  // Saving left the cache usable.
  const uninterrupted = await greedy({ ...inputsOf(idsOf(part.sequences)), past_key_values: part.past_key_values }, 18);
  assertEquals(idsOf(uninterrupted.sequences), idsOf(whole.sequences));

  const restored = await restoreCache(bytes, { model, tokenizer, codec, transformers });
  assertEquals(restored.tokens, prompt.length + 11);
  assertEquals(restored.pastKeyValues.get_seq_length(), prompt.length + 11);
  const rest = await greedy(restored.generateInputs(), 18);
  assertEquals(idsOf(rest.sequences), idsOf(whole.sequences));
});

Deno.test("at 32× the continuation keeps to the text", async (t) => {
  const ids = [...sample.inputIds!];
  const chat = new Chat(runtime, 40);
  const { answer: original, cache } = await chat.generate(ids, null, 24);
  // Of the prompt alone: all ids but the last, whose turn it is.
  const { past_key_values } = await greedy(inputsOf(ids.slice(0, -1)), 1);
  assertEquals(past_key_values.get_seq_length(), ids.length - 1);
  for (const window of [128, 16]) {
    await t.step(`window ${window}`, async () => {
      const options = { model, tokenizer, codec, inputIds: ids, ratio: 32, window };
      const { bytes, report } = await saveCache(past_key_values, options);
      assert(report.paperRatio! > 15, `${report.paperRatio}`);
      const { pastKeyValues, inputIds } = await restoreCache(bytes, { model, tokenizer, codec, transformers });
      assertEquals([...inputIds!], ids);
      const { answer } = await chat.generate(ids, pastKeyValues, 24);
      assertEquals(answer.computed, 1);
      const same = firstDifference(original.ids, answer.ids) ?? original.ids.length;
      console.log(`    ${bytes.length} bytes; ${same} of ${original.ids.length} tokens as uninterrupted`);
      console.log(`    uninterrupted ${JSON.stringify(original.text)}`);
      console.log(`    restored      ${JSON.stringify(answer.text)}`);
      assertEquals(answer.ids[0], original.ids[0]);
    });
  }
  assertEquals(cache.get_seq_length(), ids.length + 23);
});

Deno.test("a cache of another model and ids of another tokenizer are refused before the model sees them", async () => {
  const foreign = syntheticCache(40);
  await using other = await openCodec(syntheticProfile());
  const { bytes } = await other.compress(foreign);
  await assertRejects(
    () => restoreCache(bytes, { model, codec, transformers }),
    KvzMismatchError,
    "layers is 3 in the file, 30 in the model",
  );
  const own = await codec.compress(sample, { ratio: 32 });
  assertEquals((await restoreCache(own.bytes, { model, codec, transformers })).tokens, 256);
  const vocabulary = tokenizer.get_vocab();
  const swapped = new Map(vocabulary).set("a", vocabulary.get("b")!).set("b", vocabulary.get("a")!);
  const record = new transformers.DynamicCache(toTransformersJs(sample, {
    makeTensor: (type, data, dims) => new transformers.Tensor(type, data, dims),
  }));
  const saved = await saveCache(record, { model, codec, tokenizer, inputIds: sample.inputIds, ratio: 32 });
  await assertRejects(
    () => restoreCache(saved.bytes, { model, codec, transformers, tokenizer: { get_vocab: () => swapped } }),
    KvzMismatchError,
    "of a tokenizer with vocabulary",
  );
});

/** A WebGPU adapter, in software where there is no other (Mesa's lavapipe). */
const adapter = await navigator.gpu?.requestAdapter();

Deno.test({
  name: "onnxruntime's tensors in WebGPU buffers are read, and made",
  // Where the suite has to be whole, a missing adapter is a failure.
  ignore: !adapter && !Deno.env.get("CI"),
  async fn() {
    if (!adapter) throw new Error("There is no WebGPU adapter: install mesa-vulkan-drivers");
    const device = await adapter.requestDevice();
    const options = { model, codec, lossless: true, inputIds: sample.inputIds };
    const { Tensor } = transformers;
    const record = toTransformersJs(sample, { makeTensor: (type, data, dims) => new Tensor(type, data, dims) });
    const { bytes } = await saveCache(record, options);
    const { pastKeyValues } = await restoreCache(bytes, { model, codec, transformers, device, type: "float16" });
    const { location, dims } = pastKeyValues["past_key_values.29.value"];
    assertEquals({ location, dims }, { location: "gpu-buffer", dims: [1, 3, 256, 64] });
    assertEquals((await saveCache(pastKeyValues, { ...options, device })).bytes, bytes);
    const other = await (await navigator.gpu.requestAdapter())!.requestDevice();
    await assertRejects(() => saveCache(pastKeyValues, { ...options, device: other }), KvzBackendError, "GPU reports");
    // Without the device: through onnxruntime's own download.
    assertEquals((await saveCache(pastKeyValues, options)).bytes, bytes);
    assertEquals(pastKeyValues["past_key_values.29.value"].location, "cpu");
    device.destroy();
    other.destroy();
  },
});

/** Runs the example with lines from a pipe. */
async function chatProcess(lines: readonly string[], args: readonly string[] = []) {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", "examples/transformers-js/main.ts", "--max-tokens", "24", ...args],
    cwd: ROOT,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(lines.join("\n") + "\n"));
  await writer.close();
  const { code, stdout, stderr } = await child.output();
  return { code, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr) };
}

Deno.test("the chat goes on in another process, without prefill", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const file = `${dir}/chat.kvz`;
    const first = await chatProcess([
      "Name the capital of France.",
      `/save ${file} lossless`,
      "And of Italy?",
      "/quit",
    ]);
    assertEquals(first.code, 0, first.err);
    assertStringIncludes(first.out, "capital of France is Paris");
    assertStringIncludes(first.out, "Saved 43 tokens");
    const italy = /> And of Italy\?\n(.*)\n/.exec(first.out)![1];
    assertStringIncludes(italy, "Rome");

    const second = await chatProcess([`/restore ${file}`, "And of Italy?", "/compare lossless And of Spain?"]);
    assertEquals(second.code, 0, second.err);
    assertStringIncludes(second.out, "The capital of France is Paris."); // the history
    assertStringIncludes(second.out, "Restored 43 tokens");
    assertStringIncludes(second.out, "none was computed");
    assertEquals(/> And of Italy\?\n(.*)\n/.exec(second.out)![1], italy);
    assertStringIncludes(second.out, "[15 tokens computed, 43 reused;");
    assert(/All \d+ tokens are the same/.test(second.out), second.out);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("the chat names what it cannot do", async () => {
  const dir = await Deno.makeTempDir();
  try {
    await using other = await openCodec(syntheticProfile());
    await Deno.writeFile(`${dir}/other.kvz`, (await other.compress(syntheticCache(40))).bytes);
    await Deno.writeFile(`${dir}/plain.kvz`, (await codec.compress(sample, { ratio: 32 })).bytes);
    await Deno.writeFile(`${dir}/cut.kvz`, (await codec.compress(sample, { ratio: 32 })).bytes.subarray(0, 50000));
    const lines = ["/save x.kvz", "/restore none.kvz", `/restore ${dir}/other.kvz`, `/restore ${dir}/plain.kvz`];
    const { code, err } = await chatProcess([...lines, `/restore ${dir}/cut.kvz`, "Hi", `/save ${dir}/a.kvz 8`, "/no"]);
    assertEquals(code, 1);
    const messages = [
      "Cannot save: there is no answer yet",
      "Cannot restore none.kvz",
      "KvzMismatchError: Cannot use the file with the model: they are of different models",
      "KvzFormatError: Cannot restore chat",
      "KvzFormatError: Cannot read file",
      "KvzMismatchError: Cannot use ratio 8",
      "Cannot run /no",
    ];
    assertEquals(err.trim().split("\n").map((line, i) => line.includes(messages[i])), messages.map(() => true), err);

    const noModel = await chatProcess(["Hi"], ["--model", `${dir}/nothing`]);
    assertEquals(noModel.code, 1);
    assertStringIncludes(noModel.err, "there is no folder");
    assertStringIncludes(noModel.err, "task model");
    const noProfile = await chatProcess(["Hi"], ["--profile", `${dir}/nothing`]);
    assertStringIncludes(noProfile.err, "Cannot read profile");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
