"use strict";
// What is typed goes to the policy; its words are shown as they come, as text and nothing else.

const turns = document.getElementById("turns");
const notice = document.getElementById("notice");
const words = document.getElementById("words");
const sendButton = document.getElementById("send");
const stopButton = document.getElementById("stop");
let speaking = false;

function tell(text) {
  notice.textContent = text;
  notice.hidden = !text;
}

function post(path, body) {
  return fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
}

function add(parent, tag, kind) {
  const node = document.createElement(tag);
  node.className = kind;
  parent.append(node);
  return node;
}

function toEnd() {
  window.scrollTo(0, document.body.scrollHeight);
}

// A place for the answer that comes: below a question, or beside the answer that is there.
function place(path, question) {
  document.querySelector(".after")?.remove();
  if (question !== undefined) {
    add(add(turns, "section", "prompt"), "pre", "plain").textContent = question;
  }
  let answers = turns.querySelector(".answers:last-of-type");
  if (question !== undefined) answers = add(turns, "div", "answers");
  if (path === "/again") answers.replaceChildren();
  if (path === "/other") answers.classList.add("pair");
  const box = add(add(answers, "section", "answer"), "div", "text");
  box.dir = "auto";
  return add(box, "pre", "plain");
}

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const each of parts) yield JSON.parse(each.slice("data: ".length));
  }
}

function setSpeaking(on) {
  speaking = on;
  turns.classList.toggle("speaking", on);
  sendButton.hidden = on;
  stopButton.hidden = !on;
}

async function speak(path, body) {
  if (speaking) return;
  setSpeaking(true);
  tell("");
  try {
    const answer = await post(path, body);
    if (!answer.ok) return tell((await answer.json()).said);
    const said = place(path, body.text);
    toEnd();
    for await (const event of events(answer)) {
      if (event.piece) said.textContent += event.piece;
      if (event.said) tell(event.said);
      if (event.turns !== undefined) turns.innerHTML = event.turns;
      toEnd();
    }
  } catch {
    tell("The server does not answer.");
  } finally {
    setSpeaking(false);
    words.focus();
  }
}

async function act(path, body) {
  if (speaking) return;
  try {
    const answer = await (await post(path, body)).json();
    const held = document.activeElement?.dataset.vote;
    if (answer.turns !== undefined) turns.innerHTML = answer.turns;
    if (held) turns.querySelector(`[data-vote=${held}]`)?.focus(); // the new button of that name
    tell(answer.said);
  } catch {
    tell("The server does not answer.");
  }
}

document.getElementById("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = words.value;
  if (speaking || !text.trim()) return;
  words.value = "";
  speak("/say", { text });
});

words.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  document.getElementById("ask").requestSubmit();
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && speaking) post("/stop", {});
});
stopButton.addEventListener("click", () => post("/stop", {}));

turns.addEventListener("click", (event) => {
  const { vote, speak: path, act: what } = event.target.closest("button")?.dataset ?? {};
  if (vote) act("/vote", { choice: vote });
  else if (path) speak(path, {});
  else if (what) act(what, {});
});

document.getElementById("reset").addEventListener("click", () => act("/reset", {}));
document.getElementById("system").addEventListener("submit", (event) => {
  event.preventDefault();
  act("/system", { text: document.getElementById("instructions").value });
});
