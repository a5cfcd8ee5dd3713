// lsat-js as a program, for tests; it speaks like l402-requests/client.py. It reads challenges and
// writes tokens; its user sends them, and keeps one for the host.
const { Lsat } = require("lsat-js");

const lines = require("readline").createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const hear = async () => JSON.parse((await lines.next()).value ?? "null");
const say = (what) => console.log(JSON.stringify(what));

let token;

function send({ method, url, body }) {
  const headers = {};
  if (body) headers["Content-Type"] = "application/json";
  if (token) headers.Authorization = token;
  const signal = AbortSignal.timeout(20000);
  return fetch(url, { method, headers, body: body && JSON.stringify(body), signal });
}

async function answer(request) {
  const response = await send(request);
  if (response.status !== 402) return response;
  const lsat = Lsat.fromHeader(response.headers.get("WWW-Authenticate"));
  say({ pay: lsat.invoice });
  lsat.setPreimage((await hear()).preimage);
  token = lsat.toToken();
  return send(request);
}

async function main() {
  for (let request; (request = await hear()); ) {
    if (request.forget) {
      token = undefined;
      continue;
    }
    try {
      const response = await answer(request);
      say({ status: response.status, body: await response.json() });
    } catch (error) {
      say({ error: error.message });
    }
  }
}

main();
