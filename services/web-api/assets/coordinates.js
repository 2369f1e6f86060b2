// Reads a place as people write it, for the map and while typing. The server reads it again by the
// same grammar (services/web-api/coordinates); one table of examples there tests both.

const links = [
  /!3D(-?[0-9.]+)!4D(-?[0-9.]+)/,
  /[?&](?:Q|LL|QUERY|COORDINATE|DADDR|SLL|CENTER)=(?:LOC:)?(-?[0-9.]+),[ +]*(-?[0-9.]+)/,
  /[?&]MLAT=(-?[0-9.]+)&MLON=(-?[0-9.]+)/,
  /\/(?:@|SEARCH\/|PLACE\/)(-?[0-9.]+),[ +]*(-?[0-9.]+)/,
  /#MAP=[0-9.]+\/(-?[0-9.]+)\/(-?[0-9.]+)/,
  /[?&]CP=(-?[0-9.]+)~(-?[0-9.]+)/,
  /^GEO:(-?[0-9.]+),(-?[0-9.]+)/,
];
const isLink = /^(?:HTTPS?:\/\/|GEO:|[A-Z.]*(?:GOOGLE|GOO\.GL|APPLE|OPENSTREETMAP|BING)\.)/;
const label = /"?\b(?:LATITUDE|LONGITUDE|LAT|LONG|LNG|LON)\b"?\s*[:=]?/g;
const decimalNumber = /^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:E[-+]?[0-9]+)?$/;
const single = new RegExp("^([NSEW])?\\s*([-+]?)\\s*([0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)\\s*(?:°|DEG|D)?" +
  "(?:\\s*[: ]?\\s*([0-9]+(?:[.,][0-9]+)?)\\s*'?(?:\\s*[: ]?\\s*([0-9]+(?:[.,][0-9]+)?)\\s*\"?)?)?\\s*([NSEW])?$");
const cuts = [
  /\s*[;/~]\s*/dg,
  /\s*,(?:\s+|\s*([-+]))/dg,
  /\s*,\s*/dg,
  /\s+([NSEW])/dg,
  /[NSEW]\s*()/dg,
  /[°'"0-9]\s+([-+]?[0-9.,]+\s*(?:°|DEG))/dg,
  /\s+([-+])/dg,
];
const isLat = (h) => h === "N" || h === "S";
const isLong = (h) => h === "E" || h === "W";

const plain = (text) => text
  .replace(/[\u2010-\u2015\u2212\ufe58\ufe63\uff0d]/g, "-").replace(/\uff0b/g, "+")
  .replace(/[\u00ba\u02da\u2218]/g, "°")
  .replace(/[\u2032\u2018\u2019\u00b4\u02b9\u02bc`\uff07]/g, "'")
  .replace(/[\u2033\u201c\u201d\u201e\u02ba\uff02]|''/g, '"')
  .replace(/[\uff0c\u3001]/g, ",").replace(/\uff0e/g, ".").replace(/\uff1a/g, ":").replace(/\uff1b/g, ";");

const tidy = (text) => plain(text
  .replace(/[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g, "")
  .replace(/[\t\n\r\u00a0\u2000-\u200a\u202f\u205f\u3000]/g, " ")
  .replace(/[\uff10-\uff19]/g, (d) => String.fromCharCode(d.charCodeAt(0) - 0xff10 + 48)))
  .trim().toUpperCase();

const strip = (text) => text.replace(label, " ").replace(/^[ ()[\]{}]+|[ ()[\]{}]+$/g, "");

// one reads one coordinate.
function one(text) {
  text = strip(text);
  if (text === "") return { wrong: "missing" };
  if (decimalNumber.test(text)) {
    const sign = /^[-+]/.test(text) ? text[0] : "";
    return { sign, numbers: [text.slice(sign.length), "", ""], hemisphere: "" };
  }
  const m = single.exec(text);
  if (!m) return { wrong: "not-a-number" };
  const hemisphere = (m[1] ?? "") + (m[6] ?? "");
  if (hemisphere.length > 1) return { wrong: "two-hemispheres" };
  return { sign: m[2], numbers: m.slice(3, 6).map((n) => (n ?? "").replace(",", ".")), hemisphere };
}

function splits(text, otherEmpty) {
  const at = [];
  cuts.forEach((cut, i) => {
    const found = [...text.matchAll(cut)];
    if (found.length === 0 || (i === 2 && !text.includes("."))) return;
    const m = i === 4 ? found[0] : found[Math.floor(found.length / 2)];
    const second = m.indices[1];
    if (i === 4) {
      if (m.indices[0][1] < text.length) at.push([second[0], second[0]]);
    } else at.push(second ? [second[0], second[0]] : m.indices[0]);
  });
  const blanks = [...text.matchAll(/\s+/dg)];
  if (otherEmpty && blanks.length % 2 === 1) at.push(blanks[Math.floor(blanks.length / 2)].indices[0]);
  return at;
}

// pair reads two coordinates from one text; null if it does not hold both.
function pair(text, otherEmpty) {
  const address = text.replaceAll("%2C", ",");
  for (const link of links) {
    const m = link.exec(address);
    if (m) return [one(m[1]), one(m[2])];
  }
  if (isLink.test(text) || decimalNumber.test(text)) return null;
  const names = text.match(label) ?? [];
  text = strip(text);
  for (const [end, start] of splits(text, otherEmpty)) {
    const a = one(text.slice(0, end)), b = one(text.slice(start));
    if (a.wrong || b.wrong) continue;
    const longFirst = isLong(a.hemisphere) || (names.length === 2 && !names[0].includes("LAT"));
    return longFirst && !isLong(b.hemisphere) ? [b, a] : [a, b];
  }
  return null;
}

// decimal returns the text of decimal degrees, or the reason why there is none.
function decimal(c, axis) {
  if (c.wrong) return { wrong: c.wrong };
  if (c.hemisphere && !axis.includes(c.hemisphere)) return { wrong: "wrong-hemisphere" };
  if (c.hemisphere && c.sign) return { wrong: "sign-and-hemisphere" };
  let sign = c.hemisphere && c.hemisphere === axis[1] ? "-" : c.sign;
  const [d, m, s] = c.numbers;
  if (m === "") return { text: sign + d };
  if (d.includes(".") || (s !== "" && m.includes(".")) || Number(m) >= 60 || Number("0" + s) >= 60) return { wrong: "sixties" };
  if (sign === "+") sign = "";
  return { text: sign + (Number(d) + Number(m) / 60 + Number("0" + s) / 3600).toFixed(6) };
}

const beyond90 = (text) => !(Math.abs(Number(text)) <= 90);

function checked(a, b) {
  const north = decimal(a, "NS"), east = decimal(b, "EW"), wrong = {};
  if (north.wrong) wrong.lat = north.wrong;
  else if (beyond90(north.text)) wrong.lat = !east.wrong && !beyond90(east.text) ? "swapped" : "out-of-range";
  if (east.wrong) wrong.long = east.wrong;
  return Object.keys(wrong).length ? { wrong } : { lat: north.text, long: east.text };
}

// parse reads both fields. It returns {lat, long}, texts of decimal degrees, or
// {wrong: {field: reason}}.
export function parse(lat, long) {
  const first = tidy(lat), second = tidy(long);
  const a = pair(first, second === ""), b = pair(second, first === "");
  if (a && b && JSON.stringify(a) !== JSON.stringify(b)) return { wrong: { long: "two-places" } };
  if (a ?? b) return checked(...(a ?? b));
  if (isLink.test(first)) return { wrong: { lat: "short-link" } };
  if (isLink.test(second)) return { wrong: { long: "short-link" } };
  const x = one(first), y = one(second);
  return isLong(x.hemisphere) && isLat(y.hemisphere) ? checked(y, x) : checked(x, y);
}

// read returns the place as numbers, or null if the fields are not a place.
export function read(lat, long) {
  const place = parse(lat, long);
  return place.wrong || !Number.isFinite(Number(place.long)) ? null : { lat: Number(place.lat), long: Number(place.long) };
}

// split returns the texts of latitude and longitude from one text that holds both, else null. Other
// is what the other field holds.
export function split(text, other = "") {
  const both = pair(tidy(text), other.trim() === "");
  const place = both && checked(...both);
  return place && !place.wrong ? [place.lat, place.long] : null;
}
