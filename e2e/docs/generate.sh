#!/bin/sh
# Generates the JavaScript stubs of the demo's service that the documents' snippets
# import, in gen/: by protoc-gen-es for Connect, by protobuf-ts and by ts-proto
# for the clients of those names. Wants protoc and Node; run by go generate. The
# tests need none of the generators.
#
# protoc-gen-js and protoc-gen-grpc-web are missing: their npm packages are
# downloaders of binaries from GitHub. What stands in classic/ is written by hand
# with the names and signatures that those two give.
set -eu
cd "$(dirname "$0")"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
npm install --prefix "$tmp" --no-save --no-audit --no-fund --loglevel=error --ignore-scripts \
	@bufbuild/protoc-gen-es@2.17.0 @protobuf-ts/plugin@2.11.1 ts-proto@2.18.0 esbuild@0.28.2

PATH="$tmp/node_modules/.bin:$PATH"
proto="--proto_path=../../demo/demopb demo.proto"
rm -rf gen
mkdir gen gen/es gen/protobuf-ts gen/ts-proto "$tmp/ts-proto"
# shellcheck disable=SC2086 # two words
protoc --es_out=gen/es --es_opt=target=js $proto
# shellcheck disable=SC2086
protoc --plugin="protoc-gen-pbts=$(command -v protoc-gen-ts)" \
	--pbts_out=gen/protobuf-ts --pbts_opt=output_javascript $proto
rm gen/protobuf-ts/*.d.ts
# Node's modules are named with their extension.
sed -i.bak 's#from "./demo"#from "./demo.js"#' gen/protobuf-ts/demo.client.js
rm gen/protobuf-ts/*.bak
# shellcheck disable=SC2086
protoc --plugin="$(command -v protoc-gen-ts_proto)" --ts_proto_out="$tmp/ts-proto" \
	--ts_proto_opt=outputServices=nice-grpc,outputServices=generic-definitions,outputJsonMethods=false,useExactTypes=false,esModuleInterop=true $proto
esbuild "$tmp/ts-proto/demo.ts" --format=esm --log-level=warning --outfile=gen/ts-proto/demo.js
