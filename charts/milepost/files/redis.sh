#!/bin/sh
# Starts broker or cache in the working folder, /data in the image, with the configuration file that is the first argument.
set -eu

# A log that a kill cut off is mended first: redis-server 7.0 alone mends a cut command, but appends behind a cut MULTI. The
# tool asks before it cuts. A log that cannot be mended stops the start.
manifest=appendonlydir/appendonly.aof.manifest
if [ -f "$manifest" ]; then
	echo y | redis-check-aof --fix "$manifest"
fi

# The password, if there is one, comes by standard input: others on the machine can read the arguments.
password=$(printf %s "${REDIS_PASSWORD:-}" | sed 's/["\\]/\\&/g')
exec redis-server "$1" - <<EOF
requirepass "$password"
EOF
