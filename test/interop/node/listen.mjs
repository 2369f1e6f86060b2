// Prints what travels on Milepost's channels, with node-redis. REDIS_URL names the Redis.
import { createClient } from "redis";

const client = await createClient({ url: process.env.REDIS_URL ?? "redis://127.0.0.1:6379" }).connect();
await client.subscribe(["raw_input", "calculated_distance", "user:email", "email:sent"], (payload, channel) => {
  console.log(channel, payload);
});
