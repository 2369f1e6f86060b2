// The map, in tenths of degrees: x to the east, y to the south. It is the flat map that the server
// has drawn or, where motion is welcome, a globe.
import { Globe } from "./globe.js";

const store = "milepost.map";
const svg = document.getElementById("map");
const office = svg && { lat: Number(svg.dataset.lat), long: Number(svg.dataset.long) };
const wrap = (degrees) => degrees - 360 * Math.round(degrees / 360);
const radians = Math.PI / 180;
const world = "-1800 -900 3600 1800";
const still = matchMedia("(prefers-reduced-motion: reduce)");
let globe = null;
let state = { place: null, name: "", miles: null };

export { office };

// show draws the place and the shortest way to it from the office; null removes both. Without a
// place but with miles, the globe draws the line of all places at that distance.
export function show(place, name = "", miles = null) {
  if (!svg) return;
  state = { place, name, miles };
  globe?.show(place, name, miles);
  document.querySelector(".key-place").textContent = place || miles === null ? name || "Your place" : "Places at this distance";
  if (miles !== null && !place) return; // the server has drawn it
  const dot = svg.querySelector("#place");
  const [d, view] = place ? way(office, place) : ["", world];
  svg.setAttribute("viewBox", view);
  svg.querySelector("#line").setAttribute("d", d);
  dot.setAttribute("visibility", place ? "visible" : "hidden");
  if (!place) return;
  for (const path of dot.children) path.setAttribute("d", `M${Math.round(wrap(place.long) * 10)} ${Math.round(-place.lat * 10)}h0`);
}

// start puts the globe in the place of the flat map, unless the visitor prefers that. Choose, if
// there is one, gets the latitude and the longitude of each place that is chosen on the map.
export function start(choose) {
  if (!svg) return;
  const frame = document.getElementById("frame"), hint = document.getElementById("map-hint");
  const label = svg.getAttribute("aria-label").replace(/^World map/, "Globe");
  const button = document.createElement("button");
  Object.assign(button, { type: "button", id: "view" });
  document.querySelector("figcaption").insertBefore(button, document.getElementById("share"));
  const set = (round) => {
    if (round && !globe) {
      globe = new Globe(frame, { office, name: svg.dataset.name, land: svg.querySelector("use").getAttribute("href"), label, choose, still });
      globe.show(state.place, state.name, state.miles);
    } else if (!round) {
      globe?.remove();
      globe = null;
    }
    frame.classList.toggle("round", round);
    button.textContent = round ? "Flat map" : "Globe";
  };
  let round = !still.matches;
  try {
    round = (localStorage.getItem(store) ?? (round ? "globe" : "flat")) === "globe";
  } catch {
    // Storage is forbidden.
  }
  set(round);
  button.addEventListener("click", () => {
    round = !globe;
    set(round);
    try {
      localStorage.setItem(store, round ? "globe" : "flat");
    } catch {
      // The choice lasts as long as the page.
    }
  });
  if (!choose) return;
  hint.hidden = false;
  hint.textContent = "Click the map to choose a place.";
  svg.classList.add("open");
  svg.addEventListener("click", (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const within = (v, most) => Math.max(-most, Math.min(most, v)).toFixed(2);
    choose(within(-at.y / 10, 90), within(at.x / 10, 180));
  });
}

// way returns the SVG path of a great circle and the view that shows it best. Over the date line it
// leaves the map at one edge and comes back at the other.
function way(from, to) {
  const a = vector(from);
  let b = vector(to);
  let angle = Math.acos(Math.max(-1, Math.min(1, a[0] * b[0] + a[1] * b[1] + a[2] * b[2])));
  if (angle > Math.PI - 1e-6) { // between antipodes all ways are equally long: take one
    b = vector({ lat: to.lat - 1e-3 * Math.sign(to.lat), long: to.long });
    angle = Math.acos(a[0] * b[0] + a[1] * b[1] + a[2] * b[2]);
  }
  const n = 1 + Math.floor(angle / radians / 4);
  const points = [];
  for (let i = 0; i <= n; i++) {
    const f = i / n;
    const [p, q] = angle > 1e-9 ? [Math.sin((1 - f) * angle), Math.sin(f * angle)] : [1 - f, f];
    const v = a.map((x, k) => x * p + b[k] * q);
    let x = Math.atan2(v[1], v[0]) / radians * 10;
    if (i > 0) x -= 3600 * Math.round((x - points[i - 1][0]) / 3600);
    points.push([x, -Math.atan2(v[2], Math.hypot(v[0], v[1])) / radians * 10]);
  }
  const draw = (shift) => points.map(([x, y], i) => `${i ? "L" : "M"}${Math.round(x + shift)} ${Math.round(y)}`).join("");
  const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
  const east = Math.max(...xs), west = Math.min(...xs), south = Math.max(...ys), north = Math.min(...ys);
  const over = east > 1800 || west < -1800;
  return [draw(0) + (east > 1800 ? draw(-3600) : "") + (west < -1800 ? draw(3600) : ""), over ? world : view(west, east, north, south)];
}

// view returns the viewBox for a way within these bounds, as on the server (map.go).
function view(west, east, north, south) {
  const width = Math.round(Math.max((east - west) * 1.5, (south - north) * 3.2, 300));
  if (width > 2400) return world;
  const x = Math.min(Math.max(Math.round((west + east - width) / 2), -1800), 1800 - width);
  const y = Math.min(Math.max(Math.round((north + south - width / 2) / 2), -900), 900 - width / 2);
  return `${x} ${Math.round(y)} ${width} ${Math.round(width / 2)}`;
}

function vector({ lat, long }) {
  const c = Math.cos(lat * radians);
  return [c * Math.cos(long * radians), c * Math.sin(long * radians), Math.sin(lat * radians)];
}
