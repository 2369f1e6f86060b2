import { at } from "./progress.js";

// showWeather shows in the card the weather at its place, or why it is not known. The data come
// from GET /overview.
export async function showWeather(card) {
  const { lat, long } = card.dataset;
  const out = card.querySelector(".weather");
  let text = "The weather there is not available right now.";
  try {
    const response = await fetch(at("/overview?") + new URLSearchParams({ lat, long }), { headers: { Accept: "application/json" } });
    const { weather, missing } = await response.json();
    const reason = missing?.find((m) => m.what === "weather")?.why;
    if (reason?.endsWith("switched off")) text = ""; // the operator wants no weather
    else if (weather) text = `${weather.temperature.toFixed(1)} °C there${weather.stale ? `, at ${new Date(weather.at).toLocaleTimeString()}` : " now"}`;
    else if (reason) text = `The weather there is not available: ${reason}.`;
  } catch {
    // The server could not be reached.
  }
  out.textContent = text;
}
