#!/usr/bin/env bash
# Fuzzes each target of every module for the given time, one after the other.
# Go's cache keeps the interesting inputs of a target, and the next run begins with
# them (`go env GOCACHE`/fuzz; "go clean -fuzzcache" removes them). A crasher stays
# in the target's testdata/fuzz, for the commit that fixes it.
#
# Go minimizes each interesting input, by default for up to a minute, and fuzzes
# nothing meanwhile. A thousand attempts for each input are enough.
#
# usage: tools/fuzz.sh 30s
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Found by grep, since Go would build every test of every module to list them.
tests=$(git ls-files --cached --others --exclude-standard -- '*_test.go' | xargs grep -l '^func Fuzz')
packages=$(xargs -n1 dirname <<<"$tests" | sort -u)

kept() { # kept PACKAGE TARGET: prints the number of inputs in the cache
	local dir
	dir=$(go env GOCACHE)/fuzz/$(go -C "$1" list .)/$2
	{ [ ! -d "$dir" ] || find "$dir" -type f; } | wc -l
}

failed=()
for package in $packages; do
	for target in $(grep -ho '^func Fuzz[A-Za-z0-9_]*' "$package"/*_test.go | sed 's/^func //'); do
		echo "==> $package $target for $1, from $(kept "$package" "$target") kept inputs"
		output=$(go -C "$package" test -run '^$' -fuzz "^$target\$" -fuzztime "$1" -fuzzminimizetime 1000x . 2>&1) && continue
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
