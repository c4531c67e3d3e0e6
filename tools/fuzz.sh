#!/usr/bin/env bash
# Fuzzes each target of the root module for the given time, one after the other.
# A crasher is left in the target's testdata/fuzz, for the commit that mends it.
#
# usage: tools/fuzz.sh 30s
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

failed=()
for package in $(go list ./...); do
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		echo "==> $package $target for $1"
		output=$(go test -run '^$' -fuzz "^$target\$" -fuzztime "$1" "$package" 2>&1) && continue
		# When the time ends, a Go before 1.27 may call its own shutdown a failure:
		# https://go.dev/issue/75804
		if grep -q 'context deadline exceeded' <<<"$output" && ! grep -q 'Failing input written to' <<<"$output"; then
			continue
		fi
		printf '%s\n' "$output"
		failed+=("$package $target")
	done
done

if [ ${#failed[@]} -gt 0 ]; then
	printf 'fuzz: failed: %s\n' "${failed[@]}" >&2
	exit 1
fi
echo "fuzz: nothing found"
