package bridge

import (
	"io"
	"testing"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestRunningCallOfAPeerThatHungUpEnds while nobody reads its connection, and
// is left to the reader while somebody does.
func TestRunningCallOfAPeerThatHungUpEnds(t *testing.T) {
	server, client := tcpPair(t)
	_ = client.Close()
	_, _ = io.Copy(io.Discard, server) // returns once the end is here
	g := registryOf(Limits{})
	r, _ := watch(t, g)
	defer g.remove(r)
	r.conn = server
	r.progress.Receiving.Store(true)
	for now := range int64(6) {
		if cause := r.look(now); cause != nil {
			t.Errorf("beside a reader the call is ended with %v", cause)
		}
	}
	r.progress.Receiving.Store(false)
	var cause error
	for now := range int64(6) {
		if c := r.look(now); c != nil {
			cause = c
		}
	}
	if reasonOf(cause) != report.ReasonClientGone {
		t.Errorf("within 5 looks the call is ended with %v, want %s", cause, report.ReasonClientGone)
	}
}
