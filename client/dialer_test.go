package client

import (
	"context"
	"net"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// TestNothingStays: attempts without a connection leave nothing behind, also where no Close comes.
func TestNothingStays(t *testing.T) {
	for name, fail := range map[string]func(t *testing.T, target string, ln net.Listener){
		"refused": func(t *testing.T, target string, ln net.Listener) {
			_ = ln.Close() // it is open
			opts, err := DialOptions(target, WithProxy("none"))
			if err != nil {
				t.Fatal(err)
			}
			cc, err := grpc.NewClient(target, opts...)
			if err != nil {
				t.Fatal(err)
			}
			if err := cc.Invoke(parts.Within(t, parts.Patience), "/a.B/C", nil, nil); err == nil {
				t.Error("a call got through")
			}
			_ = cc.Close() // it is open
		},
		"given up": func(t *testing.T, target string, ln net.Listener) {
			d, err := NewDialer(target, WithProxy("none"), WithWay(GRPCWeb))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			accepted := make(chan net.Conn, 1)
			go func() {
				c, _ := ln.Accept() // Dial fails without one
				cancel()
				accepted <- c
			}()
			if _, err := d.Dial(ctx); err == nil {
				t.Error("a connection opened")
			}
			if c := <-accepted; c != nil {
				_ = c.Close() // it may be closed
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			ln := parts.Listen(t, "127.0.0.1:0")
			fail(t, "http://"+ln.Addr().String(), ln)
			parts.Poll(t, func() string {
				if err := goleak.Find(); err != nil {
					return err.Error()
				}
				return ""
			})
		})
	}
}
