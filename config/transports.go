// Code generated from the table in bridge/transport.go by go generate ./bridge; DO NOT EDIT.

package config

// transports are the names of the client protocols.
var transports = []string{
	"connect",
	"grpc",
	"grpc-web",
	"grpc-web-text",
	"grpc-websockets",
	"h2ts",
	"message",
}
