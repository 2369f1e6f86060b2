// The weather at a submitted place, from the overview that the server makes of other services' answers.

// showWeather writes it into the card, or why it is not known.
export async function showWeather(card) {
  const { lat, long } = card.dataset;
  const out = card.querySelector(".weather");
  let text = "The weather there is not known right now.";
  try {
    const response = await fetch("/overview?" + new URLSearchParams({ lat, long }), { headers: { Accept: "application/json" } });
    const { weather, missing } = await response.json();
    const reason = missing?.find((m) => m.what === "weather")?.why;
    if (reason?.endsWith("switched off")) text = ""; // by the operator, who knows
    else if (weather) text = `${weather.temperature.toFixed(1)} °C there${weather.stale ? `, at ${new Date(weather.at).toLocaleTimeString()}` : " now"}`;
    else if (reason) text = `The weather there is not known: ${reason}.`;
  } catch {
    // The server could not be reached; the card says so in its own way.
  }
  out.textContent = text;
}
