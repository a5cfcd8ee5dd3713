// lightning-tools' Lightning Addresses as a wallet, for tests; it speaks like lnurl/client.py.
//
// It only knows https and port 443, so the test passes the host and the address that stands in for it.
const { LightningAddress } = require("@getalby/lightning-tools");

const [host, instead] = process.argv.slice(2);
const fetched = globalThis.fetch;
globalThis.fetch = (url) => fetched(String(url).replace(`https://${host}/`, `${instead}/`));

const lines = require("readline").createInterface({ input: process.stdin });
let invoice;

async function answer({ address, satoshi, comment }) {
  if (!address) return { paid: await invoice.isPaid(), preimage: invoice.preimage };
  const known = new LightningAddress(address, { proxy: false });
  await known.fetch();
  invoice = await known.requestInvoice({ satoshi, comment });
  const { min, max, identifier, metadataHash, commentAllowed } = known.lnurlpData;
  return {
    ...{ min, max, identifier, metadataHash, commentAllowed },
    pr: invoice.paymentRequest,
    satoshi: invoice.satoshi,
    action: invoice.successAction,
  };
}

async function main() {
  for await (const line of lines) {
    const said = await answer(JSON.parse(line)).catch((error) => ({ error: error.message }));
    console.log(JSON.stringify(said));
  }
}

main();
