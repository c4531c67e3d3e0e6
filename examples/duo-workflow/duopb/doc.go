// Package duopb is the generated code of duo.proto. The JavaScript is in client/gen.
package duopb

//go:generate sh -c "protoc --proto_path=.. --plugin=protoc-gen-go=$(../../../tools/tool.sh protoc-gen-go) --plugin=protoc-gen-go-grpc=$(../../../tools/tool.sh protoc-gen-go-grpc) --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative duo.proto"
//go:generate npm ci --silent --prefix ../client
//go:generate protoc --proto_path=.. --plugin=protoc-gen-es=../client/node_modules/.bin/protoc-gen-es --es_out=../client/gen --es_opt=target=js duo.proto
