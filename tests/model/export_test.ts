/** The exported model: both graphs agree with each other, with a cache that PyTorch computed, and with the reference. */
import { assert, assertAlmostEquals, assertEquals } from "deno-std/assert";
import { readSafetensorsHeader } from "../../src/adapters/safetensors_file.ts";
import { asUint32, toFloat32 } from "../../src/cache/elements.ts";
import { memorySource } from "../../src/container/bytes.ts";
import { DIM, entries, Graph, KV_HEADS, LAYERS, MODEL, perplexity, runtime, type Step } from "./onnx_graph.ts";

const GRAPHS = ["model", "capture"] as const;

/** Each session takes 2.5 GB: one at a time. */
async function withGraph<T>(name: "model" | "capture", work: (graph: Graph) => Promise<T>): Promise<T> {
  const graph = await Graph.open(name);
  try {
    return await work(graph);
  } finally {
    await graph.close();
  }
}

/** The sample's tokens, and its cache by `key.N` and `value.N`, float32 [heads][tokens][dim]. */
async function readSample(): Promise<{ ids: number[]; cache: Map<string, Float32Array> }> {
  const bytes = await Deno.readFile("samples/smollm2-256.safetensors");
  const { tensors } = await readSafetensorsHeader(memorySource(bytes));
  const at = (name: string): Uint8Array => {
    const { begin, end } = tensors.get(name)!;
    return bytes.slice(begin, end);
  };
  const cache = new Map(
    entries().map(([n, kind]) => [`${kind}.${n}`, toFloat32(at(`past_key_values.${n}.${kind}`), "f16")]),
  );
  return { ids: Array.from(asUint32(at("input_ids"))), cache };
}

function relativeError(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  assertEquals(found.length, expected.length);
  let [error, energy] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    error += (found[i] - expected[i]) ** 2;
    energy += expected[i] ** 2;
  }
  return Math.sqrt(error / energy);
}

// deno-lint-ignore no-explicit-any
async function openTokenizer(): Promise<any> {
  const { AutoTokenizer, env } = runtime("@huggingface/transformers");
  env.localModelPath = "models/";
  env.allowRemoteModels = false;
  return await AutoTokenizer.from_pretrained(MODEL.slice("models/".length));
}

Deno.test("both graphs give the cache that PyTorch computed, and the same logits", async () => {
  const { ids, cache } = await readSample();
  const steps: Step[] = [];
  const perplexities: number[] = [];
  for (const name of GRAPHS) {
    await withGraph(name, async (graph) => {
      const whole = await graph.run(ids);
      for (const [n, kind] of entries()) {
        const found = whole.cache[`${kind}.${n}`];
        assertEquals(found.dims, [1, KV_HEADS, ids.length, DIM]);
        const error = relativeError(found.data, cache.get(`${kind}.${n}`)!);
        // What rounding to fp16 costs is 2e-4.
        assert(error < 5e-4, `${name}: ${kind} of layer ${n} is off by ${error}`);
      }
      // In two parts: the second continues the first.
      const first = await graph.run(ids.slice(0, 200));
      const second = await graph.run(ids.slice(200), first.cache);
      assert(relativeError(second.logits, whole.logits.subarray(200 * 49152)) < 1e-4);
      const last = `value.${LAYERS - 1}`;
      assert(relativeError(second.cache[last].data, whole.cache[last].data) < 1e-4);
      steps.push(whole);
      perplexities.push(await perplexity(graph, ids));
    });
  }
  assert(relativeError(steps[1].logits, steps[0].logits) < 1e-4);
  assertAlmostEquals(perplexities[1], perplexities[0], 1e-3);
});

Deno.test("the tokenizer gives back the tokens of a text, and writes a chat", async () => {
  const { ids } = await readSample();
  const tokenizer = await openTokenizer();
  const text = tokenizer.decode(ids);
  assertEquals(tokenizer.encode(text, { add_special_tokens: false }), ids);
  const chat = tokenizer.apply_chat_template([{ role: "user", content: "Hello" }], {
    tokenize: false,
    add_generation_prompt: true,
  });
  assertEquals(
    chat,
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n" +
      "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
  );
  assertEquals(tokenizer.encode("<|im_start|>user\n12")[0], 1);
  assertEquals(tokenizer.encode("<|im_end|>"), [2]);
});

const texts = Deno.env.get("KVZ_TEXTS");

Deno.test({
  name: "both graphs have the reference perplexity on WikiText-2",
  // A clone does not have the text.
  ignore: texts === undefined,
  async fn() {
    const text = await Deno.readTextFile(`${texts}/wikitext2_raw_test.txt`);
    const tokenizer = await openTokenizer();
    // Python's text files have no CRLF; 8 characters a token is far more than any text here needs.
    const begin = text.replaceAll("\r\n", "\n").slice(0, 2048 * 8);
    const ids = tokenizer.encode(begin, { add_special_tokens: false }).slice(0, 2048);
    for (const name of GRAPHS) {
      const found = await withGraph(name, (graph) => perplexity(graph, ids));
      console.log(`${name}: perplexity ${found.toFixed(4)}`);
      assertAlmostEquals(found, 15.233, 1e-3);
    }
  },
});
