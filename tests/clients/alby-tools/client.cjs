// alby-tools as a program, for tests; it speaks like l402-requests/client.py. It keeps a token for each
// address, and never pays there again; where one buys more than once, it keeps no token.
const { fetchWithL402, l402 } = require("alby-tools");

const lines = require("readline").createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const hear = async () => JSON.parse((await lines.next()).value ?? "null");
const say = (what) => console.log(JSON.stringify(what));

const webln = {
  async enable() {},
  async sendPayment(invoice) {
    say({ pay: invoice });
    return hear();
  },
};

async function main() {
  let kept = new l402.storage.MemoryStorage();
  for (let request; (request = await hear()); ) {
    if (request.forget) {
      kept = new l402.storage.MemoryStorage();
      continue;
    }
    const { method, url, body } = request;
    const headers = body ? { "Content-Type": "application/json" } : {};
    const store = url.endsWith("/time") ? new l402.storage.NoStorage() : kept;
    try {
      const response = await fetchWithL402(
        url,
        { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(20000) },
        { webln, store },
      );
      say({ status: response.status, body: await response.json() });
    } catch (error) {
      say({ error: error.message });
    }
  }
}

main();
