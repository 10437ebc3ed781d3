// The script of the page: how long ago, refreshing the parts marked live, copying commands, and the
// chat box. Text is put on the page with `textContent` only; the page's policy forbids the rest.

const REFRESH_MS = 3_000;
const TICK_MS = 1_000;

// --- How long ago ---------------------------------------------------------------------------

function ago(ms) {
  const seconds = Math.max(0, Math.round((Date.now() - ms) / 1_000));
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 48 * 3_600) return `${Math.floor(seconds / 3_600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

// What is due lies ahead, until it is over. In whole units, rounded down, like `ago`.
function due(ms) {
  const seconds = Math.floor((ms - Date.now()) / 1_000);
  if (seconds < 0) return ago(ms);
  if (seconds < 60) return `in ${seconds} s`;
  if (seconds < 3_600) return `in ${Math.floor(seconds / 60)} min`;
  if (seconds < 48 * 3_600) return `in ${Math.floor(seconds / 3_600)} h`;
  return `in ${Math.floor(seconds / 86_400)} d`;
}

function showAges(root) {
  for (const time of root.querySelectorAll("time[data-ms], time[data-due-ms]")) {
    const { ms, dueMs } = time.dataset;
    const text = ms === undefined ? due(Number(dueMs)) : ago(Number(ms));
    if (time.textContent !== text) time.textContent = text;
  }
}

// --- Live parts -----------------------------------------------------------------------------

const stale = document.getElementById("stale");
let refreshing = false;

// The page as it is now. As a document, not as text: nothing here turns text into markup.
function fetchPage() {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", location.pathname);
    request.responseType = "document";
    request.timeout = 10_000;
    request.onload = () =>
      request.status === 200 && request.response ? resolve(request.response) : reject();
    request.onerror = reject;
    request.ontimeout = reject;
    request.send();
  });
}

// A part in which somebody selects text, has the focus or opened something is left alone.
function inUse(part) {
  const selection = getSelection();
  const selects = selection && !selection.isCollapsed && selection.containsNode(part, true);
  return selects || part.contains(document.activeElement) || part.querySelector("details[open]");
}

async function refresh() {
  if (refreshing || document.hidden) return;
  refreshing = true;
  try {
    const fresh = await fetchPage();
    for (const part of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(part.id);
      if (!next || inUse(part)) continue;
      const adopted = document.importNode(next, true);
      showAges(adopted);
      if (!part.isEqualNode(adopted)) part.replaceWith(adopted);
    }
    refreshModels(fresh);
    offerCopying();
    stale.hidden = true;
  } catch {
    stale.hidden = false;
  } finally {
    refreshing = false;
  }
}

// --- Copying --------------------------------------------------------------------------------

function offerCopying() {
  if (!navigator.clipboard) return;
  for (const button of document.querySelectorAll("[data-copy][hidden]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const command = button.closest("figure").querySelector("code").textContent;
      try {
        await navigator.clipboard.writeText(command);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Select the text and copy it";
      }
    });
  }
}

// --- Chat -----------------------------------------------------------------------------------

const form = document.getElementById("chat-form");
const log = document.getElementById("chat-log");
const field = document.getElementById("chat-text");
const model = document.getElementById("chat-model");
const send = document.getElementById("chat-send");
const stop = document.getElementById("chat-stop");

// The conversation, as it is sent along with the next message.
let messages = [];
let running = null;

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text ?? "";
  return made;
}

function addTurn(who, text) {
  log.querySelector("[data-hint]")?.remove();
  const turn = element("div", `turn ${who}`);
  turn.append(element("span", "hidden", who === "user" ? "You: " : "Answer: "));
  const said = element("span", "said", text);
  turn.append(said);
  log.append(turn);
  log.scrollTop = log.scrollHeight;
  return { turn, said };
}

function setRunning(controller) {
  running = controller;
  send.disabled = controller !== null || model.options.length === 0;
  stop.hidden = controller === null;
  log.setAttribute("aria-busy", String(controller !== null));
}

// Models come and go with providers; what is chosen stays chosen.
function refreshModels(fresh) {
  const next = fresh.getElementById("chat-model");
  if (!model || !next) return;
  const names = (select) => Array.from(select.options, (option) => option.value);
  if (names(model).join("\n") !== names(next).join("\n") && document.activeElement !== model) {
    const chosen = model.value;
    model.replaceChildren(...names(next).map((name) => new Option(name, name)));
    if (names(next).includes(chosen)) model.value = chosen;
  }
  if (running === null) setRunning(null);
}

// The events of an answer as they arrive: blocks of `data:` lines with an empty line between.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n").filter((line) => line.startsWith("data:"));
      if (lines.length > 0) yield JSON.parse(lines.map((line) => line.slice(5)).join("\n"));
    }
  }
}

function showWrong(turn, message) {
  turn.append(element("p", "about wrong", message));
}

function showDone(turn, done) {
  const about = element("p", "about");
  const parts = [done.cost, done.tokens, done.speed, done.note].filter(Boolean);
  about.append(`${parts.join(" · ")} · `);
  const receipt = element("a", "", "receipt");
  receipt.href = `/requests/${encodeURIComponent(done.request_id)}`;
  about.append(receipt);
  turn.append(about);
}

async function ask(text) {
  addTurn("user", text);
  const before = messages;
  const asked = [...before, { role: "user", content: text }];
  const { turn, said } = addTurn("assistant", "");
  turn.classList.add("busy");
  const controller = new AbortController();
  setRunning(controller);
  let finished = false;
  try {
    const response = await fetch("/ui/chat", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: model.value, messages: asked }),
      signal: controller.signal,
    });
    if (!response.ok) {
      const body = await response.text();
      throw new Error(problemOf(body) || `The gateway answered ${response.status}.`);
    }
    for await (const event of events(response)) {
      const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
      // Many models begin with a space.
      if (event.type === "text") said.textContent = (said.textContent + event.text).trimStart();
      if (event.type === "failed") throw new Error(event.message);
      if (event.type === "done") {
        finished = true;
        showDone(turn, event);
      }
      if (atEnd) log.scrollTop = log.scrollHeight;
    }
    if (!finished) throw new Error("The answer broke off.");
  } catch (error) {
    const stopped = controller.signal.aborted;
    showWrong(turn, stopped ? "Stopped. What was delivered is paid." : error.message);
  } finally {
    turn.classList.remove("busy");
    // The next message goes on from what was said, also after a stop, unless a new chat began.
    if (said.textContent && messages === before) {
      messages = [...asked, { role: "assistant", content: said.textContent }];
    }
    if (running === controller) setRunning(null);
    log.scrollTop = log.scrollHeight;
    refresh();
  }
}

function problemOf(body) {
  try {
    return JSON.parse(body).message;
  } catch {
    return body.slice(0, 400);
  }
}

function startChat() {
  form.hidden = false;
  setRunning(null);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = field.value.trim();
    if (running || text === "" || model.options.length === 0) return;
    field.value = "";
    ask(text);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  stop.addEventListener("click", () => running?.abort());
  document.getElementById("chat-new").addEventListener("click", () => {
    running?.abort();
    messages = [];
    log.replaceChildren(element("p", "empty", "A new chat: nothing said before is sent along."));
    log.firstChild.dataset.hint = "";
    field.focus();
  });
}

showAges(document);
offerCopying();
if (form) startChat();
setInterval(() => showAges(document), TICK_MS);
setInterval(refresh, REFRESH_MS);
document.addEventListener("visibilitychange", refresh);
