package parts

import (
	"context"
	"errors"
	"net"
	"testing"
)

// Places are a network in memory, by address. Writes don't wait: see Buffered. A test listens
// before it dials.
type Places map[string]*PipeListener

// Listen returns a listener at an address.
func (p Places) Listen(t testing.TB, address string) net.Listener {
	l := ListenPipe(t)
	p[address] = l
	return bufferedListener{l}
}

type bufferedListener struct{ *PipeListener }

func (l bufferedListener) Accept() (net.Conn, error) {
	c, err := l.PipeListener.Accept()
	if err != nil {
		return nil, err
	}
	return Buffered(c), nil
}

// Dial connects to an address.
func (p Places) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	l := p[address]
	if l == nil {
		return nil, &net.OpError{Op: "dial", Err: errors.New("nothing listens at " + address)}
	}
	c, err := l.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	return Buffered(c), nil
}
