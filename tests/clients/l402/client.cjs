// npm's l402 as a program, for tests; it speaks like l402-requests/client.py. It keeps one token for
// each host: by default it keeps one for each address and method, and could not look at a hosting.
const axios = require("axios");
const { MemoryTokenStore, setupL402Interceptor } = require("l402");

const lines = require("readline").createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const hear = async () => JSON.parse((await lines.next()).value ?? "null");
const say = (what) => console.log(JSON.stringify(what));

const wallet = {
  async payInvoice(invoice) {
    say({ pay: invoice });
    return { success: true, ...(await hear()) };
  },
};

function fresh() {
  const client = axios.create({ timeout: 20000 });
  setupL402Interceptor(client, wallet, new MemoryTokenStore({ keyMode: "hostname-only" }));
  return client;
}

async function main() {
  let client = fresh();
  for (let request; (request = await hear()); ) {
    if (request.forget) {
      client = fresh();
      continue;
    }
    const { method, url, body } = request;
    try {
      const { status, data } = await client.request({ method, url, data: body });
      say({ status, body: data });
    } catch (error) {
      say(error.response ? { status: error.response.status, body: error.response.data } : { error: error.message });
    }
  }
}

main();
