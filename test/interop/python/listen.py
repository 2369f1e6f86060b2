#!/usr/bin/python3
"""Prints what travels on Milepost's channels, with redis-py. REDIS_URL names the Redis."""
import os

import redis

client = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"), decode_responses=True)
channel = client.pubsub()
channel.subscribe("raw_input", "calculated_distance", "user:email", "email:sent")
for message in channel.listen():
    print(message["channel"], message["data"], flush=True)
