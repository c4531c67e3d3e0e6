package doctor

import (
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/internal/parts/box"
)

// TestWhatEndsIdleConnections: silence, pings, data one way and answered data are told apart,
// and idle time from age.
func TestWhatEndsIdleConnections(t *testing.T) {
	for name, c := range map[string]struct {
		o     box.Options
		idle  time.Duration
		cut   map[Probe]time.Duration // nearly; the others live, or die with the service
		wants []string                // besides the way
	}{
		"nothing": {box.Options{}, 5 * time.Minute, nil, nil},
		"silence, 15 s": {
			box.Options{Idle: 15 * time.Second},
			time.Minute,
			map[Probe]time.Duration{probeIdleSocket: 15 * time.Second, probeIdleWeb: 15 * time.Second},
			[]string{"idle-cut"},
		},
		"frames of control don't count": {
			box.Options{Idle: 60 * time.Second, Counts: box.AnyData},
			2 * time.Minute,
			map[Probe]time.Duration{probeIdleSocket: 60 * time.Second, probeIdlePing: 60 * time.Second, probeIdleWeb: 60 * time.Second},
			[]string{"pings-not-counted", "idle-cut"},
		},
		"only answers count": {
			box.Options{Idle: 60 * time.Second, Counts: box.Answered},
			2 * time.Minute,
			map[Probe]time.Duration{probeIdleSocket: 60 * time.Second, probeIdlePing: 60 * time.Second, probeIdleOneWay: 60 * time.Second, probeIdleWeb: 60 * time.Second},
			[]string{"pings-not-counted", "idle-cut"},
		},
		"age": {box.Options{Age: 60 * time.Second}, 2 * time.Minute, map[Probe]time.Duration{
			probeIdleSocket: 60 * time.Second, probeIdlePing: 60 * time.Second, probeIdleOneWay: 60 * time.Second, probeIdleAnswered: 60 * time.Second, probeIdleWeb: 60 * time.Second, probeIdleWebBusy: 60 * time.Second,
		}, []string{"age-cut"}},
		"age, without a word": {box.Options{Age: 60 * time.Second, Ends: box.Quiet}, 2 * time.Minute, map[Probe]time.Duration{
			probeIdleSocket: 0, probeIdlePing: 66 * time.Second, probeIdleOneWay: 0, probeIdleAnswered: 64 * time.Second, probeIdleWeb: 120 * time.Second, probeIdleWebBusy: 64 * time.Second,
		}, []string{"age-cut"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.doctor = true
				w.startEdge()
				o := w.startBox(c.o)
				o.Idle = c.idle
				r := w.run(o)
				wantVerdicts(w.t, r, Yes, append([]string{"way-websocket", "decrypted", "no-http2"}, c.wants...)...)
				for _, f := range r.Findings {
					want, dies := c.cut[f.Probe]
					switch {
					case f.Probe < "idle" || f.Probe > "idle~":
					case !dies && f.Result != works:
						w.t.Errorf("%s: %s, %s", f.Probe, f.Result, f.Evidence)
					case dies && (f.Result != cut && f.Result != silent || want > 0 && (f.After-want).Abs() > 6*time.Second):
						w.t.Errorf("%s: %s after %v, %s; want an end after %v", f.Probe, f.Result, f.After, f.Evidence, want)
					}
				}
			})
		})
	}
}

func TestWhoEndsConnections(t *testing.T) {
	for _, c := range []struct {
		after time.Duration
		idle  bool
		known bool
	}{{60 * time.Second, true, true}, {60*time.Second + 900*time.Millisecond, false, true}, {30 * time.Second, false, true}, {30 * time.Second, true, false}, {200 * time.Second, true, false}, {353 * time.Second, true, true}} {
		if got := whoEnds(c.after, c.idle); (got != "") != c.known {
			t.Errorf("after %v, idle %v: %q", c.after, c.idle, got)
		}
	}
}
