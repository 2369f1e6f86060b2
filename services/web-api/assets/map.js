// The map, in tenths of degrees: x to the east, y to the south.

const svg = document.getElementById("map");
const wrap = (degrees) => degrees - 360 * Math.round(degrees / 360);
const radians = Math.PI / 180;

// show draws the place and the shortest way to it from the office; null removes both.
export function show(place) {
  if (!svg) return;
  const dot = svg.querySelector("#place");
  const line = svg.querySelector("#line");
  if (!place) {
    dot.setAttribute("visibility", "hidden");
    line.setAttribute("d", "");
    return;
  }
  dot.removeAttribute("visibility");
  dot.setAttribute("cx", Math.round(wrap(place.long) * 10));
  dot.setAttribute("cy", Math.round(-place.lat * 10));
  line.setAttribute("d", way({ lat: Number(svg.dataset.lat), long: Number(svg.dataset.long) }, place));
}

// length shows the distance beside the map.
export function length(text) {
  const out = document.getElementById("length");
  if (out) out.textContent = text;
}

// choose calls f with the latitude and the longitude of each click on the map.
export function choose(f) {
  if (!svg) return;
  document.getElementById("map-hint").hidden = false;
  svg.addEventListener("click", (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const within = (v, most) => Math.max(-most, Math.min(most, v)).toFixed(2);
    f(within(-at.y / 10, 90), within(at.x / 10, 180));
  });
}

// way returns the SVG path of a great circle. Over the date line it leaves the map at one edge and
// comes back at the other.
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
  const east = Math.max(...points.map((p) => p[0])), west = Math.min(...points.map((p) => p[0]));
  return draw(0) + (east > 1800 ? draw(-3600) : "") + (west < -1800 ? draw(3600) : "");
}

function vector({ lat, long }) {
  const c = Math.cos(lat * radians);
  return [c * Math.cos(long * radians), c * Math.sin(long * radians), Math.sin(lat * radians)];
}
