#!/usr/bin/env bash
# Builds tools of tools/go.mod in bin/tools, those that aren't there and up to date, and prints the
# path of the last one. "go tool -n" does so, too, but ignores GOFLAGS: what tools and tests share
# would be compiled twice.
#
# usage: tools/tool.sh NAME...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bin=$(dirname "$PWD")/bin/tools
for name in "$@"; do
	package=$(sed -n "s|^	\(.*/$name\)\$|\1|p" go.mod)
	CGO_ENABLED=0 go build -buildvcs=false -o "$bin/$name" "${package:?no tool of tools/go.mod has the name $name}"
done
echo "$bin/$name"
