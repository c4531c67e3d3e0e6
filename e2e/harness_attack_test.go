package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

// unharmed has ordinary clients of three kinds call beside an attack until the
// returned function is called: one call each at least, and none may fail.
func unharmed(t *testing.T, address string) (stop func()) {
	t.Helper()
	stopped := make(chan struct{})
	var clients sync.WaitGroup
	for _, transport := range []wire.Transport{wire.WebSocket, wire.GRPC, wire.Web} {
		clients.Go(func() {
			pace := time.NewTicker(100 * time.Millisecond)
			defer pace.Stop()
			for {
				if err := works(t, transport, address, attackTime); err != nil {
					t.Errorf("%s: another's call meanwhile: %v", transport, err)
				}
				select {
				case <-stopped:
					return
				case <-pace.C:
				}
			}
		})
	}
	return func() {
		close(stopped)
		clients.Wait()
	}
}

// attackTime bounds what a loaded machine may take for what an idle one does at
// once.
const attackTime = 45 * time.Second

// wantConnEnded waits for the log's line that says why the connection ended of
// which this was the client's end.
func (c *culvert) wantConnEnded(t *testing.T, conn net.Conn, reason string) {
	t.Helper()
	if err := c.connEnded(conn, reason, attackTime); err != nil {
		t.Error(err)
	}
}

func (c *culvert) connEnded(conn net.Conn, reason string, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	peer := conn.LocalAddr().String()
	var others []string
	_, _, err := c.output.find(ctx, 0, func(text string) bool {
		var line struct{ Msg, Peer, Reason string }
		if !strings.Contains(text, peer) { // a hundred ends are waited for at once, each in all lines
			return false
		}
		if json.Unmarshal([]byte(text), &line) != nil || line.Msg != "connection ended" || line.Peer != peer {
			return false
		}
		others = append(others, fmt.Sprintf("%q", line.Reason))
		return line.Reason == reason
	})
	if err != nil {
		return fmt.Errorf("the log doesn't say that %s ended for %q, but %v: %w", peer, reason, others, err)
	}
	return nil
}
