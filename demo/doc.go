// Package demo is culvert to look at: an example service, culvert in front of
// it, a page that talks to it from a browser, and a box in between that speaks
// nothing but HTTP/1.1. Everything in it is real and runs in one process.
//
// Read it in this order:
//
//	demopb/demo.proto  the service
//	service.go         its simple methods, its errors, its metadata
//	conversation.go    the one that answers token by token and calls tools
//	demo.go            what listens where, and how it ends
//	page.go            the page and the two questions it asks this process
//	inspect.go         the inspecting proxy
//	native.go          the native gRPC client that the proxy stops
//	check.go           the same as the page, without a browser
//	wire.go            the clients that check speaks with
//	terminal.go        what the terminal shows
//
// The page's sources are in web/, its bundle in page/ is committed: running the
// demo needs Go alone. web/README.md says how to build it. The generated code is
// made again by
//
//	go generate ./demo
package demo

//go:generate sh generate.sh
