// Distances as the server computes them, and the sign that shows one.

const store = "milepost.units";
const units = { miles: { name: "miles", per: 1 }, km: { name: "kilometres", per: 1.609344 } };
const radians = Math.PI / 180;

// between returns the miles of the shortest way over the WGS 84 ellipsoid (T. Vincenty, Survey
// Review 23 (1975) 88-93). It returns NaN near the antipode, where the formula does not converge.
export function between(p, q) {
  const a = 6378137, f = 1 / 298.257223563, b = a * (1 - f);
  const u1 = Math.atan((1 - f) * Math.tan(p.lat * radians)), u2 = Math.atan((1 - f) * Math.tan(q.lat * radians));
  const [s1, c1, s2, c2] = [Math.sin(u1), Math.cos(u1), Math.sin(u2), Math.cos(u2)];
  const away = (q.long - p.long - 360 * Math.round((q.long - p.long) / 360)) * radians;
  let l = away;
  for (let i = 0; i < 200; i++) {
    const sl = Math.sin(l), cl = Math.cos(l);
    const sin = Math.hypot(c2 * sl, c1 * s2 - s1 * c2 * cl), cos = s1 * s2 + c1 * c2 * cl;
    if (sin === 0) return cos > 0 ? 0 : NaN;
    const sigma = Math.atan2(sin, cos), sa = c1 * c2 * sl / sin, c2a = 1 - sa * sa;
    const mid = c2a ? cos - 2 * s1 * s2 / c2a : 0;
    const c = f / 16 * c2a * (4 + f * (4 - 3 * c2a));
    const before = l;
    l = away + (1 - c) * f * sa * (sigma + c * sin * (mid + c * cos * (2 * mid * mid - 1)));
    if (Math.abs(l) > Math.PI) return NaN;
    if (Math.abs(l - before) < 1e-12) {
      const k = c2a * (a * a - b * b) / (b * b);
      const A = 1 + k / 16384 * (4096 + k * (k * (320 - 175 * k) - 768)), B = k / 1024 * (256 + k * (k * (74 - 47 * k) - 128));
      const d = B * sin * (mid + B / 4 * (cos * (2 * mid * mid - 1) - B / 6 * mid * (4 * sin * sin - 3) * (4 * mid * mid - 3)));
      return b * A * (sigma - d) / 1609.344;
    }
  }
  return NaN;
}

let unit = "miles";
try {
  if (localStorage.getItem(store) === "km") unit = "km";
} catch {
  // Storage is forbidden: the choice lasts as long as the page.
}

const number = (v) => v.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const other = () => (unit === "km" ? "miles" : "km");

// inUnits formats miles in the unit that the visitor has chosen.
export const inUnits = (miles) => `${number(miles * units[unit].per)} ${units[unit].name}`;

const changed = [];
const bar = document.createElement("div");
let shown = null; // miles on the sign
let away = false; // the sign is out of view

// onUnits calls f when the visitor chooses the other unit.
export const onUnits = (f) => changed.push(f);

// start makes the sign's button work.
export function start() {
  const button = document.getElementById("units");
  const miles = document.querySelector("#length b")?.textContent;
  if (!button) return;
  if (miles) shown = Number(miles.replaceAll(",", ""));
  button.addEventListener("click", () => {
    unit = other();
    try {
      localStorage.setItem(store, unit);
    } catch {
      // as above
    }
    paint();
    changed.forEach((f) => f());
  });
  if (miles) paint();
  // On a phone the sign scrolls away while the visitor types: a bar shows the distance meanwhile.
  if (!document.getElementById("form")) return;
  bar.className = "bar";
  bar.setAttribute("aria-hidden", "true"); // the sign says it
  document.body.append(bar);
  new IntersectionObserver(([sign]) => {
    away = sign.boundingClientRect.bottom < 1;
    bar.hidden = !away || shown === null;
  }).observe(document.getElementById("sign"));
}

// sign shows the distance, in miles, and where it is measured from. Null empties the sign.
export function sign(miles, from) {
  shown = miles;
  document.getElementById("from").textContent = from || "Your place";
  paint();
}

function paint() {
  const [length, also, button] = ["length", "also", "units"].map((id) => document.getElementById(id));
  button.hidden = shown === null;
  bar.hidden = !away || shown === null;
  if (shown === null) {
    length.replaceChildren();
    also.textContent = "Choose a place to see the distance.";
    return;
  }
  const put = (out, name) => {
    const b = document.createElement("b");
    b.textContent = number(shown * units[name].per);
    out.replaceChildren(b, " " + units[name].name);
  };
  put(length, unit);
  put(also, other());
  bar.replaceChildren(length.firstChild.cloneNode(true), ` ${units[unit].name} from ${document.getElementById("from").textContent}`);
  button.textContent = `In ${units[other()].name}`;
}
