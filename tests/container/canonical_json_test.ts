import { assertEquals, assertThrows } from "deno-std/assert";
import fc from "fast-check";
import { canonicalJson, type JsonValue, MAX_JSON_DEPTH } from "../../src/container/canonical_json.ts";

Deno.test("canonicalJson: the example of RFC 8785, 3.2.3", () => {
  const value = {
    "\u20ac": "Euro Sign",
    "\r": "Carriage Return",
    "\ufb33": "Hebrew Letter Dalet With Dagesh",
    "1": "One",
    "\ud83d\ude00": "Emoji: Grinning Face",
    "\u0080": "Control",
    "\u00f6": "Latin Small Letter O With Diaeresis",
  };
  assertEquals(
    canonicalJson(value),
    '{"\\r":"Carriage Return","1":"One","\u0080":"Control","ö":"Latin Small Letter O With Diaeresis",' +
      '"€":"Euro Sign","😀":"Emoji: Grinning Face","\ufb33":"Hebrew Letter Dalet With Dagesh"}',
  );
  assertEquals(canonicalJson([333333333.33333329, 1E30, 4.50, 2e-3, -0]), "[333333333.3333333,1e+30,4.5,0.002,0]");
});

Deno.test("canonicalJson: any JSON value survives, and its text does not depend on the order of keys", () => {
  fc.assert(
    fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
      let text: string;
      try {
        text = canonicalJson(value as JsonValue);
      } catch (error) {
        // fast-check makes lone surrogates, which have no UTF-8.
        if (error instanceof TypeError && error.message.includes("lone surrogate")) return;
        throw error;
      }
      assertEquals(JSON.parse(text), JSON.parse(JSON.stringify(value)));
      assertEquals(canonicalJson(JSON.parse(text)), text);
      const reversed = (v: JsonValue): JsonValue =>
        Array.isArray(v)
          ? v.map(reversed)
          : typeof v === "object" && v !== null
          ? Object.fromEntries(Object.entries(v).reverse().map(([k, w]) => [k, reversed(w as JsonValue)]))
          : v;
      assertEquals(canonicalJson(reversed(JSON.parse(text))), text);
    }),
  );
});

Deno.test("canonicalJson: leaves out undefined members and refuses what is not JSON", () => {
  assertEquals(canonicalJson({ a: undefined, b: 1 }), '{"b":1}');
  const bad: unknown[] = [NaN, Infinity, [undefined], () => 1, new Uint8Array(2), new Map(), 1n, "\ud800", {
    "\udc00": 1,
  }];
  for (const value of bad) assertThrows(() => canonicalJson(value as JsonValue), TypeError, "Cannot write JSON");
  let deep: JsonValue = 1;
  for (let i = 0; i < MAX_JSON_DEPTH; i++) deep = [deep];
  assertEquals(canonicalJson(deep).length, 2 * MAX_JSON_DEPTH + 1);
  assertThrows(() => canonicalJson([deep]), TypeError, "nested deeper than 64 levels");
});
