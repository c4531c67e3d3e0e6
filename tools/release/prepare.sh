#!/usr/bin/env bash
# Writes the generated files of archives and packages to bin/packages, for
# .goreleaser.yaml: the completions, as the programs print them, the unit for systemd
# with the path of the program in packages, and the npm package.
#
# usage: tools/release/prepare.sh VERSION
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=$PWD/bin/packages
programs=$(mktemp -d)
trap 'rm -rf "$programs"' EXIT

rm -rf "$out"
mkdir -p "$out/completions"
# For this machine, whatever the target is.
export CGO_ENABLED=0 GOOS= GOARCH=
go build -trimpath -ldflags=-w -o "$programs/" ./cmd/culvert
go -C kubernetes build -trimpath -ldflags=-w -o "$programs/" ./cmd/culvert-kube
for program in culvert culvert-kube; do
	for shell in bash zsh fish; do
		"$programs/$program" completion "$shell" >"$out/completions/$program.$shell"
	done
done

sed 's,^\(Exec[A-Za-z]*\)=/usr/local/bin/,\1=/usr/bin/,' deploy/systemd/culvert.service >"$out/culvert.service"
if ! grep -q '^ExecStart=/usr/bin/culvert ' "$out/culvert.service"; then
	echo "prepare.sh: deploy/systemd/culvert.service has no ExecStart=/usr/local/bin/culvert" >&2
	exit 1
fi

make --no-print-directory --silent web/node_modules/.package-lock.json
cd web
npm run --silent build
node package.js --release "$1" "$out/npm"
