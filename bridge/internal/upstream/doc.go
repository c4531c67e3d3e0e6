// Package upstream calls a backend: it opens streams, sends calls again, and tells the backend's
// status from what went wrong.
//
// [New] returns an [Upstream], and its Open a [Stream]. A [Set] has the upstreams of
// a server by name, and closes replaced ones after their last call. A stream ends
// with io.EOF for the backend's OK, a [Status] for the status in the backend's
// trailers, or a [report.Fault] for everything that culvert or grpc-go found out by
// itself. It ends with the cause of the call's context if the context ended first.
//
// To read it, begin with stream.go: opening, sending and receiving. set.go has the names, and the
// holders of an upstream, and state.go what operators see of them. status.go distinguishes the
// backend's own status from those that grpc-go makes. retry.go decides by a route's policy
// whether a call is sent again, and attempts.go sends it: also to another address, after
// REFUSED_STREAM (goesElsewhere). Another backend of a split is the caller's to choose:
// bridge/steps.go, open. inprocess.go has backends in this process.
//
// The connections are those of package pool, and the knowledge of the backend's methods is that
// of package reflection.
//
// InProcess starts a goroutine, which serves until it is stopped. A Set starts one for each
// upstream that leaves it, which closes that upstream after its last call; the Set's Close waits
// for them. Close of an Upstream waits for its pool, and for the question of the Book.
package upstream
