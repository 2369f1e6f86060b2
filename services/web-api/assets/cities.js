// Offers the cities that match what is typed. Without JavaScript the form asks the server.
import { at } from "./progress.js";

const pause = 250; // ms without a key until the server is asked

// start adds the listeners to the form; choose gets latitude, longitude and name.
export function start(choose) {
  const form = document.getElementById("search");
  const list = document.getElementById("matches");
  const says = document.getElementById("city-note");
  let timer = 0, asking = new AbortController();

  form.city.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(find, pause);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    if (event.submitter?.name !== "at") return find();
    const [lat, long, ...name] = event.submitter.value.split(",");
    form.city.value = name.join(",");
    list.replaceChildren();
    says.textContent = `${name.join(",")} is chosen.`;
    form.city.focus();
    choose(lat, long, name.join(","));
  });

  async function find() {
    asking.abort();
    asking = new AbortController();
    const city = form.city.value.trim();
    if (city.length < 2) {
      list.replaceChildren();
      says.textContent = "";
      return;
    }
    try {
      const response = await fetch(at("/cities?q=" + encodeURIComponent(city)), { headers: { Accept: "application/json" }, signal: asking.signal });
      const { cities, error } = await response.json();
      list.replaceChildren(...(cities ?? []).map(button));
      says.textContent = error ? error[0].toUpperCase() + error.slice(1) + "." : words(cities.length);
    } catch (error) {
      if (error.name !== "AbortError") says.textContent = "The server could not be reached.";
    }
  }
}

function words(n) {
  if (n === 0) return "No city of that name is known.";
  return n === 1 ? "One place matches; choose it." : `${n} places match; choose one.`;
}

function button({ label, at }) {
  const b = document.createElement("button");
  Object.assign(b, { type: "submit", name: "at", value: at, textContent: label });
  return b;
}
