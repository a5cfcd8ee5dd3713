// Copy buttons; without script they stay hidden, and the text can be selected.
if (navigator.clipboard) document.documentElement.classList.add("can-copy");
// What a button shows when it has copied, for those who hear the page.
const said = document.createElement("p");
said.className = "visually-hidden";
said.setAttribute("role", "status");
document.querySelector("footer").append(said);
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copies]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copies);
  const label = button.dataset.label ??= button.textContent;
  await navigator.clipboard.writeText(source.value ?? source.textContent);
  said.textContent = button.textContent = "Copied";
  setTimeout(() => { button.textContent = label; said.textContent = ""; }, 2000);
});

// The button that prints the page, which every browser can do by itself.
for (const button of document.querySelectorAll("button[data-prints]")) {
  button.hidden = false;
  button.addEventListener("click", () => window.print());
}

// The button of a wallet that lives in the browser, if there is one (WebLN); some come late. The page
// sees by itself that it is paid.
function offerWallet() {
  for (const button of document.querySelectorAll("button[data-pays]")) button.hidden = !window.webln;
}
offerWallet();
window.addEventListener("load", offerWallet);
document.addEventListener("webln:ready", offerWallet);
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-pays]");
  if (!button) return;
  button.disabled = true;
  try {
    await window.webln.enable();
    await window.webln.sendPayment(document.getElementById(button.dataset.pays).textContent);
  } catch {
    // Why, the wallet has said itself; here is what to do.
    const help = document.getElementById("failed");
    if (help) help.open = true;
  } finally {
    button.disabled = false;
  }
});

// A pay page of the gate asks whether it is paid, at once as soon as somebody comes back to it or to
// the net; without script the browser loads it anew. Another invoice, or what is wrong, it shows.
const unpaid = document.querySelector("[data-looks]");
async function look() {
  if (document.hidden) return;
  const { looks, bolt11, then } = unpaid.dataset;
  const answer = await fetch(looks, { redirect: "manual" }).catch(() => null);
  if (!answer) return;
  if (answer.type === "opaqueredirect") location.replace(then);
  else if (answer.status === 403) location.replace(looks);
  else if (answer.status === 402 && !(await answer.text()).includes(bolt11)) location.reload();
}
if (unpaid) {
  setInterval(look, unpaid.dataset.every * 1000);
  document.addEventListener("visibilitychange", look);
  window.addEventListener("online", look);
}

// The time left to pay. The server counts it, as a visitor's clock may be wrong; between its answers
// it goes on here, and is corrected when it is off by more than an answer's way.
let ends = 0;
function count() {
  const shown = document.querySelector("[data-left]");
  if (!shown) return;
  if (shown.dataset.left !== shown.counted) {
    const told = Date.now() + shown.dataset.left * 1000;
    if (Math.abs(told - ends) > 2000) ends = told;
    shown.counted = shown.dataset.left;
  }
  const left = Math.max(0, Math.round((ends - Date.now()) / 1000));
  shown.textContent = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
}
count();
setInterval(count, 1000);
document.addEventListener("htmx:after:swap", count);

// Times in the visitor's zone, in the server's words; UTC is in their title.
function tellTimes() {
  for (const shown of document.querySelectorAll("time[datetime]")) {
    const at = new Date(shown.dateTime);
    const here = new Date(at - at.getTimezoneOffset() * 60_000);
    const zone = at.toLocaleString("en-GB", { timeZoneName: "short" }).split(" ").pop();
    const minute = (date) => date.toISOString().slice(0, 16).replace("T", " ");
    shown.title = `${minute(at)} UTC`;
    if (shown.textContent === shown.title) shown.textContent = `${minute(here)} ${zone}`;
    else if (/^\d+ \w+ \d{4}$/.test(shown.textContent)) {
      shown.textContent = here.toUTCString().slice(5, 16).replace(/^0/, "");
    }
  }
}
tellTimes();
document.addEventListener("htmx:after:swap", tellTimes);

// An order's page that cannot ask how it stands says so, and goes on asking.
const noConnection = document.getElementById("no-connection");
function tellOfConnection(isLost) {
  if (!noConnection || noConnection.hidden !== isLost) return;
  noConnection.hidden = !isLost;
  noConnection.textContent = isLost ? noConnection.dataset.text : "";
}
document.addEventListener("htmx:error", () => tellOfConnection(true));
document.addEventListener("htmx:after:swap", ({ detail }) => {
  tellOfConnection(detail.ctx.response.status >= 400);  // which swaps nothing
});

// A file that is dropped on its form is chosen and sent; one that is too large is not sent at all.
const dropped = (event) => event.target.closest?.("form.drop");
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    const form = dropped(event);
    if (!form) return;
    event.preventDefault();
    form.classList.toggle("over", name === "dragover");
    if (name !== "drop" || event.dataTransfer.files.length !== 1) return;
    form.elements.file.files = event.dataTransfer.files;
    form.elements.file.dispatchEvent(new Event("change", { bubbles: true }));
    form.requestSubmit();
  });
}
document.addEventListener("change", (event) => {
  const form = dropped(event);
  if (!form || event.target.type !== "file") return;
  const isTooLarge = event.target.files[0]?.size > form.dataset.bytes;
  event.target.setCustomValidity(isTooLarge ? form.dataset.tooLarge : "");
});
document.addEventListener("submit", (event) => {
  const told = dropped(event)?.querySelector(".sending");
  if (told) told.textContent = told.dataset.text;
});
