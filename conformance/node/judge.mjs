// The verdicts of @upstash/qstash on every vector, at the vector's own time, and tokens signed by
// jose: node judge.mjs DIRECTORY
import { readFileSync, writeFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { Receiver } from "@upstash/qstash";
import { SignJWT } from "jose";

const directory = process.argv[2];
const vectors = JSON.parse(readFileSync(`${directory}/vectors.json`, "utf8"));

// The SDK has no clock to set.
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
  // The SDK takes text only: bytes that are none are replaced, as by a framework that reads text.
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

const genuine = vectors.filter(({ name }) => name.startsWith("genuine/body: "));
const tokens = [];
for (const vector of genuine) {
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
