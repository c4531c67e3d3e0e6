#!/bin/sh
# Generates the Go code of fleet.proto. It needs protoc; go generate runs it.
set -eu
cd "$(dirname "$0")"
tools=../../tools # their versions are pinned there
imports=$(mktemp)
trap 'rm -f "$imports"' EXIT
go run fleetpb/imports.go >"$imports"
protoc --descriptor_set_in="$imports" --proto_path=. \
	--plugin="$($tools/tool.sh protoc-gen-go)" \
	--plugin="$($tools/tool.sh protoc-gen-go-grpc)" \
	--go_out=fleetpb --go_opt=paths=source_relative \
	--go-grpc_out=fleetpb --go-grpc_opt=paths=source_relative \
	fleet.proto
