//go:build unix

package dial

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// A lostListener is a port whose socket is lost.
type lostListener struct{ net.Listener }

func (lostListener) Accept() (net.Conn, error) { return nil, errLost }

var errLost = errors.New("the socket is lost")

// TestLostPort: a command without a port is of no use, and ends with it.
func TestLostPort(t *testing.T) {
	ended := make(chan error)
	go func() {
		lost := func(context.Context, *Options) (net.Listener, error) {
			return lostListener{parts.Listen(t, "127.0.0.1:0")}, nil
		}
		ended <- serve(t.Context(), Options{Edge: "http://127.0.0.1:1", Command: []string{"sleep", "3600"}, Out: io.Discard}, lost)
	}()
	if err := parts.Await(t, "the end of dial", ended); !errors.Is(err, errLost) {
		t.Errorf("it ended with %v, want %v", err, errLost)
	}
}

// TestSignalsOfATerminal reach the command without dial.
func TestSignalsOfATerminal(t *testing.T) {
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGQUIT, syscall.SIGWINCH} {
		if !slices.Contains(passed, s) || passesOn(s, true) || !passesOn(s, false) {
			t.Errorf("%v: passed on from a terminal: %v, else %v; want false, true", s, passesOn(s, true), passesOn(s, false))
		}
	}
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		if !slices.Contains(passed, s) || !passesOn(s, true) {
			t.Errorf("%v isn't passed on", s)
		}
	}
}
