#!/bin/sh
# A replicated broker: the chart (broker.mode=sentinel) and docker-compose.ha.yml start it with this.
#   ha.sh node       starts a Redis in the working folder
#   ha.sh sentinel   starts a Sentinel in the working folder
#   ha.sh ready      tells whether the Redis here has the master's data
# ME is the address of this one, NODES and SENTINELS are those of all, as host:port; only the first
# node can found the pipeline. Keep the folders: they hold the data, and what a Sentinel knows.
#
# A master with an empty folder would empty its replicas. So a node starts only when a majority of
# the Sentinels names a master, and never as the master before its folder was filled once (it then
# has a file "filled"). Until then its replica-priority is 0: Sentinel does not promote it either.
# The first node founds the pipeline if all Sentinels answer that they know no master.
set -eu
umask 077

name=pipeline
here=127.0.0.1:${ME##*:}
password=$(printf %s "${REDIS_PASSWORD:-}" | sed 's/["\\]/\\&/g')
said=

say() {
	[ "$said" = "$*" ] || echo "$*"
	said=$*
}

# ask HOST:PORT [WORD…] asks a Redis or a Sentinel, by a command or by those of the standard input.
# It prints nothing if there is no answer.
ask() {
	at=$1
	shift
	timeout 2 redis-cli -h "${at%:*}" -p "${at##*:}" --no-auth-warning "$@" 2>/dev/null || true
}

# knows SENTINEL prints the master's host:port and its epoch, "none" if the Sentinel knows no
# master, nothing if it does not answer.
knows() {
	ask "$1" sentinel master $name </dev/null | awk '
		/No such master/ { print "none"; exit }
		NR % 2 { key = $0; next }
		{ value[key] = $0 }
		END { if (value["ip"] != "") print value["ip"] ":" value["port"], value["config-epoch"] }'
}

# look asks all Sentinels. It sets master to the newest one that they name, and aware, unaware and
# all to the numbers of those that name one, that know none, and that there are.
look() {
	master='' newest=-1 aware=0 unaware=0 all=0
	for s in $SENTINELS; do
		all=$((all + 1))
		answer=$(knows "$s")
		case $answer in
		'') ;;
		none) unaware=$((unaware + 1)) ;;
		*)
			aware=$((aware + 1))
			if [ "${answer#* }" -gt "$newest" ]; then newest=${answer#* } master=${answer% *}; fi
			;;
		esac
	done
}

# strangers tells whether another node's Redis runs: then the pipeline is founded already.
strangers() {
	for n in $NODES; do
		[ "$n" = "$ME" ] || [ -z "$(ask "$n" ping </dev/null)" ] || return 0
	done
	return 1
}

# choose waits until it is known what this node is, and sets master.
choose() {
	while look; do
		if [ $aware -gt $((all / 2)) ]; then
			if [ "$master" != "$ME" ] || [ -f filled ]; then return; fi
			say "this folder is empty, and Sentinel names this node: waiting until another one is the master"
		elif [ "$ME" = "${NODES%% *}" ] && [ $unaware = $all ] && ! strangers; then
			say "no Sentinel knows a master: this node founds the pipeline"
			touch filled
			ask "${SENTINELS%% *}" sentinel monitor $name "${ME%:*}" "${ME##*:}" 2 </dev/null >/dev/null # the others ask it
		else
			say "waiting for the Sentinels: $aware of $all name a master"
		fi
		sleep 1
	done
}

# fill waits until the replica has the master's data, on its disk too.
fill() {
	until [ "$(ask "$here" info </dev/null | grep -c -e '^master_link_status:up' -e '^aof_enabled:1' \
		-e '^aof_rewrite_in_progress:0' -e '^aof_rewrite_scheduled:0' -e '^aof_last_bgrewrite_status:ok')" = 5 ]; do
		sleep 1
	done
	touch filled
	ask "$here" config set replica-priority 100 </dev/null
}

# follow lets this node, for its first half minute, follow the master that the Sentinels choose
# meanwhile. Sentinel itself would tell it after 10 s only, and the pipeline waits for replicas.
follow() {
	now=$master
	end=$(($(date +%s) + 30))
	while [ "$(date +%s)" -lt "$end" ]; do
		sleep 1
		look
		if [ $aware -gt $((all / 2)) ] && [ "$master" != "$now" ] && [ "$master" != "$ME" ]; then
			now=$master
			ask "$here" replicaof "${now%:*}" "${now##*:}" </dev/null
		fi
	done
}

id() { printf %s "$1" | sha1sum | cut -c 1-40; }

# basics prints what a Sentinel needs before it knows a master. An ID of its own would count a
# Sentinel twice that lost its folder, and move the majority.
basics() {
	cat <<EOT
port ${ME##*:}
sentinel myid $(id "$ME")
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip ${ME%:*}
sentinel announce-port ${ME##*:}
requirepass "$password"
EOT
}

# settings prints the rest: the master of the standard input, a monitor line and epochs, and all the
# others. Sentinel itself could not find replicas while the master is away.
settings() {
	cat
	for n in $NODES; do
		[ "$n" = "$1" ] || echo "sentinel known-replica $name ${n%:*} ${n##*:}"
	done
	for s in $SENTINELS; do
		[ "$s" = "$ME" ] || echo "sentinel known-sentinel $name ${s%:*} ${s##*:} $(id "$s")"
	done
	timeout=$((3 * ${DOWN_AFTER:-3000})) # after twice this a failed failover is tried again
	[ $timeout -ge 3000 ] || timeout=3000
	echo "sentinel failover-timeout $name $timeout"
	echo "sentinel parallel-syncs $name 2"
	[ -z "$password" ] || echo "sentinel auth-pass $name \"$password\""
}

# learn runs a Sentinel that answers that it knows no master, until it is told one or another
# Sentinel knows one. It sets master and newest.
learn() {
	basics >sentinel.conf
	redis-sentinel sentinel.conf &
	bare=$!
	trap 'kill $bare; exit 143' TERM
	until [ -n "$master" ]; do
		sleep 1
		look
	done
	kill $bare
	wait $bare || true
	trap - TERM
}

# hurry makes the Sentinel look for a new master sooner than after 30 s, its default. When all
# start at once, the master has that long to come back: no replica has more.
hurry() {
	end=$(($(date +%s) + ${PATIENCE:-30}))
	until [ "$(date +%s)" -ge "$end" ] || [ -n "$(ask "$master" ping </dev/null)" ]; do sleep 1; done
	until ask "$here" sentinel set $name down-after-milliseconds "${DOWN_AFTER:-3000}" </dev/null | grep -q '^OK'; do sleep 1; done
}

# run runs a server until it ends. This shell stays process 1 and collects what ends without a
# parent, such as busybox' timeout. Redis would collect one each 0.1 s, and only while it forks:
# replicas waited 8 s for the end of a transfer.
run() {
	"$@" &
	server=$!
	trap 'kill $server' TERM INT
	status=0
	wait $server || status=$?
	while kill -0 $server 2>/dev/null; do wait $server || status=$?; done # a signal ends the first wait
	exit $status
}

trap 'exit 143' TERM # process 1 ignores a signal otherwise
case $1 in
node)
	choose
	conf=${NODE_CONF:-/tmp/node.conf}
	{
		echo "include ${BROKER_CONF:-/etc/redis/broker.conf}"
		echo "port ${ME##*:}"
		echo "replica-announce-ip ${ME%:*}"
		echo "replica-announce-port ${ME##*:}"
		echo "min-replicas-to-write ${MIN_REPLICAS:-2}"
		echo "min-replicas-max-lag 3"
		echo "repl-diskless-load disabled"
		echo "repl-diskless-sync-delay 0" # a replica that comes back is missed
		# A pod's old address does not answer, and a replica would try it for a minute.
		echo "repl-ping-replica-period 1"
		echo "repl-timeout 6"
		echo "repl-backlog-size 32mb"
		[ -z "$password" ] || echo "masterauth \"$password\""
		[ -f filled ] || echo "replica-priority 0"
		[ "$master" = "$ME" ] || echo "replicaof ${master%:*} ${master##*:}"
	} >"$conf"
	[ -f filled ] || fill &
	follow &
	run sh "$(dirname "$0")/redis.sh" "$conf"
	;;
sentinel)
	master=''
	kept=$(grep -E "^sentinel (monitor|config-epoch|leader-epoch|current-epoch) " sentinel.conf 2>/dev/null || true)
	case $kept in
	*"sentinel monitor $name "*) master=$(echo "$kept" | awk '$2 == "monitor" { print $4 ":" $5 }') ;;
	*)
		learn
		kept="sentinel monitor $name ${master%:*} ${master##*:} 2
sentinel config-epoch $name $newest"
		;;
	esac
	{
		basics
		echo "$kept" | settings "$master"
	} >sentinel.new
	mv sentinel.new sentinel.conf
	hurry &
	run redis-sentinel sentinel.conf
	;;
ready)
	ask "$here" info replication </dev/null | grep -q -e '^role:master' -e '^master_link_status:up'
	;;
esac
