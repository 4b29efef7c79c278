// Writes the verdict of @upstash/qstash on each vector, at its time, and tokens signed by jose.
// Usage: node judge.mjs DIRECTORY
import { readFileSync, writeFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { Receiver } from "@upstash/qstash";
import { SignJWT } from "jose";

const directory = process.argv[2];
const vectors = JSON.parse(readFileSync(`${directory}/vectors.json`, "utf8"));

// The SDK's clock can't be set, so replace the global one.
const RealDate = Date;
let now = 0;
globalThis.Date = class extends RealDate {
  constructor(...values) {
    super(...(values.length ? values : [now * 1000]));
  }
  static now() {
    return now * 1000;
  }
};

const verdicts = {};
for (const vector of vectors) {
  now = vector.time;
  const receiver = new Receiver({
    currentSigningKey: vector.current_key,
    nextSigningKey: vector.next_key,
    devMode: false,
  });
  // The SDK only takes text, so replace invalid UTF-8, as frameworks do.
  const body = Buffer.from(vector.body, "hex").toString("utf8");
  const verdict = receiver.verify({
    signature: vector.token,
    body,
    url: vector.url,
    clockTolerance: vector.tolerance,
  });
  verdicts[vector.name] = await verdict.then(() => true, () => false);
}
writeFileSync(`${directory}/node-verdicts.json`, JSON.stringify(verdicts));

const valid = vectors.filter(({ name }) => name.startsWith("valid/body: "));
const tokens = [];
for (const vector of valid) {
  const hash = createHash("sha256").update(Buffer.from(vector.body, "hex")).digest("base64url");
  const token = await new SignJWT({ body: hash, aud: "" })
    .setProtectedHeader({ alg: "HS256", typ: "JWT" })
    .setIssuer("Upstash")
    .setSubject(vector.url)
    .setIssuedAt(vector.time)
    .setNotBefore(vector.time)
    .setExpirationTime(vector.time + 300)
    .setJti("jwt_jose")
    .sign(new TextEncoder().encode(vector.next_key));
  tokens.push({ ...vector, token });
}
writeFileSync(`${directory}/node-tokens.json`, JSON.stringify(tokens));
