#!/bin/sh
# Starts the broker or the cache in the working folder, /data in the image. The argument is the
# configuration file.
set -eu

# A kill can cut off the end of the log. redis-server 7.0 alone repairs a cut command, but appends
# behind a cut MULTI. redis-check-aof repairs both; it asks before it cuts. A log that it cannot
# repair stops the start. It would take a damaged manifest for a log and cut it; redis-server
# refuses such a manifest.
manifest=appendonlydir/appendonly.aof.manifest
if [ -f "$manifest" ] && grep -q '^file ' "$manifest"; then
	echo y | redis-check-aof --fix "$manifest"
fi

# The password comes by standard input, since other users of the machine can read arguments.
password=$(printf %s "${REDIS_PASSWORD:-}" | sed 's/["\\]/\\&/g')
exec redis-server "$1" - <<EOF
requirepass "$password"
EOF
