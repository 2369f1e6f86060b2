// Stands in for Milepost's service distance, with node-redis and nothing else: `npm install redis`.
// Stop the service distance first. REDIS_URL names the Redis (default redis://127.0.0.1:6379).
// It hears a submission only while it runs; the contract is in ARCHITECTURE.md.
import { createClient } from "redis";

const office = { lat: 32.080058, long: 34.864535 }; // degrees
const earth = 3958.7613; // mean radius in statute miles
const radians = (degrees) => (degrees * Math.PI) / 180;

// miles is the great-circle distance to the office by the haversine formula, in statute miles.
function miles(lat, long) {
  const a = radians(lat), b = radians(office.lat);
  const h = Math.sin((b - a) / 2) ** 2 + Math.cos(a) * Math.cos(b) * Math.sin(radians(office.long - long) / 2) ** 2;
  return 2 * earth * Math.asin(Math.sqrt(h));
}

const publisher = await createClient({ url: process.env.REDIS_URL ?? "redis://127.0.0.1:6379" }).connect();
const subscriber = await publisher.duplicate().connect();
await subscriber.subscribe("raw_input", async (payload) => {
  const place = JSON.parse(payload);
  place.distance_from_velocity = miles(Number(place.lat), Number(place.long));
  await publisher.publish("calculated_distance", JSON.stringify(place));
});
console.log("listening on raw_input");
