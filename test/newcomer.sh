#!/bin/sh
# newcomer.sh does what README.md and CONTRIBUTING.md say, block by block, in a fresh clone with an
# empty GOCACHE, and prints how long each block took. Modules are not downloaded again. It needs the
# ports of `make run` and setsid, and ends with 0 if everything worked.
set -eu
repo=$(cd "$(dirname "$0")/.." && pwd)
dir=$(mktemp -d)
jobs=
trap 'for j in $jobs; do kill -TERM -- "-$j" 2>/dev/null || :; done; sleep 3; rm -rf "$dir"' EXIT
git clone -q "$repo" "$dir/milepost"
cd "$dir/milepost"
mkdir "$dir/cache"
export GOCACHE="$dir/cache"

# block FILE TEST N prints the Nth block of commands that TEST runs.
block() {
	awk -v want="<!-- test: $2 -->" -v n="$3" '$0 == want { m = 1; next }
		m && /^```sh/ { k++; p = k == n; m = 0; next } /^```/ { p = 0 } p' "$1"
}

# until_true SECONDS WHAT COMMAND... waits until the command succeeds.
until_true() {
	most=$1 what=$2 since=$(date +%s)
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ $(($(date +%s) - since)) -lt "$most" ] || { echo "newcomer: $what did not happen in $most s"; exit 1; }
		sleep 1
	done
}

# does FILE TEST N runs a block in this shell, so that its exports hold for the next ones.
does() {
	start=$(date +%s)
	printf '\n== %s, %s, block %s\n' "$1" "$2" "$3"
	block "$@" >"$dir/block"
	sed 's/^/$ /' "$dir/block"
	. "$dir/block"
	echo "== $(($(date +%s) - start)) s"
}

# starts FILE TEST N runs a block in the background.
starts() {
	printf '\n== %s, %s, block %s\n' "$1" "$2" "$3"
	block "$@" >"$dir/block.$3"
	sed 's/^/$ /' "$dir/block.$3"
	setsid sh "$dir/block.$3" >"$dir/out.$3" 2>&1 &
	jobs="$jobs $!"
}

begin=$(date +%s)
starts README.md TestReadmeRun 1
until_true 1800 "the page" curl -fsS localhost:8000
echo "== $(($(date +%s) - begin)) s until the page answers"
until_true 60 "readiness" curl -fsS localhost:9110/readyz
cat "$dir/out.1"
does README.md TestReadmeRun 2
does README.md TestReadmeRun 3
does CONTRIBUTING.md TestAddService 1
starts CONTRIBUTING.md TestAddService 2
until_true 900 "the new service reads" grep -q 'listening on raw_input, tides' "$dir/out.2"
curl -fsS localhost:8000/distance -H 'Accept: application/json' -d email=eve@example.com -d lat=48.8566 -d long=2.3522
until_true 60 "an event on tides" grep -q 'tides  *{"id"' "$dir/out.2"
until_true 60 "the third email" grep -q eve@example.com sent_emails
tail -n 5 "$dir/out.2"
echo "newcomer: everything worked, in $(($(date +%s) - begin)) s"
