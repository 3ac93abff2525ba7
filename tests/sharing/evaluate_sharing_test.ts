import { assert, assertEquals, assertRejects } from "deno-std/assert";
import { openCodec } from "../../src/codec/open.ts";
import { KvzUnsupportedError } from "../../src/errors.ts";
import { AgreementMeter } from "../../src/eval/agreement.ts";
import { evaluateText } from "../../src/eval/evaluate.ts";
import { type Method, recipeMethod } from "../../src/eval/method.ts";
import type { EvalPoint } from "../../src/eval/point.ts";
import { TOY_VOCABULARY, toyIds, toyModel } from "../eval/toy_session.ts";

const [CONTEXT, CONTINUATION] = [40, 12];
const ids = toyIds(CONTEXT + CONTINUATION + 1);

async function pointsOf(methods: readonly Method[], onFailure?: (method: Method, error: Error) => void) {
  const points: EvalPoint[] = [];
  await evaluateText(toyModel({ bias: true }), "toy", ids, {
    ...{ context: CONTEXT, continuation: CONTINUATION, dtype: "f32", methods },
    onPoint: (point) => void points.push(point),
    ...(onFailure ? { onFailure } : {}),
  });
  return points;
}

Deno.test("kvsharer is measured on a model that shares from the first token on", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  const shared = recipeMethod(codec, "kvsharer", { map: "1:0+2:0" });
  const [{ agreement }] = await pointsOf([shared]);
  const model = toyModel({ bias: true });
  const before = (await model.forward(ids.subarray(0, CONTEXT + CONTINUATION))).logits;
  const after = (await model.forward(ids.subarray(0, CONTEXT + CONTINUATION), { layerSource: [0, 0, 0] })).logits;
  const meter = new AgreementMeter(TOY_VOCABULARY);
  const rows = (logits: Float32Array) => logits.subarray(CONTEXT * TOY_VOCABULARY);
  meter.add(rows(before), rows(after), ids.subarray(CONTEXT + 1));
  assert(agreement.kl > 1e-3);
  assert(Math.abs(agreement.kl - meter.result().kl) < 1e-6 * agreement.kl, `${agreement.kl} ${meter.result().kl}`);
});

Deno.test("a method that cannot do a cache is told of, and the others go on", async () => {
  await using codec = await openCodec(null, { threads: 1 });
  // Heads of the toy model are no whole blocks of q8_0.
  const methods = [recipeMethod(codec, "q8_0", {}), recipeMethod(codec, "lossless", {})];
  const failures: string[] = [];
  const points = await pointsOf(methods, (method, error) => void failures.push(`${method.name}: ${error.message}`));
  assertEquals(points.map(({ method }) => method), ["lossless"]);
  assertEquals(failures.length, 1);
  assert(failures[0].startsWith("q8_0: Cannot use recipe q8_0"), failures[0]);
  await assertRejects(() => pointsOf(methods), KvzUnsupportedError, "Cannot use recipe q8_0");
  // What is no word of a method's about a cache ends the evaluation.
  const broken: Method = { ...methods[1], run: () => Promise.reject(new TypeError("x is undefined")) };
  await assertRejects(() => pointsOf([broken], () => {}), TypeError, "x is undefined");
});
