// lightning-tools as a program, for tests; it speaks like l402-requests/client.py.
//
// It keeps no tokens: its user does, and passes each back in one of two ways. With a token as an
// option it never pays; for a request that may pay ("buys"), the token is a header.
const { fetchWithL402 } = require("@getalby/lightning-tools/402/l402");

const lines = require("readline").createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const hear = async () => JSON.parse((await lines.next()).value ?? "null");
const say = (what) => console.log(JSON.stringify(what));

const wallet = {
  async payInvoice({ invoice }) {
    say({ pay: invoice });
    return hear();
  },
};

async function main() {
  let credentials;
  for (let request; (request = await hear()); ) {
    if (request.forget) {
      credentials = undefined;
      continue;
    }
    const { method, url, body, buys } = request;
    const headers = {};
    if (body) headers["Content-Type"] = "application/json";
    if (credentials && buys) headers[credentials.header] = credentials.value;
    try {
      const response = await fetchWithL402(
        url,
        { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(20000) },
        { wallet, credentials: buys ? undefined : credentials },
      );
      credentials = response.payment?.credentials ?? credentials;
      say({ status: response.status, body: await response.json() });
    } catch (error) {
      say({ error: error.message });
    }
  }
}

main();
