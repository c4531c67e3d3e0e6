// Package demo shows culvert at work: an example service, culvert in front of
// it, a page that calls it from a browser, and an inspecting proxy that speaks
// only HTTP/1.1. All of it is real and runs in one process.
//
// Read it in this order:
//
//	demopb/demo.proto  the service
//	service.go         its simple methods, its errors, its metadata
//	conversation.go    the method that answers token by token and calls tools
//	demo.go            the listeners, the start and the end
//	page.go            the page and its API
//	inspect.go         the inspecting proxy
//	native.go          the page's native gRPC client, with and without culvert
//	check.go           the page's calls without a browser
//	wire.go            the clients of check.go
//	terminal.go        the terminal's lines
//
// The page's sources are in web/. Its bundle is committed in page/, so running
// the demo needs only Go. web/README.md describes the build. To generate the
// protobuf code again, run
//
//	go generate ./demo
package demo

//go:generate sh generate.sh
