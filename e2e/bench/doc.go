// Program bench measures what a proxy costs: the CPU time of its process for a
// message, its memory, and what its clients see of it. It runs the real
// programs one after another before the same backend, round by round, so that
// each meets the same machine: culvert, grpcwebproxy, vanguard, nginx, and no proxy.
//
//	bench -culvert bin/culvert -grpcwebproxy bin/grpcwebproxy -out docs/how-it-works/benchmarks.md
//
// It is a measurement and no test: it fails when a program doesn't start or a
// call goes wrong, never because something took long.
//
//	main.go     the order of things
//	backend.go  the backend, a process of its own
//	peer.go     how each program is started
//	process.go  what the system says of a process
//	client*.go  clients of each protocol, as one interface
//	load.go     shapes of load, and their measurement
//	cells.go    what is measured with which
//	tls.go      the same over TLS
//	connect.go  Connect against gRPC-Web
//	convert.go  JSON that culvert converts
//	messages.go bare messages against grpc-websockets
//	dial.go     culvert dial beside a hop of culvert serve
//	script.go   clients in JavaScript, in a page and in Node (e2e/node/speed.js)
//	vanguard/   the peer for Connect, a program of its own
//	memory.go   idle streams, stuck and slow ones, start, size
//	agents.go   idle agents of OpAMP
//	operate.go  what routes, metrics, reloads, drains and rest cost:
//	            routes.go, metrics.go, reload.go, drain.go, wakeups.go
//	instructions.go
//	            instructions and allocations, beside an older culvert
//	report.go   the page
package main
