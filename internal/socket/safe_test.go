package socket

import (
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"time"
)

// A badConn panics in each method.
type badConn struct{ net.Conn }

// A badSecureConn does, too.
type badSecureConn struct{ badConn }

func (badSecureConn) ConnectionState() tls.ConnectionState { panic("no network") }

// A badPacketConn does, too.
type badPacketConn struct {
	badConn
	net.PacketConn
}

func (badConn) LocalAddr() net.Addr  { return nil }
func (badConn) RemoteAddr() net.Addr { panic("no network") }

func (badPacketConn) Close() error                     { panic("no network") }
func (badPacketConn) LocalAddr() net.Addr              { panic("no network") }
func (badPacketConn) SetDeadline(time.Time) error      { panic("no network") }
func (badPacketConn) SetReadDeadline(time.Time) error  { panic("no network") }
func (badPacketConn) SetWriteDeadline(time.Time) error { panic("no network") }

// TestSafe: each panic is told and an error, and Cut ends.
func TestSafe(t *testing.T) {
	told, errPanicked := 0, errors.New("it panicked")
	caught := func(any) error { told++; return errPanicked }
	safe, packets := Safe(badConn{}, caught), Safe(badPacketConn{}, caught)
	p := make([]byte, 1)
	for name, do := range map[string]func() error{
		"Read":             func() error { _, err := safe.Read(p); return err },
		"Write":            func() error { _, err := safe.Write(p); return err },
		"Close":            safe.Close,
		"SetDeadline":      func() error { return safe.SetDeadline(time.Time{}) },
		"SetReadDeadline":  func() error { return safe.SetReadDeadline(time.Time{}) },
		"SetWriteDeadline": func() error { return safe.SetWriteDeadline(time.Time{}) },
		"ReadFrom":         func() error { _, _, err := packets.(net.PacketConn).ReadFrom(p); return err },
		"WriteTo":          func() error { _, err := packets.(net.PacketConn).WriteTo(p, nil); return err },
		"Cut":              func() error { Cut(safe); return errPanicked },
		"Cut a secure one": func() error { Cut(Safe(badSecureConn{}, caught)); return errPanicked },
		"Cut under TLS":    func() error { Cut(tls.Client(safe, new(tls.Config))); return errPanicked },
	} {
		told = 0
		if err := do(); !errors.Is(err, errPanicked) || told != 1 {
			t.Errorf("%s: %v, told %d times", name, err, told)
		}
	}
	for name, address := range map[string]func() net.Addr{"LocalAddr": safe.LocalAddr, "RemoteAddr": safe.RemoteAddr} {
		told = 0
		if a := address(); a.String() != "" || (told == 1) != (name == "RemoteAddr") {
			t.Errorf("%s: %v, told %d times", name, a, told)
		}
	}
	if _, ok := safe.(net.PacketConn); ok {
		t.Error("a stream passes for packets")
	}
	if _, ok := safe.(secured); ok {
		t.Error("plaintext passes for TLS")
	}
	told = 0
	if s, ok := Safe(badSecureConn{}, caught).(secured); !ok || s.ConnectionState().HandshakeComplete || told != 1 {
		t.Errorf("ConnectionState: %v, told %d times", ok, told)
	}
	if c := Safe(new(net.UDPConn), nil); c.(*net.UDPConn) == nil {
		t.Error("a socket is wrapped")
	}
}
