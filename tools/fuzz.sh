#!/usr/bin/env bash
# Fuzzes each target of the root module for the given time, one after the other.
#
# usage: tools/fuzz.sh 30s
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for package in $(go list ./...); do
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		echo "==> $package $target for $1"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$1" "$package"
	done
done
