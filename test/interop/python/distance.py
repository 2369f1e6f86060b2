#!/usr/bin/python3
"""Stands in for Milepost's service distance, with redis-py and nothing else.

Stop the service distance first. REDIS_URL names the Redis (default redis://127.0.0.1:6379).
It hears a submission only while it runs; the contract is in ARCHITECTURE.md.
"""
import json
import math
import os

import redis

OFFICE = (32.080058, 34.864535)  # latitude and longitude in degrees
EARTH = 3958.7613  # mean radius in statute miles


def miles(lat, long):
    """The great-circle distance to the office by the haversine formula, in statute miles."""
    a, b = math.radians(lat), math.radians(OFFICE[0])
    h = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(math.radians(OFFICE[1] - long) / 2) ** 2
    return 2 * EARTH * math.asin(math.sqrt(h))


client = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"), decode_responses=True)
channel = client.pubsub()
channel.subscribe("raw_input")
for message in channel.listen():
    if message["type"] == "subscribe":
        print("listening on raw_input", flush=True)
        continue
    place = json.loads(message["data"])
    place["distance_from_velocity"] = miles(float(place["lat"]), float(place["long"]))
    client.publish("calculated_distance", json.dumps(place))
