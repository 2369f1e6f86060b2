// The page: submit without a reload, choose a place, list this browser's submissions. Without
// JavaScript the page works by plain posts. Cards and forms come from the server's HTML.
import * as cities from "./cities.js";
import * as distance from "./distance.js";
import * as map from "./map.js";
import { Follower } from "./follower.js";
import { at, draw, late, merge } from "./progress.js";
import { showWeather } from "./weather.js";

const keep = 50; // submissions
const answerWithin = 15e3; // ms; the server itself gives up after five seconds
const hour = 3600e3; // how long the server knows of progress
const storeName = "milepost.submissions";

const root = document.documentElement;
const news = document.getElementById("news");
let asking = new AbortController(); // of the question for a place
let blank = null; // a card without any step but the first, to be cloned
const cards = new Map(); // event ID -> {card, steps}
const follower = new Follower(onStep, (id) => late(cards.get(id).card), onUnknown);

root.classList.add("js");
distance.start();
distance.onUnits(() => {
  for (const out of document.querySelectorAll(".miles[data-miles]")) out.textContent = distance.inUnits(Number(out.dataset.miles));
});
if (document.getElementById("form")) startForm();
else startWay();
share();

// ---- the page of one submission, or of a shared place

function startWay() {
  const card = document.querySelector(".card.alone");
  const shared = new URLSearchParams(location.search).get("at");
  map.start();
  if (!card) {
    if (shared && map.office) look({ at: shared });
    return;
  }
  document.getElementById("reload")?.setAttribute("hidden", "");
  cards.set(card.dataset.id, { card, steps: [] });
  const own = load().find((e) => e.id === card.dataset.id); // this browser knows the place
  if (own) look(placeOf(own));
  else ring();
  draw(card, []);
  follower.follow(card.dataset.id);
}

// ring shows the distance without the place, once it is known.
function ring(miles = null) {
  const text = document.querySelector("#length b")?.textContent;
  if (miles === null && text) miles = Number(text.replaceAll(",", ""));
  if (miles === null) return;
  distance.sign(miles, "The place");
  map.show(null, miles);
}

// ---- the page with the form

function startForm() {
  const taken = document.querySelector("#now .card");
  taken?.remove();
  blank = taken ?? document.getElementById("card").content.firstElementChild;
  const old = load().reverse().filter((entry) => add(entry));
  follower.check(old.map((entry) => entry.id));
  map.start(fill);
  if (taken) accepted(taken);
  else preview();
  showList();
  document.getElementById("forget").addEventListener("click", forget);
  addEventListener("pageshow", () => document.getElementById("form").lat.value && preview()); // filled again after Back
  startEntry();
  if (document.getElementById("notice")) document.getElementById("notice").focus();
}

// startEntry adds the listeners to the form, each time the server has sent a new one.
function startEntry() {
  const form = document.getElementById("form");
  form.addEventListener("submit", submit);
  document.getElementById("samples").addEventListener("submit", (event) => {
    event.preventDefault();
    fill(...event.submitter.value.split(","));
  });
  form.addEventListener("input", (event) => {
    if (event.target.name !== "email") preview(event.inputType === "insertFromPaste");
  });
  for (const field of [form.lat, form.long]) field.addEventListener("change", () => preview(true));
  cities.start(fill);
  offerLocation();
}

// fill chooses a place, with its name if it has one.
function fill(lat, long, name) {
  const form = document.getElementById("form");
  form.lat.value = lat;
  form.long.value = long;
  form.place.value = name ? `${lat},${long},${name}` : "";
  preview();
}

// preview shows the place that is in the form. Settled: it is complete, and the fields get its
// decimal degrees, so that each has its own if one held both.
async function preview(settled = false) {
  const { lat, long, place } = document.getElementById("form");
  if (!place.value.startsWith(`${lat.value},${long.value},`)) place.value = "";
  if (!lat.value && !long.value) {
    asking.abort();
    return show(null);
  }
  const spot = await look(place.value ? { at: place.value } : { lat: lat.value, long: long.value });
  if (settled && spot) [lat.value, long.value] = [spot.lat, spot.long];
}

// look asks the server for a place and shows it. It returns null if there is none.
async function look(query) {
  asking.abort();
  asking = new AbortController();
  try {
    const response = await fetch(at("/from?") + new URLSearchParams(query), { headers: { Accept: "application/json" }, signal: asking.signal });
    const spot = response.status === 200 ? await response.json() : null;
    show(spot);
    return spot;
  } catch (error) {
    if (error.name !== "AbortError") show(null); // the server could not be reached
    return null;
  }
}

// show shows a place, or none: on the map, on the sign, in the link to share.
function show(spot) {
  map.show(spot);
  distance.sign(spot?.miles ?? null, spot?.from);
  const link = document.getElementById("share");
  link.hidden = !spot;
  if (spot) link.href = at(spot.share);
}

// share makes the link share itself, or go to the clipboard.
function share() {
  const link = document.getElementById("share");
  link?.addEventListener("click", async (event) => {
    if (!navigator.share && !navigator.clipboard) return;
    event.preventDefault();
    try {
      if (navigator.share) await navigator.share({ title: document.getElementById("sign").innerText, url: link.href });
      else {
        await navigator.clipboard.writeText(link.href);
        link.textContent = "Link copied";
        setTimeout(() => { link.textContent = "Share"; }, 3000);
      }
    } catch (error) {
      if (error.name !== "AbortError") location.href = link.href;
    }
  });
}

async function submit(event) {
  event.preventDefault();
  const form = event.target;
  if (form.getAttribute("aria-busy") === "true") return; // a double click
  form.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(form.action, {
      method: "POST", body: new URLSearchParams(new FormData(form)), headers: { Accept: "text/html" },
      signal: AbortSignal.timeout(answerWithin),
    });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const entry = page.getElementById("entry");
    if (!entry) throw new Error(page.querySelector("h1")?.textContent ?? response.statusText);
    if (response.ok) entry.querySelector("#email").value = form.email.value; // for the next place
    document.title = page.title;
    document.querySelector("#sent > .note")?.remove();
    document.getElementById("entry").replaceWith(document.adoptNode(entry));
    startEntry();
    const card = response.ok && page.querySelector("#now .card");
    if (card) {
      document.getElementById("sent").prepend(document.adoptNode(page.getElementById("notice")));
      accepted(document.adoptNode(card));
      scrollTo(0, 0); // to the answer
    }
    document.getElementById("notice")?.focus({ preventScroll: Boolean(card) });
  } catch (error) {
    const again = "Try again: if you send the same again, it counts once.";
    if (error.name === "TimeoutError") complain(form, `The server did not answer within ${answerWithin / 1000} seconds. ${again}`);
    else complain(form, error instanceof TypeError ? `The server could not be reached. ${again}` : error.message);
  } finally {
    form.removeAttribute("aria-busy");
  }
}

// complain says above the form that nothing was submitted. The form and its one-time key stay.
function complain(form, reason) {
  document.getElementById("notice")?.remove();
  const note = document.createElement("div");
  Object.assign(note, { id: "notice", className: "note bad", tabIndex: -1 });
  note.setAttribute("role", "alert");
  const text = document.createElement("p");
  const strong = document.createElement("strong");
  strong.textContent = "Not submitted.";
  text.append(strong, " ", reason);
  note.append(text);
  form.before(note);
  note.focus();
}

// offerLocation shows the button if the browser may give its location, else the reason why not.
function offerLocation() {
  const button = document.getElementById("locate");
  const note = document.getElementById("locate-note");
  if (!navigator.geolocation) return;
  if (!isSecureContext) {
    note.textContent = "Browsers give your location to https pages only, and this is not one.";
    return;
  }
  const blocked = "The browser's settings for this page block your location.";
  button.addEventListener("click", () => {
    note.textContent = "Asking for your location…";
    navigator.geolocation.getCurrentPosition(({ coords }) => {
      fill(coords.latitude.toFixed(4), coords.longitude.toFixed(4));
      note.textContent = "Your location is filled in.";
    }, (error) => {
      note.textContent = error.code === error.PERMISSION_DENIED ? blocked : "Your location could not be found.";
    }, { timeout: 15000 });
  });
  button.hidden = false;
}

// ---- your submissions

// accepted adds the card of a submission that the server has accepted.
function accepted(card) {
  const { id, lat, long, name } = card.dataset;
  const known = load().find((e) => e.id === id); // a repeat
  const entry = known ?? { id, lat, long, name, at: Date.now(), state: "", steps: [] };
  cards.get(id)?.card.remove();
  save(entry);
  document.getElementById("cards").prepend(...document.getElementById("now").children);
  add(entry, "now");
  showList();
  showWeather(cards.get(id).card);
  look(placeOf(entry));
}

// placeOf is the question for the place of an entry.
function placeOf({ lat, long, name }) {
  return { at: [lat, long, name].filter(Boolean).join() };
}

// title is what an entry of the list is called.
function title({ lat, long, name }) {
  return (typeof name === "string" && name) || `${lat}, ${long}`;
}

// add shows an entry as the first card and follows it until it is complete. It returns true, and
// does not follow it, if the entry is so old that the server may have no progress of it.
function add(entry, list = "cards") {
  const card = blank.cloneNode(true);
  const link = card.querySelector("a");
  link.textContent = title(entry);
  link.href = at("/events/" + encodeURIComponent(entry.id));
  card.querySelector(".id").textContent = entry.id;
  Object.assign(card.dataset, { id: entry.id, lat: entry.lat, long: entry.long });
  cards.set(entry.id, { card, steps: entry.steps });
  document.getElementById(list).prepend(card);
  draw(card, entry.steps);
  if (entry.state === "unknown") unknown(card);
  if (entry.state === "unknown" || entry.state === "done") return false;
  if (Date.now() - entry.at > hour) return true;
  follower.follow(entry.id);
  return false;
}

function onStep(step) {
  const { card, steps } = cards.get(step.id);
  if (!merge(steps, step)) return;
  const { over, miles, label, detail } = draw(card, steps, step.stage);
  const place = card.querySelector("a")?.textContent;
  news.textContent = [place, label, detail].filter(Boolean).join(": ");
  if (miles !== null && card.classList.contains("alone") && !load().some((e) => e.id === step.id)) ring(miles);
  if (over === "done") setTimeout(() => follower.leave(step.id), 5000); // other stages may still report
  const entry = load().find((e) => e.id === step.id);
  if (entry) save({ ...entry, state: over, steps });
}

function onUnknown(id) {
  const { card } = cards.get(id);
  follower.leave(id);
  unknown(card);
  const entry = load().find((e) => e.id === id);
  if (entry) save({ ...entry, state: "unknown" });
}

function unknown(card) {
  const out = card.querySelector(".late");
  out.textContent = "The server has no progress of it any more: it is kept for one hour.";
  out.hidden = false;
}

function showList() {
  const none = document.getElementById("cards").children.length === 0;
  for (const id of ["submissions", "forget", "kept"]) document.getElementById(id).hidden = none;
}

function forget() {
  for (const [id, { card }] of cards) {
    follower.leave(id);
    card.remove();
  }
  cards.clear();
  write([]);
  showList();
  document.getElementById("main").focus();
}

// load reads the entries, newest first. It checks them: another version of the page, or the
// visitor, may have changed them.
function load() {
  try {
    const list = JSON.parse(localStorage.getItem(storeName)) ?? [];
    return list.filter((e) => /^[0-9a-f-]{36}$/.test(e?.id) && Array.isArray(e.steps) && typeof e.at === "number").slice(0, keep);
  } catch {
    return []; // not JSON, or storage is forbidden
  }
}

// save replaces the entry, or adds it as the first.
function save(entry) {
  const list = load();
  const i = list.findIndex((e) => e.id === entry.id);
  if (i < 0) list.unshift(entry);
  else list[i] = entry;
  write(list.slice(0, keep));
}

function write(list) {
  try {
    localStorage.setItem(storeName, JSON.stringify(list));
  } catch {
    // Storage is forbidden or full: the list lasts as long as the page.
  }
}
