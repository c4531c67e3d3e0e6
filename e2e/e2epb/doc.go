// Package e2epb is the generated code of the service that the end-to-end tests
// call. Its protoc is Debian's protobuf-compiler; the Go generators are
// pinned in tools/.
package e2epb

//go:generate sh -c "protoc --plugin=protoc-gen-go=$(go -C ../../tools tool -n protoc-gen-go) --plugin=protoc-gen-go-grpc=$(go -C ../../tools tool -n protoc-gen-go-grpc) --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative probe.proto"
//go:generate sh -c "protoc --plugin=protoc-gen-es=$(npx --yes --package=@bufbuild/protoc-gen-es@2.17.0 -- sh -c 'command -v protoc-gen-es') --es_out=../node --es_opt=target=js probe.proto"
