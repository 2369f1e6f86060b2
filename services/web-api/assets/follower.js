// Follows the events of this page over one stream for all pages of the browser: over HTTP/1.1 it
// has six connections to a site, and a stream keeps one. The visible page that holds the lock has
// the stream and passes each step on; a hidden page has none. Where there are no locks (plain
// HTTP), each visible page has its own.
import { at } from "./progress.js";

const lateAfter = 3000; // ms without a step until the card says what it waits for
const most = 50; // event IDs in one request
const lock = "milepost.stream";

export class Follower {
  #ids = new Set();
  #me = Math.random().toString(36).slice(2);
  #others = new Map(); // other visible page -> the event IDs that it follows
  #channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(lock);
  #gone = false; // the page is being left
  #asking = null; // AbortController of the request for the lock
  #release = null; // gives the lock back
  #source = null;
  #streamed = new Set(); // the event IDs of the stream
  #polling = 0;
  #watching = 0;
  #changing = 0;
  #failures = 0;
  #heard = 0; // time of the last message
  #news = new Map(); // event ID -> time of its last step, or of the first check
  #onStep;
  #onQuiet;
  #onUnknown;

  // onStep gets each step, onQuiet the ID of an event without a step for lateAfter, onUnknown an ID
  // that the server does not know.
  constructor(onStep, onQuiet, onUnknown) {
    this.#onStep = onStep;
    this.#onQuiet = onQuiet;
    this.#onUnknown = onUnknown;
    addEventListener("pagehide", () => { this.#gone = true; this.#update(); });
    addEventListener("pageshow", (event) => {
      if (!event.persisted) return;
      this.#gone = false;
      this.#wake();
    });
    addEventListener("online", () => this.#release && this.#open()); // the old connection may seem alive for long
    document.addEventListener("visibilitychange", () => this.#wake());
    this.#channel?.addEventListener("message", ({ data }) => this.#told(data));
  }

  follow(id) {
    if (this.#ids.has(id)) return;
    this.#ids.add(id);
    clearTimeout(this.#changing);
    this.#changing = setTimeout(() => this.#update()); // one stream for all events added now
  }

  // check asks once about events that the server may not know any more, and follows those it knows.
  async check(ids) {
    if (ids.length === 0) return;
    ids.forEach((id) => this.#ids.add(id));
    await this.#ask(ids.slice(-most)).catch(() => {}); // the stream gets what it can
    this.#update();
  }

  leave(id) {
    this.#news.delete(id);
    if (this.#ids.delete(id) && this.#ids.size === 0) this.#update();
  }

  get #active() {
    return this.#ids.size > 0 && !document.hidden && !this.#gone;
  }

  // wake asks for what a hidden page may have missed.
  #wake() {
    if (this.#active) this.#ask().catch(() => {});
    this.#update();
  }

  // update takes part in the stream, or leaves it, and tells the other pages.
  #update() {
    this.#channel?.postMessage({ page: this.#me, ids: this.#active ? [...this.#ids] : [] });
    if (!this.#active) {
      this.#asking?.abort();
      this.#asking = null;
      this.#close();
      clearInterval(this.#watching);
      this.#watching = 0;
      this.#release?.();
      this.#release = null;
      return;
    }
    if (!this.#watching) {
      this.#heard = Date.now();
      this.#watching = setInterval(() => this.#watch(), 1000);
    }
    if (this.#release) this.#follow();
    else if (!this.#asking) this.#lead();
  }

  // lead waits for the lock and then opens the stream.
  #lead() {
    if (!navigator.locks || !this.#channel) {
      this.#release = () => {};
      this.#open();
      return;
    }
    const asking = new AbortController();
    this.#asking = asking;
    navigator.locks.request(lock, { signal: asking.signal }, () => new Promise((release) => {
      if (asking.signal.aborted) {
        release();
        return;
      }
      this.#asking = null;
      this.#release = release;
      this.#others.clear();
      this.#channel.postMessage({ who: true });
      this.#open();
    })).catch(() => {}); // aborted: the page was hidden meanwhile
  }

  // told handles what another page says.
  #told({ page, ids, who, step }) {
    if (step) this.#hear(step);
    if (who && this.#active) this.#channel.postMessage({ page: this.#me, ids: [...this.#ids] });
    if (!page) return;
    if (ids.length > 0) this.#others.set(page, ids);
    else this.#others.delete(page);
    if (this.#release) this.#follow();
  }

  // all are the event IDs of all visible pages, at most as many as one request may have.
  #all() {
    return [...new Set([...[...this.#others.values()].flat(), ...this.#ids])].slice(-most);
  }

  // follow opens the stream anew if it lacks an event.
  #follow() {
    if (!this.#polling && this.#all().some((id) => !this.#streamed.has(id))) this.#open();
  }

  #open() {
    this.#close();
    const ids = this.#all();
    this.#streamed = new Set(ids);
    const source = new EventSource(at("/events?ids=" + ids.join(",")));
    this.#source = source;
    this.#heard = Date.now();
    source.addEventListener("open", () => { this.#failures = 0; });
    source.addEventListener("step", (event) => this.#pass(JSON.parse(event.data)));
    source.addEventListener("error", () => {
      // The browser connects again by itself, unless the answer was no stream. Poll if a proxy
      // never lets one through.
      if (source.readyState === EventSource.CLOSED || ++this.#failures > 3) this.#poll();
    });
  }

  #close() {
    this.#source?.close();
    this.#source = null;
    clearInterval(this.#polling);
    this.#polling = 0;
  }

  #pass(step) {
    this.#channel?.postMessage({ step });
    this.#hear(step);
  }

  #hear(step) {
    this.#heard = Date.now();
    if (!this.#ids.has(step.id)) return;
    this.#news.set(step.id, Date.now());
    this.#onStep(step);
  }

  // watch reports the events that have had no step for lateAfter. It asks the server if nothing was
  // heard for 10 s: a proxy may buffer the stream.
  #watch() {
    for (const id of [...this.#ids]) {
      if (!this.#news.has(id)) this.#news.set(id, Date.now());
      if (Date.now() - this.#news.get(id) > lateAfter) this.#onQuiet(id);
    }
    if (Date.now() - this.#heard > 10e3) {
      this.#heard = Date.now();
      this.#ask().catch(() => {}); // the stream is still open
    }
  }

  async #ask(ids = [...this.#ids].slice(-most)) {
    const response = await fetch(at("/events?ids=" + ids.join(",")), { headers: { Accept: "application/json" } });
    if (!response.ok) throw new Error(response.statusText);
    const { events } = await response.json();
    for (const { steps } of events) steps.forEach((step) => this.#ids.has(step.id) && this.#onStep(step));
    for (const id of ids) if (this.#ids.has(id) && !events.some((e) => e.id === id)) this.#onUnknown(id);
  }

  // poll asks every two seconds. After five answers it tries a stream again.
  #poll() {
    this.#close();
    let times = 0;
    this.#polling = setInterval(async () => {
      try {
        await this.#ask();
      } catch {
        return; // try again in two seconds
      }
      if (++times === 5 && this.#release) {
        this.#failures = 0;
        this.#open();
      }
    }, 2000);
  }
}
