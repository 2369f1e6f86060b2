// Follows submissions and shows their progress in cards. A card depends on the steps alone, by
// the same rules as on the server (journey.go), so a repeated step changes nothing.

import { inUnits } from "./distance.js";

const words = { "": "to come", passed: "done", done: "done", retry: "failed, will be tried again", dead: "failed for good" };

// at returns the address of a path of this site, which may be published below another path.
export const at = (path) => new URL("../.." + path, import.meta.url).href;

// merge adds a step, or replaces an older one of its stage. It returns false if steps had it
// already.
export function merge(steps, step) {
  const i = steps.findIndex((s) => s.stage === step.stage);
  if (i < 0) steps.push(step);
  else if (Date.parse(steps[i].at) < Date.parse(step.at)) steps[i] = step;
  else return false;
  return true;
}

// draw shows the steps in the card and returns {over, miles, label, detail}, the last two of the
// stage named news.
export function draw(card, steps, news) {
  const stops = [...card.querySelectorAll(".stops li")], reports = card.querySelector(".reports");
  const first = steps.find((s) => s.stage === "web-api") ?? steps[0];
  const told = {};
  let miles = null, over = "", took = 0;
  for (const step of [...steps].sort((a, b) => Date.parse(a.at) - Date.parse(b.at))) {
    const stop = stops.find((li) => li.dataset.stage === step.stage);
    let report = [...reports.children].find((li) => li.dataset.report === step.stage);
    if (!report) {
      report = reports.lastElementChild.cloneNode(true);
      report.dataset.report = step.stage;
      report.querySelector("b").textContent = step.stage;
      reports.append(report);
    }
    if (stop) set(stop, step.state);
    const detail = describe(step.detail), after = Date.parse(step.at) - Date.parse(first.at);
    report.querySelector(".state").textContent = words[step.state] ?? step.state;
    report.querySelector(".detail").textContent = detail;
    report.querySelector(".after").textContent = since(after);
    if (stop) took = Math.max(took, after);
    if (typeof step.detail?.miles === "number") miles = step.detail.miles;
    if (step.state === "dead" && stop) over = "dead";
    if (step.stage === news) Object.assign(told, { label: stop?.querySelector(".label").textContent ?? step.stage, detail });
  }
  const lastDone = stops.findLastIndex((li) => li.dataset.state === "done");
  stops.slice(0, Math.max(0, lastDone)).filter((li) => !li.dataset.state).forEach((li) => set(li, "passed"));
  if (lastDone === stops.length - 1) over = "done";
  card.querySelector(".status").textContent = status(stops, over, took);
  const out = card.querySelector(".miles");
  if (out && miles !== null) Object.assign(out, { textContent: inUnits(miles) }).dataset.miles = miles;
  card.querySelector(".dead").hidden = over !== "dead";
  card.querySelector(".late").hidden = true;
  const next = over ? null : stops.find((li) => !["done", "passed"].includes(li.dataset.state));
  for (const li of stops) li.classList.toggle("waiting", li === next);
  return { over, miles, ...told };
}

// status says in a sentence for visitors how far the submission is.
function status(stops, over, took) {
  if (over === "dead") return "Stopped by an error";
  if (over === "done") return "Emailed " + inWords(took);
  if (stops.some((li) => li.dataset.state === "retry")) return "A step failed and will be tried again";
  const done = stops.findLast((li) => li.dataset.state === "done");
  const said = { "web-api": "Received", distance: "Distance measured", db: "Distance saved" }[done?.dataset.stage];
  return said ? said + ", on the way to the next step" : "";
}

function inWords(ms) {
  const [n, unit] = ms < 60e3 ? [ms / 1000, "second"] : ms < 3600e3 ? [ms / 60e3, "minute"] : [ms / 3600e3, "hour"];
  if (n < 1) return "in less than a second";
  return `in ${Math.floor(n)} ${unit}${Math.floor(n) === 1 ? "" : "s"}`;
}

function set(stop, state) {
  stop.dataset.state = state;
  stop.querySelector(".words").textContent = words[state] ?? state;
}

// late shows in the card what it waits for.
export function late(card) {
  const next = card.querySelector(".stops .waiting");
  const out = card.querySelector(".late");
  if (!next || !out.hidden) return;
  out.textContent = next.dataset.waiting;
  out.hidden = false;
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
    if (typeof v === "number") return [name === "miles" ? inUnits(v) : `${name} ${v}`];
    return typeof v === "string" && !name.endsWith("_at") ? [`${name} ${v}`] : [];
  }).join(", ");
}
