// The sign with the distance, in miles or kilometres.

const store = "milepost.units";
const units = { miles: { name: "miles", per: 1 }, km: { name: "kilometres", per: 1.609344 } };

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
