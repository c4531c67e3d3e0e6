// Package benchpb is the generated code of the benchmark's service: for proxies that
// decode messages, and for protojson's own time.
package benchpb

//go:generate sh -c "protoc --plugin=protoc-gen-go=$(go -C ../../../tools tool -n protoc-gen-go) --go_out=. --go_opt=paths=source_relative bench.proto"
