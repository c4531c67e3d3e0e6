package edge

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestAcceptTakesOnePolicy: the policy changes each time that it is asked for. Each
// of the two lets one connection in, but half of one and half of the other would let in
// more.
func TestAcceptTakesOnePolicy(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	refusals := report.NewRefusals(log, report.Discard())
	byAddress := quota.New(report.Quota{}, report.Quota{Connections: 1}, false, refusals)
	policies := [2]Bounds{
		{Quotas: byAddress, Connections: 100},
		{Quotas: byAddress.With(report.Quota{}, report.Quota{}, false), Connections: 1},
	}
	asked := 0 // by the one goroutine that accepts
	e := New(Options{
		Log: log, Observer: report.Discard(), Refusals: refusals,
		Bounds: func(l *Listening) Bounds {
			b := policies[asked%len(policies)]
			b.Listener = l
			asked++
			return b
		},
		Memory:   memory.New(1<<20, 0),
		Leaving:  func() bool { return false },
		Draining: func() bool { return false },
	})
	hs := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: patience}
	server := e.Watch(hs, e.Own())
	ln := listen(t, "127.0.0.1:0")
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := e.Serve(ln, e.Own(), server); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve returned %v, want %v", err, http.ErrServerClosed)
		}
	})
	defer serving.Wait()
	defer func() {
		_ = hs.Close() // its error is of listeners, which the test closes too
		e.CutLingering()
	}()
	for i, want := range []int{http.StatusNotFound, http.StatusServiceUnavailable, http.StatusServiceUnavailable, http.StatusServiceUnavailable} {
		conn, err := (&net.Dialer{}).DialContext(within(t, patience), "tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience)) // it is open
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close() // it is of no interest
		if res.StatusCode != want {
			t.Errorf("connection %d is answered %d, want %d", i+1, res.StatusCode, want)
		}
	}
}
