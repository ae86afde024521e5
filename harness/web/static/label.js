"use strict";
// Keys and clicks become votes. A vote is sent again and again until the server has it: there it
// counts once, however often it arrives.

const card = document.getElementById("card");
const notice = document.getElementById("notice");
const said = document.getElementById("said");
const plain = document.getElementById("plain");
const REST = 150; // milliseconds after a new item in which keys and clicks were meant for the last
const LOOK = 2000; // milliseconds after which it is asked again whether there is an item
let sending = false;
let shownAt = 0;
let away = 0; // milliseconds for which the page was hidden
let hiddenAt = null;
let ranking = []; // places, those that are equal together, the best first
let tied = false;
let timer = 0;

const item = () => document.getElementById("item");
const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

function tell(text) {
  notice.textContent = text;
  notice.hidden = !text;
}

async function ask(path, body) {
  for (let wait = 250; ; wait = Math.min(2 * wait, 5000)) {
    let why = "the server does not answer";
    try {
      const answer = await fetch(path, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(20000),
      });
      if (answer.ok || answer.status === 400) return await answer.json();
      if (answer.status === 409) return location.reload();
      why = answer.status === 503 ? (await answer.json()).said : await answer.text();
    } catch {
      // no connection: below
    }
    tell(`Not kept yet: ${why}. Trying again …`);
    await sleep(wait);
  }
}

async function send(path, body) {
  if (sending) return;
  sending = true;
  clearTimeout(timer);
  card.classList.add("sending");
  const answer = await ask(path, body);
  sending = false;
  card.classList.remove("sending");
  if (!answer) return;
  tell(answer.said);
  if (answer.card) show(answer.card);
}

function show(html) {
  const waited = item()?.dataset.wait !== undefined;
  card.innerHTML = html;
  begin();
  if (waited && item().dataset.wait !== undefined) return;
  window.scrollTo(0, 0);
  item().querySelector(".prompt, h1").focus({ preventScroll: true });
  said.textContent = card.querySelector(".top p").textContent;
}

function begin() {
  ranking = [];
  tied = false;
  away = 0;
  hiddenAt = document.hidden ? performance.now() : null;
  shownAt = performance.now();
  card.classList.add("settling");
  setTimeout(() => card.classList.remove("settling"), REST);
  showAsChosen();
  if (item().dataset.wait !== undefined) timer = setTimeout(() => send("/next", {}), LOOK);
}

function vote(choice) {
  const seconds = (performance.now() - shownAt - away) / 1000;
  send("/vote", { item: item().dataset.item, choice, seconds });
}

// Rankings

function place(number) {
  const before = ranking.findIndex((places) => places.includes(number));
  if (before >= 0) {
    ranking[before] = ranking[before].filter((other) => other !== number);
    ranking = ranking.filter((places) => places.length);
  } else if (tied && ranking.length) {
    ranking.at(-1).push(number);
  } else {
    ranking.push([number]);
  }
  tied = false;
  showRanking();
}

function takeBack() {
  ranking.at(-1).pop();
  ranking = ranking.filter((places) => places.length);
  tied = false;
  showRanking();
}

// With one answer left its place is known.
function whole() {
  const buttons = [...item().querySelectorAll("[data-place]")];
  const left = buttons.map((_, number) => number).filter((n) => !ranking.flat().includes(n));
  if (left.length > 1) return null;
  if (!left.length) return ranking;
  return tied ? [...ranking.slice(0, -1), [...ranking.at(-1), left[0]]] : [...ranking, left];
}

function showRanking() {
  const all = whole();
  const places = all ?? ranking;
  let above = 0;
  const words = new Map();
  for (const group of places) {
    for (const number of group) words.set(number, group.length > 1 ? `${above + 1} =` : above + 1);
    above += group.length;
  }
  for (const button of item().querySelectorAll("[data-place]")) {
    const word = words.get(Number(button.dataset.place));
    const own = ranking.flat().includes(Number(button.dataset.place));
    button.querySelector("span").textContent = word === undefined ? "" : `place ${word}`;
    button.classList.toggle("placed", own);
    button.classList.toggle("follows", word !== undefined && !own);
  }
  item().querySelector("[data-act=rank]").disabled = !all;
  const tie = item().querySelector("[data-act=tie]");
  tie.setAttribute("aria-pressed", tied);
  tie.disabled = !ranking.length;
}

// What was pressed

const acts = {
  undo: () => (ranking.length ? takeBack() : send("/undo", {})),
  tie: () => {
    if (!ranking.length) return;
    tied = !tied;
    showRanking();
  },
  rank: () => {
    const all = whole();
    if (all) vote(all.map((places) => places.join("=")).join(">"));
  },
};

function press(button) {
  if (sending || card.classList.contains("settling")) return;
  const { choice, act, place: number } = button.dataset;
  if (choice) vote(choice);
  else if (act) acts[act]();
  else if (number) place(Number(number));
}

card.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  // The second click of two was not meant for the item that the first one has brought.
  const ranks = button?.dataset.place || button?.dataset.act === "tie";
  if (!button || (event.detail > 1 && !ranks)) return;
  press(button);
  if (event.detail && ranks) button.blur(); // so that Enter ends the ranking
});

document.addEventListener("keydown", (event) => {
  const undo = (event.ctrlKey || event.metaKey) && event.key === "z" && !event.shiftKey;
  if (event.repeat || event.altKey || ((event.ctrlKey || event.metaKey) && !undo)) return;
  if (event.target.closest("input, textarea, select")) return;
  if (event.key === "Enter" && event.target.closest("button, a, summary")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "p") return plain.click();
  const digit = event.code.match(/^(?:Digit|Numpad)([1-9])$/)?.[1];
  const buttons = [...item().querySelectorAll("button:not(:disabled)")];
  const meant = buttons.find((button) => {
    const keys = (button.dataset.keys ?? "").split(" ");
    const number = button.dataset.place && String(Number(button.dataset.place) + 1);
    return keys.includes(key) || (digit && (keys.includes(digit) || number === digit));
  });
  if (!meant) return;
  event.preventDefault();
  press(meant);
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) hiddenAt = performance.now();
  else if (hiddenAt !== null) {
    away += performance.now() - hiddenAt;
    hiddenAt = null;
  }
});

window.addEventListener("beforeunload", (event) => {
  if (sending && item().dataset.wait === undefined) event.preventDefault();
});

// A page that comes back from the browser's memory shows what is asked now.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

// As written, or as Markdown

function showAsChosen() {
  const asWritten = plain.getAttribute("aria-pressed") === "true";
  for (const text of card.querySelectorAll(".rendered")) text.hidden = asWritten;
  for (const text of card.querySelectorAll(".written")) text.hidden = !asWritten;
}

plain.addEventListener("click", () => {
  plain.setAttribute("aria-pressed", plain.getAttribute("aria-pressed") !== "true");
  showAsChosen();
});

begin();
