// One version of PHP as a server, for tests: server.cjs <version> <root> [<php.ini's name>=<value>]…
// It runs the index.php in each directory of <root>, which also sees the files of paid areas; PHP's
// log goes to stderr.

// Debian's Node.js 18 has both, but not as globals.
globalThis.File ??= require("node:buffer").File;
globalThis.CustomEvent ??= class extends Event {};

const fs = require("node:fs");
const http = require("node:http");
const net = require("node:net");
const path = require("node:path");
const { PHP, loadPHPRuntime, setPhpIniEntries } = require("@php-wasm/universal");
const { WebSocketServer } = require("ws");

const [version, root, ...ini] = process.argv.slice(2);

// PHP's sockets arrive as WebSockets; here they become connections again.
async function proxy() {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  server.on("connection", (socket, request) => {
    const { searchParams } = new URL(request.url, "ws://proxy");
    const there = net.connect(Number(searchParams.get("port")), searchParams.get("host"));
    socket.on("message", (data) => there.write(data));
    socket.on("close", () => there.destroy());
    there.on("data", (data) => socket.send(data));
    there.on("error", () => socket.close());
    there.on("close", () => socket.close());
  });
  await new Promise((resolve) => server.on("listening", resolve));
  const { port } = server.address();
  return (_, host, wanted) => `ws://127.0.0.1:${port}/?host=${host}&port=${wanted}`;
}

async function start() {
  const loader = await require(`@php-wasm/node-${version}`).getPHPLoaderModule();
  const websocket = {
    url: await proxy(),
    subprotocol: "binary",
    decorator: (Socket) => class extends Socket { setSocketOpt() {} },
  };
  const php = new PHP(await loadPHPRuntime(loader, { websocket }));
  const entries = ini.map((entry) => [entry.split("=")[0], entry.slice(entry.indexOf("=") + 1)]);
  await setPhpIniEntries(php, Object.fromEntries(entries));
  return php;
}

function copy(php, here, there) {
  if (!fs.existsSync(here)) return;
  php.mkdir(there);
  for (const entry of fs.readdirSync(here, { withFileTypes: true })) {
    const [from, to] = [path.join(here, entry.name), path.join(there, entry.name)];
    if (entry.isDirectory()) copy(php, from, to);
    else if (!php.fileExists(to)) php.writeFile(to, fs.readFileSync(from));
  }
}

async function answer(php, request, response) {
  const body = Buffer.concat(await request.toArray());
  const asked = new URL(request.url, "http://php").pathname;
  const directory = path.join("/", asked.replace(/\/index\.php(\/.*)?$/, "/"));
  php.mkdir(directory);
  copy(php, path.join(root, directory, "../../private/paid"), path.join(directory, "../../private/paid"));
  for (const name of ["index.php", "tipjar.json", "paidarea.json"]) {
    const [here, there] = [path.join(root, directory, name), path.join(directory, name)];
    if (fs.existsSync(here)) php.writeFile(there, fs.readFileSync(here));
    else if (php.fileExists(there)) php.unlink(there);
  }
  const { method, headers, url } = request;
  const scriptPath = path.join(directory, "index.php");
  const $_SERVER = { SCRIPT_NAME: scriptPath };
  const said = await php.run({ scriptPath, method, headers, body, relativeUri: url, $_SERVER });
  process.stderr.write(said.errors);
  response.writeHead(said.httpStatusCode, said.headers);
  response.end(said.bytes);
}

async function main() {
  const php = await start();
  let turn = Promise.resolve(); // one request after another, as there is one PHP
  const server = http.createServer((request, response) => {
    turn = turn.then(() => answer(php, request, response)).catch((error) => {
      process.stderr.write(`Fatal: ${error.stack}\n`);
      response.destroy();
    });
  });
  server.listen(0, "127.0.0.1", () => console.log(server.address().port));
}

main();
