#!/bin/sh
# Generates the JavaScript stubs of probe.proto, in gen/: by protoc-gen-es for
# Connect, by protobuf-ts and by ts-proto for the clients of those names. Wants
# protoc and Node; run by go generate. The tests need none of the generators.
#
# protoc-gen-js and protoc-gen-grpc-web are missing: their npm packages are
# downloaders of binaries from GitHub. grpc-web and improbable's client take
# their methods as values, which client-grpc-web.js and client-improbable.js
# make of the descriptors in gen/probe_pb.js.
set -eu
cd "$(dirname "$0")"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
npm install --prefix "$tmp" --no-save --no-audit --no-fund --loglevel=error --ignore-scripts \
	@bufbuild/protoc-gen-es@2.17.0 @protobuf-ts/plugin@2.11.1 ts-proto@2.18.0 esbuild@0.28.2

rm -rf gen
mkdir gen
PATH="$tmp/node_modules/.bin:$PATH"
protoc --proto_path=../e2epb --es_out=gen --es_opt=target=js probe.proto

mkdir gen/protobuf-ts
protoc --proto_path=../e2epb --plugin="protoc-gen-pbts=$(command -v protoc-gen-ts)" \
	--pbts_out=gen/protobuf-ts --pbts_opt=output_javascript probe.proto
rm gen/protobuf-ts/*.d.ts
# Node's modules are named with their extension.
sed -i.bak 's#from "./probe"#from "./probe.js"#' gen/protobuf-ts/probe.client.js
rm gen/protobuf-ts/*.bak

mkdir gen/ts-proto "$tmp/ts-proto"
protoc --proto_path=../e2epb --plugin="$(command -v protoc-gen-ts_proto)" --ts_proto_out="$tmp/ts-proto" \
	--ts_proto_opt=outputServices=nice-grpc,outputServices=generic-definitions,outputJsonMethods=false,useExactTypes=false,esModuleInterop=true probe.proto
esbuild "$tmp/ts-proto/probe.ts" --format=esm --log-level=warning --outfile=gen/ts-proto/probe.js
