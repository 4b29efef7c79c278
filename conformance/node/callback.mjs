// Lets the SDK read a failure callback that this crate built and signed. Only the SDK's workflow code
// reads callbacks. Run with: node callback.mjs DIRECTORY
import { readFileSync } from "node:fs";
import { deepStrictEqual } from "node:assert";
import { Client, Receiver } from "@upstash/qstash";
import { serve } from "@upstash/qstash/workflow";

const directory = process.argv[2];
const vector = JSON.parse(readFileSync(`${directory}/callback.json`, "utf8"));

// The SDK has no clock to set.
const RealDate = Date;
globalThis.Date = class extends RealDate {
  constructor(...values) {
    super(...(values.length ? values : [vector.time * 1000]));
  }
  static now() {
    return vector.time * 1000;
  }
};

let read;
const handler = serve(async () => {}, {
  receiver: new Receiver({ currentSigningKey: vector.key, nextSigningKey: "sig_other" }),
  qstashClient: new Client({ token: "unused" }),
  failureFunction: (context, status, message, header) => {
    read = {
      status,
      message,
      header,
      url: context.url,
      workflow_run_id: context.workflowRunId,
      payload: context.rawInitialPayload,
      source_header: context.headers.get("X-Order"),
    };
  },
});
const response = await (handler.handler ?? handler)(
  new Request(vector.url, {
    method: "POST",
    headers: { "upstash-signature": vector.token, "upstash-workflow-is-failure": "true" },
    body: vector.body,
  }),
);
deepStrictEqual([response.status, read], [200, vector.expected]);
console.log("the SDK reads this crate's failure callback as it was built");
