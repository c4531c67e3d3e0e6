#!/bin/sh
# Generates the Go and TypeScript code of demo.proto, and the TypeScript of the
# error details that the page shows. It needs protoc and Node; go generate runs it.
set -eu
cd "$(dirname "$0")"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
tools=../tools # their versions are pinned there

protoc --proto_path=.. \
	--plugin="$($tools/tool.sh protoc-gen-go)" \
	--plugin="$($tools/tool.sh protoc-gen-go-grpc)" \
	--go_out=.. --go_opt=paths=source_relative \
	--go-grpc_out=.. --go-grpc_opt=paths=source_relative \
	demo/demopb/demo.proto

# google/rpc/*.proto come out of the Go module that carries their descriptors,
# so that both languages speak the same version and no .proto file is copied.
go run ./web/descriptors >"$tmp/set.binpb"
(cd web && npm ci --silent)
rm -rf web/src/gen
mkdir -p web/src/gen
PATH="web/node_modules/.bin:$PATH" protoc --descriptor_set_in="$tmp/set.binpb" \
	--es_out=web/src/gen --es_opt=target=ts,import_extension=ts \
	google/rpc/status.proto google/rpc/error_details.proto demo/demopb/demo.proto
