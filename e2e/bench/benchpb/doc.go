// Package benchpb is the generated code of the benchmark's service: for proxies that
// decode messages, and for protojson's own time.
package benchpb

//go:generate sh -c "protoc --plugin=protoc-gen-go=$(../../../tools/tool.sh protoc-gen-go) --go_out=. --go_opt=paths=source_relative bench.proto"
