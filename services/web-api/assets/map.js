// The map, in tenths of degrees: x to the east, y to the south. It is the flat map that the server
// has drawn or, where motion is welcome, a globe. A place comes from the server: {lat, long, from,
// miles, x, y, line, view, share}.
import { Globe } from "./globe.js";

const store = "milepost.map";
const svg = document.getElementById("map");
const office = svg && { lat: Number(svg.dataset.lat), long: Number(svg.dataset.long) };
const world = "-1800 -900 3600 1800";
const still = matchMedia("(prefers-reduced-motion: reduce)");
let globe = null;
let state = [null, null]; // as show got it

export { office };

// show draws the place and the shortest way to it from the office; null removes both. Without a
// place but with miles, the globe draws the line of all places at that distance.
export function show(spot, miles = null) {
  if (!svg) return;
  state = [spot, miles];
  turn();
  document.querySelector(".key-place").textContent = spot?.from ?? (miles === null ? "Your place" : "Places at this distance");
  if (miles !== null && !spot) return; // the server has drawn it
  const dot = svg.querySelector("#place");
  svg.setAttribute("viewBox", spot?.view ?? world);
  svg.querySelector("#line").setAttribute("d", spot?.line ?? "");
  dot.setAttribute("visibility", spot ? "visible" : "hidden");
  if (!spot) return;
  for (const path of dot.children) path.setAttribute("d", `M${spot.x} ${spot.y}h0`);
}

function turn() {
  const [spot, miles] = state;
  globe?.show(spot && { lat: Number(spot.lat), long: Number(spot.long) }, spot?.from ?? "", miles);
}

// start puts the globe in the place of the flat map, unless the visitor prefers that. Choose, if
// there is one, gets the latitude and the longitude of each place that is chosen on the map.
export function start(choose) {
  if (!svg) return;
  const frame = document.getElementById("frame"), hint = document.getElementById("map-hint");
  const button = document.createElement("button");
  Object.assign(button, { type: "button", id: "view" });
  document.querySelector("figcaption").insertBefore(button, document.getElementById("share"));
  const set = (round) => {
    if (round && !globe) {
      globe = new Globe(frame, { office, name: svg.dataset.name, land: svg.querySelector("use").getAttribute("href"), choose, still });
      turn();
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
