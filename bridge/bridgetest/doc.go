// Package bridgetest holds one list of scenarios that every transport of
// culvert must pass. It is imported by tests alone.
//
// Each scenario is a name, what it needs of a transport, and a function. It
// scripts a real grpc-go backend (or, where a real one can't misbehave enough,
// a fake one that writes HTTP/2 frames by hand), puts a real culvert in front
// of it on a loopback port, and speaks to it as a client of one transport would
// on the wire. It judges by what the client saw and by what the backend saw.
//
// Where to look:
//
//	scenarios.go        the list, in the order it runs
//	scenarios_*.go      the scenarios, one idea a file
//	transport.go        the transports, and what each can't carry and why
//	run.go              what surrounds a scenario: backend, culvert, client, and
//	                    the checks that hold after every one
//	call.go expect.go   calls and expectations that fail the test by themselves
//	leak.go             whose goroutines are whose
//	client.go           what a client end is
//	client_*.go         the client ends, strict readers of their protocol
//	wire.go             the few bytes that they share, read without codec's help
//	backend.go fake.go  the real backend and the one made of frames
//	observer.go         what culvert tells of its calls
//	relay.go            a TCP relay that dribbles and cuts
//
// The client ends check the wire as they go: one trailers frame, lower-case
// names, a status nowhere else, one frame a WebSocket message, quanta of base64
// whole. An answer that a published client would stumble over is an error here
// even when its content is right. They don't use codec, so that a slip there
// isn't made twice.
package bridgetest
