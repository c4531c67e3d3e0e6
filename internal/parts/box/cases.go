package box

import "time"

// A Case is a kind of box, and what passes it.
type Case struct {
	Name string
	Options

	Way    string // that passes: "grpc", "websocket" or "grpc-web"; "": none
	OneWay bool   // no conversation passes: the box holds requests or answers
	Asked  bool   // clients don't have the password before the box asks
}

// Cases are the boxes that every client is tested behind.
func Cases() []Case {
	return []Case{
		{"tunnels", Options{Tunnel: true}, "grpc", false, false},
		{"tunnels, Basic", Options{Tunnel: true, User: "u", Password: "p@ss:word"}, "grpc", false, false},
		{"tunnels, asks for the password", Options{Tunnel: true, User: "u", Password: "p@ss:word"}, "grpc", false, true},
		{"tunnels, cuts what is idle", Options{Tunnel: true, Idle: time.Minute}, "grpc", false, false},
		{"tunnels, cuts what is old", Options{Tunnel: true, Age: 10 * time.Minute, Ends: RST}, "grpc", false, false},
		{"tunnels, forgets what is old", Options{Tunnel: true, Age: 10 * time.Minute, Ends: Quiet}, "grpc", false, false},
		{"inspects, HTTP/1.1", Options{}, "websocket", false, false},
		{"inspects, HTTP/2", Options{HTTP2: true}, "grpc", false, false},
		{"chooses no protocol", Options{NoALPN: true}, "websocket", false, false},
		{"HTTP/2 that is silent", Options{H2Silent: true}, "websocket", false, false},
		{"HTTP/2, refuses gRPC", Options{HTTP2: true, RefuseTypes: []string{"application/grpc"}}, "websocket", false, false},
		{"HTTP/2, holds requests", Options{HTTP2: true, HoldRequests: true}, "websocket", false, false},
		{"HTTP/2, holds responses", Options{HTTP2: true, HoldResponses: true}, "websocket", false, false},
		{"HTTP/2, drops trailers", Options{HTTP2: true, NoTrailers: true}, "websocket", false, false},
		{"holds event streams", Options{HoldTypes: []string{"text/event-stream"}}, "websocket", false, false},
		{"cuts idle WebSockets", Options{Idle: time.Minute}, "websocket", false, false},
		{"cuts WebSockets without data", Options{Idle: time.Minute, Counts: AnyData}, "websocket", false, false},
		{"cuts old WebSockets", Options{Age: 10 * time.Minute}, "websocket", false, false},
		{"forgets old WebSockets", Options{Age: 10 * time.Minute, Ends: Quiet}, "websocket", false, false},
		{"strips Upgrade", Options{Upgrade: Stripped}, "grpc-web", false, false},
		{"refuses WebSockets", Options{Upgrade: Refused}, "grpc-web", false, false},
		{"hangs on WebSockets", Options{Upgrade: Hangs}, "grpc-web", false, false},
		{"WebSockets are dead", Options{Upgrade: Dead}, "grpc-web", false, false},
		{"WebSockets are dead after a frame", Options{Upgrade: DeadAfterFirst}, "grpc-web", false, false},
		{"WebSockets are dead to the server", Options{Upgrade: DeadToTheServer}, "grpc-web", false, false},
		{"cuts old connections, no WebSockets", Options{Upgrade: Refused, Age: 10 * time.Minute}, "grpc-web", false, false},
		{"forgets old connections, no WebSockets", Options{Upgrade: Refused, Age: 10 * time.Minute, Ends: Quiet}, "grpc-web", false, false},
		{"cuts idle connections, no WebSockets", Options{Upgrade: Refused, Idle: time.Minute}, "grpc-web", false, false},
		{"holds requests, no WebSockets", Options{Upgrade: Refused, HoldRequests: true}, "grpc-web", true, false},
		{"holds responses, no WebSockets", Options{Upgrade: Refused, HoldResponses: true}, "grpc-web", true, false},
		{"holds gRPC-Web, no WebSockets", Options{Upgrade: Refused, HoldTypes: []string{"application/grpc-web*"}}, "grpc-web", true, false},
		{"refuses chunked, no WebSockets", Options{Upgrade: Refused, Chunked: 411}, "grpc-web", true, false},
		{"refuses all gRPC and WebSockets", Options{Upgrade: Refused, RefuseTypes: []string{"application/grpc*"}}, "", false, false},
		{"wants NTLM", Options{User: "u", Password: "p", Schemes: []string{"NTLM", "Negotiate"}}, "", false, false},
		{"hangs on CONNECT", Options{ConnectHangs: true}, "", false, false},
		{"cuts TLS", Options{TLSCut: true}, "", false, false},
		{"an unknown CA", Options{Untrusted: true}, "", false, false},
	}
}
