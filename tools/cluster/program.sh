#!/usr/bin/env bash
# Prints the paths of programs of a Kubernetes cluster: program.sh NAME…
# Go builds them if they aren't there yet. "etcd" comes from tools/etcd, "helm" from
# tools/helm.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# The version that a cluster reports is a flag of the linker, which "go tool" ignores.
# Packages are compiled with the flags of "go tool", so that Go compiles them once.
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${version#v1.}
stamp=k8s.io/component-base/version
ldflags="-w -X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=${minor%%.*}"
built=$(go env GOCACHE)/culvert-cluster
mkdir -p "$built"
export CGO_ENABLED=0

for name; do
	case $name in
	etcd) go -C ../etcd tool -n server ;;
	helm) go -C ../helm tool -n helm ;;
	*)
		go build -ldflags="$ldflags" -o "$built/" "k8s.io/kubernetes/cmd/$name"
		echo "$built/$name"
		;;
	esac
done
