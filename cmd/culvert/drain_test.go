package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestDrainKnowsWhoAnswers gives drain one answer after the other. Only "refusing" is
// culvert's refusal of calls.
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
			t.Parallel()
			over := make(chan struct{})
			requests := make(chan int, 1)
			requests <- 0
			var s *httptest.Server
			s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n := <-requests
				requests <- n + 1
				if first := r.Method == http.MethodPost; !first && n == 0 {
					t.Errorf("the first request is a %s", r.Method)
				}
				switch answer := c.answers[min(n, len(c.answers)-1)]; answer {
				case busy:
					http.Error(w, "too many requests", http.StatusServiceUnavailable)
				case silent:
					select {
					case <-over:
					case <-r.Context().Done():
					}
				case cut, ended:
					if answer == ended {
						_ = s.Listener.Close() // as the process's end would
					}
					panic(http.ErrAbortHandler)
				default:
					_, _ = io.WriteString(w, answer) // drain shows what it read
				}
			}))
			defer s.Close()
			defer close(over)
			client := newAdminClient(s.Listener.Addr().String())
			client.http.Timeout, client.patience = 300*time.Millisecond, time.Second
			var out bytes.Buffer
			err := drain(t.Context(), &out, client, 10*time.Millisecond)
			if !errors.Is(err, c.err) {
				t.Errorf("drain ends with %v, want %v", err, c.err)
			}
			if !strings.Contains(out.String(), c.printed) || c.printed == "" && strings.Contains(out.String(), "culvert refuses new calls;") {
				t.Errorf("it prints %q, want %q", out.String(), c.printed)
			}
		})
	}
}
