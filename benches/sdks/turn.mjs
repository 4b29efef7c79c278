// One turn of scripts/bench-sdks, for @upstash/qstash.
// Usage: node turn.mjs FILE
import { readFileSync } from "node:fs";
import { Receiver } from "@upstash/qstash";

const deliveries = JSON.parse(readFileSync(process.argv[2], "utf8"));
const RealDate = Date;
const now = deliveries[0].time * 1000;
globalThis.Date = class extends RealDate {
  constructor(...values) {
    super(...(values.length ? values : [now]));
  }
  static now() {
    return now;
  }
};

for (const { token, body, url, current, next } of deliveries) {
  const receiver = new Receiver({ currentSigningKey: current, nextSigningKey: next, devMode: false });
  const verify = () => receiver.verify({ signature: token, body, url });
  for (let warm = performance.now(); performance.now() - warm < 200; ) await verify();
  let count = 0;
  const start = performance.now();
  while (performance.now() - start < 300) {
    await verify();
    count += 1;
  }
  console.log(body.length, Math.round(((performance.now() - start) * 1e6) / count));
}
