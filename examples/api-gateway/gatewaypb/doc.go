// Package gatewaypb is the generated code of gateway.proto. The JavaScript is in ../page/gen.
package gatewaypb

//go:generate sh -c "protoc --proto_path=.. --plugin=protoc-gen-go=$(../../../tools/tool.sh protoc-gen-go) --plugin=protoc-gen-go-grpc=$(../../../tools/tool.sh protoc-gen-go-grpc) --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative gateway.proto"
//go:generate npm ci --silent --prefix ../../../demo/web
//go:generate protoc --proto_path=.. --plugin=protoc-gen-es=../../../demo/web/node_modules/.bin/protoc-gen-es --es_out=../page/gen --es_opt=target=js gateway.proto
