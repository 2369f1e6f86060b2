#!/bin/sh
# Starts broker or cache: redis-server on /data, with the configuration file that is the first argument. A log that a kill
# cut off is mended first: redis-server alone mends a cut command, but appends behind a cut MULTI. The password in
# REDIS_PASSWORD, if there is one, is asked for; it stays out of the arguments, which others on the machine can read.
set -eu
manifest=/data/appendonlydir/appendonly.aof.manifest
if [ -f "$manifest" ]; then
	echo y | redis-check-aof --fix "$manifest"
fi
if [ -n "${REDIS_PASSWORD:-}" ]; then
	(umask 077 && { cat "$1" && printf '\nrequirepass "%s"\n' "$REDIS_PASSWORD"; } > /tmp/redis.conf)
	set -- /tmp/redis.conf
fi
exec redis-server "$1" --dir /data
