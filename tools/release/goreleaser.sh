#!/usr/bin/env bash
# Runs the pinned goreleaser in the root of the tree, with what it runs in its PATH.
#
# usage: tools/release/goreleaser.sh check
#        tools/release/goreleaser.sh release --snapshot --clean
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
goreleaser=$(go -C tools/release tool -n goreleaser)
sbom=$(go -C tools/release tool -n cyclonedx-gomod)
PATH=$PATH:${sbom%/*}:$PWD/tools/release

# Of a clone without a remote goreleaser takes neither the commit nor its time.
if [ -z "$(git remote)" ]; then
	export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=remote.origin.url
	export GIT_CONFIG_VALUE_0=https://github.com/culvert-grpc/culvert
fi
exec "$goreleaser" "$@"
