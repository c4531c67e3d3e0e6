#!/bin/sh
# Generates the Go code of tunnel.proto. It needs protoc; go generate runs it.
set -eu
cd "$(dirname "$0")"
tools=../../tools # their versions are pinned there
protoc \
	--plugin="$($tools/tool.sh protoc-gen-go)" \
	--plugin="$($tools/tool.sh protoc-gen-go-grpc)" \
	--go_out=tunnelpb --go_opt=paths=source_relative \
	--go-grpc_out=tunnelpb --go-grpc_opt=paths=source_relative \
	tunnel.proto
