// A receiver like examples/axum.rs, on Node with @upstash/qstash.
// Usage: node receiver.mjs
import { createServer } from "node:http";
import { Receiver } from "@upstash/qstash";

const receiver = new Receiver({
  currentSigningKey: process.env.QSTASH_CURRENT_SIGNING_KEY,
  nextSigningKey: process.env.QSTASH_NEXT_SIGNING_KEY,
  devMode: false,
});
const url = "http://localhost:3000/webhook";

const server = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks).toString();
  let status = 200;
  try {
    await receiver.verify({ signature: request.headers["upstash-signature"], body, url });
  } catch {
    status = 401;
  }
  response.writeHead(status, { "content-type": "application/json" });
  response.end('{"message":"ok"}');
});
server.listen(0, "127.0.0.1", () => {
  const { address, port } = server.address();
  console.log(`listening on ${address}:${port}, for messages published to ${url}`);
});
