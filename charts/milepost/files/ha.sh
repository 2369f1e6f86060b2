#!/bin/sh
# Starts a replicated broker or a Sentinel for docker-compose.ha.yml.
#   ha.sh broker ME NODE…      ME is one of the nodes; the first is the master at the first start
#   ha.sh sentinel PORT NODE   NODE is the first of the nodes
# Nodes are host:port.
# The folder must be kept: it has the data, and what the Sentinel knows. SENTINELS lists host:port.
set -eu

name=pipeline
host() { printf %s "${1%:*}"; }
port() { printf %s "${1##*:}"; }
password=$(printf %s "${REDIS_PASSWORD:-}" | sed 's/["\\]/\\&/g')
umask 077

if [ "$1" = sentinel ]; then
	[ -f sentinel.conf ] || cat >sentinel.conf <<EOT
port $2
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel monitor $name $(host "$3") $(port "$3") 2
sentinel auth-pass $name "$password"
sentinel down-after-milliseconds $name ${DOWN_AFTER:-3000}
sentinel failover-timeout $name 10000
sentinel parallel-syncs $name 2
EOT
	[ -n "$password" ] || sed -i '/^sentinel auth-pass/d' sentinel.conf
	exec redis-sentinel sentinel.conf
fi

me=$2
shift 2
# ask HOST:PORT WORD… asks a Redis or a Sentinel; nothing if it does not answer.
ask() {
	at=$1
	shift
	timeout 2 redis-cli -h "$(host "$at")" -p "$(port "$at")" "$@" 2>/dev/null || true
}
# The master that the Sentinels know, or the first node.
master() {
	for s in $SENTINELS; do
		found=$(ask "$s" --no-auth-warning sentinel get-master-addr-by-name $name | paste -sd: -)
		case $found in *:[0-9]*) printf %s "$found"; return ;; esac
	done
	printf %s "$1"
}

# A master whose folder is empty would empty its replicas. While another node has data, wait until
# the Sentinels have made that one the master.
while [ "$(master "$@")" = "$me" ] && ! [ -f appendonlydir/appendonly.aof.manifest ]; do
	data=
	for n in "$@"; do
		[ "$n" = "$me" ] || case $(ask "$n" dbsize) in '' | 0) ;; *[!0-9]*) ;; *) data=$n ;; esac
	done
	[ -n "$data" ] || break
	echo "this folder is empty, and $data has data: waiting until that is the master"
	sleep 1
done

now=$(master "$@")
{
	echo "include ${BROKER_CONF:-/etc/redis/broker.conf}"
	echo "port $(port "$me")"
	echo "replica-announce-ip $(host "$me")"
	echo "replica-announce-port $(port "$me")"
	echo "repl-diskless-load disabled"
	echo "min-replicas-to-write ${MIN_REPLICAS:-1}"
	echo "min-replicas-max-lag 3"
	[ -z "$password" ] || echo "masterauth \"$password\""
	[ "$now" = "$me" ] || echo "replicaof $(host "$now") $(port "$now")"
} >node.conf
exec sh "$(dirname "$0")/redis.sh" node.conf
