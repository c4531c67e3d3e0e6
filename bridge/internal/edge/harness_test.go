package edge

import (
	"testing"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// Helpers that several packages share, by short names.
const patience = parts.Patience

var (
	listen  = parts.Listen
	tcpPair = parts.TCPPair
	within  = parts.Within
	poll    = parts.Poll
	elapse  = parts.Elapse
)

func await[T any](t testing.TB, what string, event <-chan T) T {
	t.Helper()
	return parts.Await(t, what, event)
}

// anObserver is a small working Observer: it passes each end on.
type anObserver struct {
	report.Observer
	refused chan report.Refusal
	conns   chan report.ConnInfo // that ended
}

func newObserver() *anObserver {
	const most = 4096 // more than any test makes
	return &anObserver{Observer: report.Discard(), refused: make(chan report.Refusal, most), conns: make(chan report.ConnInfo, most)}
}

func (o *anObserver) Refused(r report.Refusal)    { o.refused <- r }
func (o *anObserver) ConnEnded(c report.ConnInfo) { o.conns <- c }
