package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// TestDrainKnowsWhoAnswers gives drain one answer after the other. Only "refusing" is
// culvert's refusal of calls. The clock is the test's, so the machine's speed doesn't
// matter.
func TestDrainKnowsWhoAnswers(t *testing.T) {
	const (
		begun    = `{"state":"delayed","refuses_in":0.01,"calls":1}`
		refusing = `{"state":"refusing","calls":1}`
		serving  = `{"state":"serving","calls":1}`
		busy     = "busy"   // 503
		silent   = "silent" // no answer in time
		cut      = "cut"    // the connection ends
		ended    = "ended"  // and nothing listens any more
	)
	for name, c := range map[string]struct {
		answers []string // the last one again and again
		printed string
		err     error
	}{
		"at once":                     {[]string{refusing}, "refuses new calls; running calls, which continue until SIGTERM: 1", nil},
		"after the delay":             {[]string{begun, begun, refusing}, "refuses new calls; ", nil},
		"busy at first":               {[]string{busy, begun, busy, refusing}, "refuses new calls; ", nil},
		"silent for a while":          {[]string{silent, begun, silent, refusing}, "refuses new calls; ", nil},
		"it has ended":                {[]string{begun, cut, ended}, "culvert has ended", nil},
		"it has ended, unseen":        {[]string{begun, ended}, "culvert has ended", nil},
		"another one answers":         {[]string{begun, serving}, "", errOther},
		"another one answers at once": {[]string{serving}, "", errOther},
		"always busy":                 {[]string{busy}, "", errBusy},
		"silent for ever":             {[]string{begun, silent}, "", errUnreachable},
		"no culvert":                  {[]string{cut}, "", errUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := parts.ListenPipe(t)
				var requests atomic.Int64
				server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					before := int(requests.Add(1)) - 1
					if before == 0 && r.Method != http.MethodPost {
						t.Errorf("the first request is a %s", r.Method)
					}
					answer := c.answers[min(before, len(c.answers)-1)]
					switch answer {
					case busy:
						http.Error(w, "too many requests", http.StatusServiceUnavailable)
					case silent:
						<-r.Context().Done() // the client has given up
					case cut, ended:
						if answer == ended {
							_ = ln.Close() // as the process's end would
						}
						panic(http.ErrAbortHandler)
					default:
						_, _ = io.WriteString(w, answer) // drain shows what it read
					}
				})}
				var serving sync.WaitGroup
				serving.Go(func() { _ = server.Serve(ln) }) // ends with the listener
				client := newAdminClient("the admin address")
				client.http.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
					conn, err := ln.DialContext(ctx)
					if err != nil && ctx.Err() == nil {
						err = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
					}
					return conn, err
				}
				var out bytes.Buffer
				err := drain(t.Context(), &out, client, 10*time.Millisecond)
				if !errors.Is(err, c.err) {
					t.Errorf("drain ends with %v, want %v", err, c.err)
				}
				if !strings.Contains(out.String(), c.printed) || c.printed == "" && strings.Contains(out.String(), "culvert refuses new calls;") {
					t.Errorf("it prints %q, want %q", out.String(), c.printed)
				}
				_ = server.Close() // the listener may be closed already
				serving.Wait()
			})
		})
	}
}
