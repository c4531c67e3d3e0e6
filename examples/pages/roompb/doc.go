// Package roompb is the generated code of room.proto. The JavaScript is in ../gen.
package roompb

//go:generate sh -c "protoc --proto_path=.. --plugin=protoc-gen-go=$(../../../tools/tool.sh protoc-gen-go) --plugin=protoc-gen-go-grpc=$(../../../tools/tool.sh protoc-gen-go-grpc) --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative room.proto"
//go:generate npm ci --silent --prefix ../../../demo/web
//go:generate protoc --proto_path=.. --plugin=protoc-gen-es=../../../demo/web/node_modules/.bin/protoc-gen-es --es_out=../gen --es_opt=target=js room.proto
