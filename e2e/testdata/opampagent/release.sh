#!/bin/bash
# release.sh fetch               fetches what the agents of all releases are built of
# release.sh build RELEASE FILE  builds the agent of one release, without the network
#
# Each release of opamp-go needs a module of its own. It is made here, with the other
# modules that the tests have: go.sum pins them all.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# module makes the module of a release in $work.
module() {
	rm -rf "$work"/*
	cp "$here"/*.go "$here/go.sum" "$work"
	cat >"$work/go.mod" <<END
module agent

go 1.24.0

require (
	github.com/cenkalti/backoff/v4 v4.3.0
	github.com/google/uuid v1.6.0
	github.com/gorilla/websocket v1.5.3
	github.com/open-telemetry/opamp-go $1
	google.golang.org/protobuf v1.36.12
)
END
}

tags() { awk -v release="$1" '$1 == release { print $2 }' "$here/releases"; }

case $1 in
fetch)
	while read -r release tags; do
		module "$release"
		(cd "$work" && go list -mod=mod -tags "$tags" -deps . >/dev/null)
		cmp -s "$here/go.sum" "$work/go.sum" || { echo "$here/go.sum lacks lines for opamp-go $release:" >&2; diff "$here/go.sum" "$work/go.sum" >&2; exit 1; }
	done <"$here/releases"
	;;
build)
	module "$2"
	cd "$work"
	GOPROXY=off go build -mod=mod -tags "$(tags "$2")" -o "$3" .
	;;
esac
