// Package e2epb is the generated code of the service that the end-to-end tests
// call. Its protoc is Debian's protobuf-compiler; the Go generators are
// pinned in tools/, those for JavaScript in node/generate.sh.
package e2epb

//go:generate sh -c "protoc --plugin=protoc-gen-go=$(../../tools/tool.sh protoc-gen-go) --plugin=protoc-gen-go-grpc=$(../../tools/tool.sh protoc-gen-go-grpc) --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative probe.proto"
//go:generate ../node/generate.sh
