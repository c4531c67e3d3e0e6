#!/usr/bin/env bash
# Writes the list of the modules in a program (SBOM), in the form of CycloneDX.
#
# usage: modules.sh VERSION DOCUMENT PROGRAM
set -euo pipefail
# No serial number and no time, which would differ between two builds.
cyclonedx-gomod bin -json -std -noserial -notimestamp -version "$1" -output "$2" "$3"
# culvert-kube takes the module of culvert from the folder above. Readers of the list
# need its name.
culvert=github.com/culvert-grpc/culvert
sed -i -e "s,pkg:golang/\.\./@(devel),pkg:golang/$culvert@$1,g" \
	-e "s,\"name\": \"\.\./\",\"name\": \"$culvert\"," -e "s,\"version\": \"(devel)\",\"version\": \"$1\"," "$2"
