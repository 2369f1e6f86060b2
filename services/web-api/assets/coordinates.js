// Reads coordinates as people write them, for the map and for pasting. The server reads them
// again by the same rules (coordinates.go).

const one = /^([NSEW])?\s*([+-]?)\s*([0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)\s*(?:[°º]|DEG)?\s*(?:([0-9]+(?:[.,][0-9]+)?)\s*['′’]\s*(?:([0-9]+(?:[.,][0-9]+)?)\s*(?:["″”]|'')\s*)?)?([NSEW])?$/;

const pairs = [
  /^([^;/]+)[;/]([^;/]+)$/,
  /^([^,]+(?:,[0-9]+)?[^,]*),\s+([^,]+(?:,[0-9]+)?[^,]*)$/,
  /^([^,]+),([+-][^,]+)$/,
  /^([^,]*\.[^,]*),([^,]+)$/,
  /^([^,]+),([^,]*\.[^,]*)$/,
  /^(.*[NS])\s+(.*[EW])$/,
  /^(.*[EW])\s+(.*[NS])$/,
  /^([NS].*)\s+([EW].*)$/,
  /^([+-]?[0-9.,]+°?)\s+([+-]?[0-9.,]+°?)$/,
];

const tidy = (text) => text.replace(/[\u2212\u2013]/g, "-").replace(/[\u00a0\u202f\t]/g, " ").trim().toUpperCase();

// split reads latitude and longitude, still as text, from one text; null if it does not have both.
export function split(text) {
  for (const pair of pairs) {
    const m = pair.exec(tidy(text));
    const a = m && one.exec(m[1].trim());
    const b = m && one.exec(m[2].trim());
    if (a && b) return /[EW]/.test((a[1] ?? "") + (a[6] ?? "")) ? [b[0], a[0]] : [a[0], b[0]];
  }
  return null;
}

// degrees reads one coordinate; axis is "NS" or "EW". NaN if it cannot be read.
export function degrees(text, axis) {
  const m = one.exec(tidy(text));
  if (!m) return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text.trim()) ? Number(text) : NaN;
  const [, before = "", sign, whole, minutes = "0", seconds = "0", after = ""] = m;
  const hemisphere = before + after;
  if (hemisphere.length > 1 || (hemisphere && (sign || !axis.includes(hemisphere)))) return NaN;
  const number = (s) => Number(s.replace(",", "."));
  const value = number(whole) + number(minutes) / 60 + number(seconds) / 3600;
  return sign === "-" || hemisphere === axis[1] ? -value : value;
}

// read reads both fields; null if they are not a place.
export function read(lat, long) {
  const pair = long.trim() === "" ? split(lat) : lat.trim() === "" ? split(long) : null;
  const [a, b] = pair ?? [lat, long];
  const place = { lat: degrees(a, "NS"), long: degrees(b, "EW") };
  return Math.abs(place.lat) <= 90 && Number.isFinite(place.long) ? place : null;
}
