// Package wire is a connection to a backend under grpc-go: it sees all frames, both ways.
//
// A [Conn] withholds windows while there is no memory for replies, pings a silent backend,
// and repairs answers that grpc-go couldn't read. It also finds what grpc-go doesn't tell:
// which stream is a call's, how many bytes of the call are on their way, and how the stream
// ended. A [Call] expects its stream on a connection with a [Place], which notes these facts.
// The package knows no other connections and no addresses. Its owner passes [Options].
//
// To read it, begin with conn.go, the connection itself, and frames.go, which finds
// HTTP/2's frames in the bytes. large_message.go withholds large replies, and conn_window.go
// the connection's window, until the account has room. stream_window.go bounds how far a
// backend may be ahead of the client, and gives a stream of small messages more window.
// whose.go finds the call of a stream by its id, which request_id.go reads in the request's
// header. call.go has what the frames tell of a call beside its status, answer_verdict.go what
// header blocks of answers say, and answer_ends.go what a status means that grpc-go has made,
// such as that of a reply over the limit, which it refuses. flow.go counts with a call the replies that have arrived and the
// requests that it has queued, and packed.go those that grpc-go compresses. silence.go
// pings a silent backend. greeting.go recognizes what isn't HTTP/2. answers.go repairs headers
// of answers that grpc-go wouldn't read, and pack.go sets the level of gzip.
//
// # Locks
//
// The account's mu is taken under a Conn's mu, and a Conn's readyMu under the account's.
// Options.Streams is called without any of them. A panic on a goroutine of grpc-go or on one
// of a Conn's ends the connection ([Conn.Catch]).
//
// # Who waits for whom
//
//	start              owner that waits               ends when
//	Conn.send          Conn.Close                     the connection is closed
//	silenceWatch.run   Conn.Close                     the connection is closed
package wire
