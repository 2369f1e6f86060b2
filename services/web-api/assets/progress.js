// Progress of submissions: following them, and showing it in cards. A card is drawn from the steps alone, by the same
// rules as on the server (journey.go), so that a step that comes twice changes nothing.

const lateAfter = 3000; // ms without news after which the card says what it waits for
const words = { "": "to come", passed: "done", done: "done", retry: "failed, will be tried again", dead: "failed and set aside" };

// merge adds a step to those known, the later one of a stage; false if it is no news.
export function merge(steps, step) {
  const i = steps.findIndex((s) => s.stage === step.stage);
  if (i < 0) steps.push(step);
  else if (Date.parse(steps[i].at) < Date.parse(step.at)) steps[i] = step;
  else return false;
  return true;
}

// draw shows the steps in the card and returns {over, miles, label, detail}; label is that of the step named news.
export function draw(card, steps, news) {
  const list = card.querySelector(".stops");
  const first = steps.find((s) => s.stage === "web-api") ?? steps[0];
  const told = {};
  let miles = "", over = "";
  for (const step of [...steps].sort((a, b) => Date.parse(a.at) - Date.parse(b.at))) {
    let stop = [...list.children].find((li) => li.dataset.stage === step.stage);
    const known = Boolean(stop?.dataset.waiting);
    if (!stop) {
      stop = list.lastElementChild.cloneNode(true);
      stop.dataset.stage = step.stage;
      delete stop.dataset.waiting;
      stop.querySelector(".label").textContent = step.stage;
      list.append(stop);
    }
    set(stop, step.state);
    const detail = describe(step.detail);
    stop.querySelector(".detail").textContent = detail;
    stop.querySelector(".after").textContent = since(Date.parse(step.at) - Date.parse(first.at));
    if (typeof step.detail?.miles === "number") miles = inMiles(step.detail.miles);
    if (step.state === "dead" && known) over = "dead";
    if (step.stage === news) Object.assign(told, { label: stop.querySelector(".label").textContent, detail });
  }
  const expected = [...list.children].filter((li) => li.dataset.waiting);
  const lastDone = expected.findLastIndex((li) => li.dataset.state === "done");
  expected.slice(0, Math.max(0, lastDone)).filter((li) => !li.dataset.state).forEach((li) => set(li, "passed"));
  if (lastDone === expected.length - 1) over = "done";
  card.querySelector(".miles").textContent = miles;
  card.querySelector(".dead").hidden = over !== "dead";
  card.querySelector(".late").hidden = true;
  const next = over ? null : expected.find((li) => !["done", "passed"].includes(li.dataset.state));
  for (const li of expected) li.classList.toggle("waiting", li === next);
  return { over, miles, ...told };
}

function set(stop, state) {
  stop.dataset.state = state;
  stop.querySelector(".words").textContent = words[state] ?? state;
}

// late says in the card what it is waiting for.
export function late(card) {
  const next = card.querySelector(".stops .waiting");
  const out = card.querySelector(".late");
  if (!next || !out.hidden) return;
  out.textContent = next.dataset.waiting;
  out.hidden = false;
}

export function inMiles(v) {
  return v.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 }) + " miles";
}

function since(ms) {
  if (ms < 1000) return `${Math.max(0, Math.floor(ms))} ms`;
  if (ms < 60e3) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 3600e3) return `${Math.floor(ms / 60e3)} min`;
  return `${Math.floor(ms / 3600e3)} h`;
}

function describe(detail) {
  if (!detail || typeof detail !== "object") return "";
  return Object.keys(detail).sort().flatMap((name) => {
    const v = detail[name];
    if (typeof v === "number") return [name === "miles" ? inMiles(v) : `${name} ${v}`];
    return typeof v === "string" && !name.endsWith("_at") ? [`${name} ${v}`] : [];
  }).join(", ");
}

// Follower follows any number of events over one stream. It asks again when the connection is lost, and polls where no
// stream gets through. A stream starts with all that is known, so nothing needs remembering between two of them.
export class Follower {
  #ids = new Set();
  #source = null;
  #timer = 0;
  #opening = 0;
  #failures = 0;
  #heard = 0; // when anything came
  #news = new Map(); // event ID -> when it had news, or was first asked about
  #onStep;
  #onQuiet;
  #onUnknown;

  // onStep gets each step, onQuiet an ID without news for a while, onUnknown an ID that the server does not know.
  constructor(onStep, onQuiet, onUnknown) {
    this.#onStep = onStep;
    this.#onQuiet = onQuiet;
    this.#onUnknown = onUnknown;
    addEventListener("pagehide", () => this.#close());
    addEventListener("pageshow", (event) => event.persisted && this.#open());
    addEventListener("online", () => this.#open()); // the old connection may look alive for long
  }

  follow(id) {
    if (this.#ids.has(id)) return;
    this.#ids.add(id);
    this.#close();
    clearTimeout(this.#opening);
    this.#opening = setTimeout(() => this.#open()); // one stream for all that are added now
  }

  // check asks once about events of which the server may know nothing any more, and follows those it knows.
  async check(ids) {
    if (ids.length === 0) return;
    ids.forEach((id) => this.#ids.add(id));
    await this.#ask(ids).catch(() => {}); // the stream will tell what it can
    this.#open();
  }

  leave(id) {
    this.#news.delete(id);
    if (this.#ids.delete(id) && this.#ids.size === 0) this.#close();
  }

  #query(ids = [...this.#ids].slice(-50)) {
    return "/events?ids=" + ids.join(",");
  }

  #open() {
    this.#close();
    if (this.#ids.size === 0) return;
    const source = new EventSource(this.#query());
    this.#source = source;
    this.#heard = Date.now();
    source.addEventListener("open", () => { this.#failures = 0; });
    source.addEventListener("step", (event) => this.#hear(JSON.parse(event.data)));
    source.addEventListener("error", () => {
      // The browser connects again by itself, unless the answer was no stream; a proxy may never let one through.
      if (source.readyState === EventSource.CLOSED || ++this.#failures > 3) this.#poll();
    });
    this.#timer = setInterval(() => this.#watch(), 1000);
  }

  #close() {
    this.#source?.close();
    this.#source = null;
    clearInterval(this.#timer);
  }

  #hear(step) {
    this.#heard = Date.now();
    if (!this.#ids.has(step.id)) return;
    this.#news.set(step.id, Date.now());
    this.#onStep(step);
  }

  // late tells of the events that have had no news for a while.
  #late() {
    for (const id of [...this.#ids]) {
      if (!this.#news.has(id)) this.#news.set(id, Date.now());
      if (Date.now() - this.#news.get(id) > lateAfter) this.#onQuiet(id);
    }
  }

  // watch notices that nothing comes: the events may be late, or the stream is held up on its way.
  #watch() {
    this.#late();
    if (Date.now() - this.#heard > 10e3) {
      this.#heard = Date.now();
      this.#ask().catch(() => {}); // the stream is still there to tell
    }
  }

  async #ask(ids = [...this.#ids].slice(-50)) {
    const response = await fetch(this.#query(ids), { headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(response.statusText);
    const { events } = await response.json();
    for (const { steps } of events) steps.forEach((step) => this.#ids.has(step.id) && this.#onStep(step));
    for (const id of ids) if (!events.some((e) => e.id === id)) this.#onUnknown(id);
  }

  // poll asks every two seconds instead, and tries a stream again after five times.
  #poll() {
    this.#close();
    let times = 0;
    this.#timer = setInterval(async () => {
      this.#late();
      try {
        await this.#ask();
      } catch {
        return; // the next time may do better
      }
      if (++times === 5 && this.#ids.size > 0) {
        this.#failures = 0;
        this.#open();
      }
    }, 2000);
  }
}
