#!/bin/sh
# A node of a Redis Cluster, for docker-compose.cluster.yml:
#   cluster.sh node    starts a Redis in the working folder
#   cluster.sh ready   succeeds if the cluster serves all slots, and this node is a master with some of
#                      them, or a replica that has its master's data
# ME is the address of this node, NODES are the addresses of all, as host:port. The first node makes
# them a cluster when all answer and none has a key. Keep the folders: they hold the data and the
# nodes' IDs.
set -eu
umask 077
[ -n "${REDISCLI_AUTH:-}" ] || unset REDISCLI_AUTH # redis-cli --cluster would send the empty one

# ask HOST:PORT WORD… prints nothing if there is no answer.
ask() {
	at=$1
	shift
	redis-cli -h "${at%:*}" -p "${at##*:}" --no-auth-warning "$@" 2>/dev/null || true
}

# empty tells whether all nodes answer and none has a key.
empty() {
	for n in $NODES; do
		[ "$(ask "$n" dbsize)" = 0 ] || return 1
	done
}

# found makes the cluster, and then the file "founded". An earlier try may have been cut off.
found() {
	until empty; do sleep 1; done
	for n in $NODES; do ask "$n" cluster reset hard; done
	# The addresses are words: shellcheck disable=SC2086
	redis-cli --no-auth-warning --cluster create $NODES --cluster-replicas 1 --cluster-yes && touch founded
}

case $1 in
node)
	conf=${NODE_CONF:-/tmp/node.conf}
	password=$(printf %s "${REDIS_PASSWORD:-}" | sed 's/["\\]/\\&/g')
	cat >"$conf" <<EOT
include ${BROKER_CONF:-/etc/redis/broker.conf}
port ${ME##*:}
cluster-enabled yes
cluster-announce-ip ${ME%:*}
# A master that is away stops its own shards only, and is replaced after so many ms.
cluster-require-full-coverage no
cluster-node-timeout 3000
# A replica that comes back is missed.
repl-diskless-load disabled
repl-diskless-sync-delay 0
masterauth "$password"
EOT
	[ "$ME" != "${NODES%% *}" ] || until [ -f founded ]; do found || sleep 1; done &
	exec sh "${REDIS_SH:-/etc/redis/redis.sh}" "$conf"
	;;
ready)
	here=127.0.0.1:${ME##*:}
	case $(ask "$here" info replication) in
	*role:master*) ask "$here" cluster nodes | grep -q 'myself,master.* connected .' ;; # it has slots
	*) ask "$here" info replication | grep -q '^master_link_status:up' ;;
	esac
	about=$(ask "$here" cluster info)
	case $about in *cluster_state:ok*cluster_slots_ok:16384*) ;; *) exit 1 ;; esac
	;;
esac
