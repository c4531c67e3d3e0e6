// Package gatewaypb is the generated code of gateway.proto.
package gatewaypb

//go:generate sh -c "protoc --proto_path=.. --plugin=protoc-gen-go=$(go -C ../../../tools tool -n protoc-gen-go) --plugin=protoc-gen-go-grpc=$(go -C ../../../tools tool -n protoc-gen-go-grpc) --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative gateway.proto"
