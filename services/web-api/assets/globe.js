// A globe on a canvas: the orthographic projection of the land outlines. It turns to the middle of
// the way, and closer if the way is short. The mouse and the arrow keys turn it, too.

const radians = Math.PI / 180;
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const sum = (a, p, b, q) => [a[0] * p + b[0] * q, a[1] * p + b[1] * q, a[2] * p + b[2] * q];
const unit = (a) => sum(a, 1 / (Math.hypot(...a) || 1), a, 0);
const point = (v) => ({ lat: Math.atan2(v[2], Math.hypot(v[0], v[1])) / radians, long: Math.atan2(v[1], v[0]) / radians });
const clamp = (v, least, most) => Math.max(least, Math.min(most, v));
const farthest = 1, closest = 9; // zoom

function vector({ lat, long }) {
  const c = Math.cos(lat * radians);
  return [c * Math.cos(long * radians), c * Math.sin(long * radians), Math.sin(lat * radians)];
}

// rings reads the outlines from the path of the flat map.
async function rings(address) {
  const [, d] = /id="land" d="([^"]+)"/.exec(await (await fetch(address)).text());
  const list = d.split("M").slice(1).map((text) => {
    const numbers = text.match(/-?\d+/g).map(Number);
    let x = 0, y = 0, area = 0;
    const flat = [];
    for (let i = 0; i + 1 < numbers.length; i += 2) {
      area += x * numbers[i + 1] - y * numbers[i];
      flat.push([x += numbers[i], y += numbers[i + 1]]);
    }
    return { flat, area, vectors: flat.map(([x, y]) => vector({ lat: -y / 10, long: x / 10 })) };
  });
  const land = list.reduce((a, b) => (Math.abs(a.area) > Math.abs(b.area) ? a : b)).area;
  for (const ring of list) ring.lake = ring.area * land < 0;
  return list;
}

function inside(flat, { lat, long }) {
  let within = false;
  for (const x of [long * 10, long * 10 - 3600, long * 10 + 3600]) {
    for (let i = 0, j = flat.length - 1; i < flat.length; j = i++) {
      const [ax, ay] = flat[i], [bx, by] = flat[j], y = -lat * 10;
      if (ay > y !== by > y && x < (bx - ax) * (y - ay) / (by - ay) + ax) within = !within;
    }
  }
  return within;
}

export class Globe {
  #canvas = document.createElement("canvas");
  #pen = this.#canvas.getContext("2d");
  #options;
  #land = [];
  #grid = [];
  #office;
  #place = null;
  #name = "";
  #miles = null;
  #way = []; // unit vectors
  #at = { lat: 20, long: 0 }; // in the middle
  #zoom = 1;
  #grown = 1; // share of the way that is drawn
  #frame = 0;
  #colours = {};
  #watch = new ResizeObserver(() => this.#draw());
  #dark = matchMedia("(prefers-color-scheme: dark)");
  #repaint = () => this.#dress();

  constructor(frame, options) {
    this.#options = options;
    this.#office = vector(options.office);
    this.#at = { lat: clamp(options.office.lat - 10, -60, 60), long: options.office.long - 18 };
    for (let long = -180; long < 180; long += 15) this.#grid.push(Array.from({ length: 33 }, (_, i) => vector({ lat: i * 5 - 80, long })));
    for (let lat = -75; lat <= 75; lat += 15) this.#grid.push(Array.from({ length: 73 }, (_, i) => vector({ lat, long: i * 5 })));
    const canvas = this.#canvas;
    Object.assign(canvas, { id: "globe", tabIndex: 0 });
    canvas.setAttribute("role", options.choose ? "application" : "img");
    frame.append(canvas);
    this.#label();
    this.#listen();
    this.#watch.observe(canvas);
    this.#dark.addEventListener("change", this.#repaint);
    rings(options.land).then((land) => { this.#land = land; this.#draw(); }, () => {}); // without land there is still the way
    document.fonts?.ready.then(() => this.#draw());
    this.#dress();
  }

  remove() {
    cancelAnimationFrame(this.#frame);
    this.#watch.disconnect();
    this.#dark.removeEventListener("change", this.#repaint);
    this.#canvas.remove();
  }

  // show turns to the way from the office to the place or, without a place, to the line of all
  // places that are miles away.
  show(place, name, miles) {
    this.#place = place && vector(place);
    this.#name = name;
    this.#miles = miles;
    this.#way = [];
    let middle = this.#office, zoom = 1, lean = 0;
    if (place) {
      let end = this.#place;
      if (dot(this.#office, end) < -1 + 1e-9) end = vector({ lat: place.lat - 1e-3 * Math.sign(place.lat || 1), long: place.long });
      const angle = Math.acos(clamp(dot(this.#office, end), -1, 1)), side = unit(cross(this.#office, end));
      const n = 2 + Math.ceil(angle / radians / 2), along = cross(side, this.#office);
      for (let i = 0; i <= n; i++) this.#way.push(sum(this.#office, Math.cos(angle * i / n), along, Math.sin(angle * i / n)));
      zoom = clamp(0.7 / Math.sin(Math.max(angle / 2, 0.01)), farthest, closest);
      lean = Math.min(0.35, angle * 0.3) * (side[2] > 0 ? -1 : 1); // so that the way is seen as an arc
      middle = unit(sum(unit(sum(this.#office, Math.cos(angle / 2), along, Math.sin(angle / 2))), Math.cos(lean), side, Math.sin(lean)));
    } else if (miles !== null) {
      const angle = miles / 3958.761, north = unit(cross(cross(this.#office, [0, 0, 1]), this.#office)), east = cross(north, this.#office);
      const away = Math.max(0, angle - 0.9); // or the line would be at the rim, or behind it
      middle = sum(this.#office, Math.cos(away), east, Math.sin(away));
      for (let i = 0; i <= 120; i++) {
        const bearing = i * 3 * radians;
        this.#way.push(sum(this.#office, Math.cos(angle), sum(north, Math.cos(bearing), east, Math.sin(bearing)), Math.sin(angle)));
      }
    } else middle = vector({ lat: clamp(this.#options.office.lat - 10, -60, 60), long: this.#options.office.long - 18 });
    this.#label();
    this.#turn(point(middle), zoom, true);
  }

  #label() {
    const way = this.#place ? `, ${this.#name || "the place"} and the shortest way between them` : "";
    const keys = this.#options.choose ? " Arrow keys turn it, plus and minus zoom, Enter chooses the place in the middle." : "";
    this.#canvas.setAttribute("aria-label", `Globe with ${this.#options.name}${way}.${keys}`);
  }

  // turn moves the middle and the zoom there, in one go if less motion is preferred.
  #turn(to, zoom, grow = false, time = 900) {
    cancelAnimationFrame(this.#frame);
    delete this.#canvas.dataset.still;
    const from = { ...this.#at }, before = this.#zoom, begin = performance.now();
    const far = (to.long - from.long) - 360 * Math.round((to.long - from.long) / 360);
    const step = (now) => {
      const t = this.#options.still.matches ? 1 : clamp((now - begin) / time, 0, 1);
      const f = t < 0.5 ? 4 * t ** 3 : 1 - (2 - 2 * t) ** 3 / 2;
      this.#at = { lat: from.lat + (to.lat - from.lat) * f, long: from.long + far * f };
      this.#zoom = before * (zoom / before) ** f;
      if (grow) this.#grown = f;
      this.#draw();
      if (t < 1) this.#frame = requestAnimationFrame(step);
      else this.#canvas.dataset.still = "";
    };
    step(begin);
    if (!this.#options.still.matches) this.#frame = requestAnimationFrame(step);
  }

  #dress() {
    const style = getComputedStyle(this.#canvas);
    for (const name of ["sea", "sea-deep", "land", "shore", "grid", "way", "casing", "ink", "paper", "office", "shade"]) {
      this.#colours[name] = style.getPropertyValue("--" + name).trim();
    }
    this.#draw();
  }

  #listen() {
    const canvas = this.#canvas;
    let held = null, moved = false;
    canvas.addEventListener("pointerdown", (event) => {
      held = { x: event.clientX, y: event.clientY, at: this.#at };
      moved = false;
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!held || event.buttons === 0) return;
      const dx = event.clientX - held.x, dy = event.clientY - held.y;
      if (!moved && Math.hypot(dx, dy) < 5) return;
      moved = true;
      canvas.setPointerCapture(event.pointerId);
      cancelAnimationFrame(this.#frame);
      this.#grown = 1;
      const degrees = 114.6 / (canvas.clientWidth * this.#zoom);
      this.#at = { lat: clamp(held.at.lat + dy * degrees, -90, 90), long: held.at.long - dx * degrees };
      this.#draw();
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { held = null; });
    canvas.addEventListener("click", (event) => {
      const size = canvas.clientWidth / 2, box = canvas.getBoundingClientRect();
      if (!moved) this.#choose((event.clientX - box.left - size) / (size - 4), (size - event.clientY + box.top) / (size - 4));
    });
    canvas.addEventListener("keydown", (event) => {
      const turn = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0] }[event.key];
      const zoom = { "+": 1.5, "=": 1.5, "-": 1 / 1.5 }[event.key];
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      if (turn) this.#turn({ lat: clamp(this.#at.lat + turn[0] * 10 / this.#zoom, -90, 90), long: this.#at.long + turn[1] * 10 / this.#zoom }, this.#zoom, false, 150);
      else if (zoom) this.#turn(this.#at, clamp(this.#zoom * zoom, farthest, closest), false, 150);
      else if (event.key === "Enter") this.#choose(0, 0);
      else return;
      this.#grown = 1;
      event.preventDefault();
    });
    for (const name of ["focus", "blur"]) canvas.addEventListener(name, () => this.#draw());
  }

  // choose chooses the place at x, y of the disc, whose radius is 1.
  #choose(x, y) {
    x /= this.#zoom;
    y /= this.#zoom;
    if (!this.#options.choose || Math.hypot(x, y) >= 1) return;
    const [east, north, up] = this.#axes();
    const { lat, long } = point(sum(sum(east, x, north, y), 1, up, Math.sqrt(1 - x * x - y * y)));
    this.#options.choose(lat.toFixed(2), long.toFixed(2));
  }

  #axes() {
    const { lat, long } = this.#at, up = vector(this.#at);
    return [[-Math.sin(long * radians), Math.cos(long * radians), 0], vector({ lat: lat + 90, long }), up];
  }

  #draw() {
    const canvas = this.#canvas, pen = this.#pen, c = this.#colours, size = canvas.clientWidth, sharp = devicePixelRatio || 1;
    if (!size || !c.sea) return;
    if (canvas.width !== Math.round(size * sharp)) canvas.width = canvas.height = Math.round(size * sharp);
    pen.setTransform(sharp, 0, 0, sharp, 0, 0);
    pen.clearRect(0, 0, size, size);
    const middle = size / 2, rim = middle - 4, r = rim * this.#zoom, axes = this.#axes();
    const see = (v) => [middle + r * dot(v, axes[0]), middle - r * dot(v, axes[1]), dot(v, axes[2])];
    pen.save();
    pen.beginPath();
    pen.arc(middle, middle, rim, 0, 7);
    pen.clip();
    const sea = pen.createRadialGradient(middle - rim * 0.35, middle - rim * 0.4, rim * 0.1, middle, middle, rim);
    sea.addColorStop(0, c.sea);
    sea.addColorStop(1, c["sea-deep"]);
    pen.fillStyle = sea;
    pen.fillRect(0, 0, size, size);
    this.#stroke(this.#grid, see, c.grid, 1);
    const behind = point(axes[2].map((x) => -x));
    for (const ring of this.#land) this.#fill(ring, see, r, middle, behind, c);
    const shade = pen.createRadialGradient(middle - rim * 0.3, middle - rim * 0.35, rim * 0.5, middle, middle, rim * 1.05);
    shade.addColorStop(0, "transparent");
    shade.addColorStop(1, c.shade);
    pen.fillStyle = shade;
    pen.fillRect(0, 0, size, size);
    const drawn = this.#way.slice(0, Math.max(2, Math.ceil(this.#way.length * this.#grown)));
    this.#stroke([drawn], see, c.casing, 6);
    this.#stroke([drawn], see, c.way, 3);
    pen.restore();
    pen.strokeStyle = c.shore;
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.arc(middle, middle, rim, 0, 7);
    pen.stroke();
    this.#dots(see, c, middle, rim);
    if (this.#options.choose && canvas.matches(":focus-visible")) {
      pen.strokeStyle = c.ink;
      pen.lineWidth = 2;
      pen.beginPath();
      for (const [x, y] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        pen.moveTo(middle + 5 * x, middle + 5 * y);
        pen.lineTo(middle + 14 * x, middle + 14 * y);
      }
      pen.stroke();
    }
  }

  // stroke draws lines on the side that is seen.
  #stroke(lines, see, colour, width) {
    const pen = this.#pen;
    Object.assign(pen, { strokeStyle: colour, lineWidth: width, lineCap: "round", lineJoin: "round" });
    pen.beginPath();
    for (const line of lines) {
      let up = false;
      for (const v of line) {
        const [x, y, z] = see(v);
        if (z < 0) up = false;
        else if (up) pen.lineTo(x, y);
        else {
          pen.moveTo(x, y);
          up = true;
        }
      }
    }
    pen.stroke();
  }

  // fill draws a ring. Points behind the globe move to its rim. If the ring is around the point
  // that is farthest behind, this turns it inside out; the whole disc in the path turns it back.
  #fill(ring, see, r, middle, behind, c) {
    const seen = ring.vectors.map(see), pen = this.#pen;
    if (!seen.some((p) => p[2] > 0)) return;
    pen.beginPath();
    let last = null;
    for (const [x, y, z] of seen) {
      if (z >= 0) {
        pen.lineTo(x, y);
        last = null;
        continue;
      }
      const angle = Math.atan2(y - middle, x - middle);
      if (last === null) pen.lineTo(middle + r * Math.cos(angle), middle + r * Math.sin(angle));
      else pen.arc(middle, middle, r, last, angle, Math.sin(angle - last) < 0);
      last = angle;
    }
    pen.closePath();
    if (inside(ring.flat, behind)) {
      pen.moveTo(middle + 2 * r, middle);
      pen.arc(middle, middle, 2 * r, 0, 7);
    }
    Object.assign(pen, { fillStyle: ring.lake ? c.sea : c.land, strokeStyle: c.shore, lineWidth: 0.75 });
    pen.fill("evenodd");
    pen.stroke();
  }

  // dots draws the ends of the way, with a name beside, above or below each.
  #dots(see, c, middle, rim) {
    const pen = this.#pen, ends = [{ at: see(this.#office), name: this.#options.name, fill: c.paper, ring: c.office }];
    if (this.#place && this.#grown > 0.95) ends.push({ at: see(this.#place), name: this.#name, fill: c.way, ring: c.casing });
    pen.font = "600 15px Overpass, system-ui, sans-serif";
    pen.textBaseline = "middle";
    ends.forEach(({ at: [x, y, z], name, fill, ring }, i) => {
      if (z < 0 || Math.hypot(x - middle, y - middle) > rim) return;
      pen.beginPath();
      pen.arc(x, y, 6.5, 0, 7);
      Object.assign(pen, { fillStyle: fill, strokeStyle: ring, lineWidth: 3.5 });
      pen.fill();
      pen.stroke();
      const wide = pen.measureText(name).width;
      const half = (top) => Math.sqrt(Math.max(0, (rim - 4) ** 2 - (Math.abs(top - middle) + 9) ** 2)); // of the disc, for a name there
      const right = ends.length > 1 ? x >= ends[1 - i].at[0] : true;
      let left = right ? x + 14 : x - 14 - wide, top = y + 1;
      if (left + wide > middle + half(top) || left < middle - half(top)) { // above or below the dot
        top = y + (ends.length > 1 && y > ends[1 - i].at[1] + 12 ? 22 : -20);
        const inside = Math.max(half(top), wide / 2);
        left = clamp(x - wide / 2, middle - inside, middle + inside - wide);
      }
      Object.assign(pen, { fillStyle: c.ink, strokeStyle: c.paper, lineWidth: 4, lineJoin: "round" });
      pen.strokeText(name, left, top);
      pen.fillText(name, left, top);
    });
  }
}
