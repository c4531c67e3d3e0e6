// Package bridgetest has one list of scenarios that every transport of culvert
// must pass. Only tests import it.
//
// Each scenario has a name, its needs of a transport, and a function. It scripts
// a real grpc-go backend (or, where a real one can't misbehave enough, a fake one
// that writes HTTP/2 frames by hand). It puts a real culvert in front of the
// backend on a loopback port, and speaks to culvert like a client of one
// transport. It checks the observations of the client and of the backend.
//
// Where to look:
//
//	scenarios.go        the list, in the order it runs
//	scenarios_*.go      the scenarios, one idea a file
//	transport.go        the transports, and the needs that each can't meet, with
//	                    the reasons
//	run.go              the surroundings of a scenario: backend, culvert, client,
//	                    and the checks after each
//	call.go expect.go   calls and expectations that fail the test by themselves
//	leak.go             the owners of goroutines
//	client.go           the interface of client ends
//	framing.go          the framings of bare messages
//	client_*.go         the client ends, strict readers of their protocol
//	client_program.go   a client end in another process, such as a page
//	wire*.go            the few bytes that they share, read without codec's help
//	backend.go fake.go  the real backend and the one made of frames
//	observer.go         culvert's reports of its calls
//	relay.go            a TCP relay that dribbles and cuts
//
// The client ends also check the wire: one trailers frame, lower-case names, a
// status nowhere else, one frame a WebSocket message, whole quanta of base64, a close
// frame that agrees with the status. An
// answer that would confuse a published client is an error here, even if its
// content is right. They don't use codec, so that a mistake there isn't repeated
// here.
package bridgetest
