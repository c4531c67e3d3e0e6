package frames

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/culvert-grpc/culvert/examples/agent-tunnel/tunnelpb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func headers() *tunnelpb.Frame {
	return &tunnelpb.Frame{Part: &tunnelpb.Frame_Headers{Headers: &tunnelpb.Headers{}}}
}

func data(n int) *tunnelpb.Frame {
	return &tunnelpb.Frame{Part: &tunnelpb.Frame_Data{Data: make([]byte, n)}}
}

func trailers() *tunnelpb.Frame {
	return &tunnelpb.Frame{Part: &tunnelpb.Frame_Trailers{Trailers: &tunnelpb.Trailers{}}}
}

func window(n uint32) *tunnelpb.Frame {
	return &tunnelpb.Frame{Part: &tunnelpb.Frame_Window{Window: n}}
}

func hello() *tunnelpb.Frame {
	return &tunnelpb.Frame{Part: &tunnelpb.Frame_Hello{Hello: &tunnelpb.Hello{}}}
}

func toNobody(*tunnelpb.Frame) error { return nil }

// Each last frame breaks the rule in want, or none; the frames before it break none.
func TestRulesOfFrames(t *testing.T) {
	for name, c := range map[string]struct {
		frames []*tunnelpb.Frame
		want   string
	}{
		"a body":                    {frames: []*tunnelpb.Frame{headers(), data(1), data(Window - 1), trailers()}},
		"no body":                   {frames: []*tunnelpb.Frame{headers(), trailers()}},
		"a byte over the window":    {[]*tunnelpb.Frame{headers(), data(Window), data(1)}, "1 bytes more than its window"},
		"far over the window":       {[]*tunnelpb.Frame{headers(), data(2 * Window)}, "262144 bytes more than its window"},
		"headers twice":             {[]*tunnelpb.Frame{headers(), headers()}, "headers twice"},
		"data before headers":       {[]*tunnelpb.Frame{data(1)}, "data outside its body"},
		"data after the end":        {[]*tunnelpb.Frame{headers(), trailers(), data(1)}, "data outside its body"},
		"trailers before headers":   {[]*tunnelpb.Frame{trailers()}, "trailers outside its body"},
		"trailers twice":            {[]*tunnelpb.Frame{headers(), trailers(), trailers()}, "trailers outside its body"},
		"credit for what isn't due": {[]*tunnelpb.Frame{window(1)}, "the window is 262144"},
		"endless credit":            {[]*tunnelpb.Frame{window(1<<32 - 1)}, "the window is 262144"},
		"hello inside a request":    {[]*tunnelpb.Frame{hello()}, "none of a request"},
		"nothing inside a request":  {[]*tunnelpb.Frame{{}}, "none of a request"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			x := NewExchange(t.Context(), 1, toNobody)
			defer x.Close()
			last := len(c.frames) - 1
			for i, f := range c.frames[:last] {
				if err := x.Receive(f); err != nil {
					t.Fatalf("frame %d: %v", i, err)
				}
			}
			err := x.Receive(c.frames[last])
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("the last frame: %v, want %q", err, c.want)
			}
		})
	}
}

// A wire is two exchanges that are the ends of one request. It counts what the first sends.
type wire struct {
	from, to      *Exchange
	bytes, frames int // of data
	windows       int // that came back
}

func newWire(t *testing.T) *wire {
	t.Helper()
	w := new(wire)
	w.from = NewExchange(t.Context(), 7, func(f *tunnelpb.Frame) error {
		if f.GetRequest() != 7 {
			t.Errorf("a frame of request %d", f.GetRequest())
		}
		if d := f.GetData(); d != nil {
			w.bytes += len(d)
			w.frames++
		}
		return w.to.Receive(f)
	})
	w.to = NewExchange(t.Context(), 7, func(f *tunnelpb.Frame) error {
		w.windows++
		return w.from.Receive(f)
	})
	if err := w.from.SendHeaders(&tunnelpb.Headers{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.from.Close)
	t.Cleanup(w.to.Close)
	return w
}

func noTrailers() http.Header { return nil }

// A body arrives whole and with its trailers, however it is read.
func TestBodyAndTrailers(t *testing.T) {
	want := bytes.Repeat([]byte("culvert"), 300_000)
	for name, read := range map[string]func(io.Reader) io.Reader{
		"whole":    func(r io.Reader) io.Reader { return r },
		"by bytes": iotest.OneByteReader,
		"by half":  iotest.HalfReader,
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			w := newWire(t)
			var sending sync.WaitGroup
			sending.Go(func() {
				// A reader that returns io.EOF with the last bytes, as some do.
				err := w.from.SendBody(iotest.DataErrReader(bytes.NewReader(want)), func() http.Header {
					return http.Header{"X-Sum": {"a", "\xff"}}
				})
				if err != nil {
					t.Error(err)
				}
			})
			got := http.Header{"X-Announced": nil}
			b := &Body{Exchange: w.to, Trailers: got, OnClose: func() {}}
			body, err := io.ReadAll(read(b))
			sending.Wait()
			if err != nil || !bytes.Equal(body, want) {
				t.Errorf("%d bytes came, %v; want %d", len(body), err, len(want))
			}
			if sum := got["X-Sum"]; len(sum) != 2 || sum[1] != "\xff" {
				t.Errorf("the trailers are %q", got)
			}
			if most := len(want)/(Window/2) + 1; w.windows > most {
				t.Errorf("%d frames gave credit, want at most %d", w.windows, most)
			}
		})
	}
}

// A body that nobody reads stops after its window, and goes on after half of it is read.
func TestUnreadBodyStopsItsSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		var sending sync.WaitGroup
		sending.Go(func() {
			if err := w.from.SendBody(bytes.NewReader(make([]byte, 2*Window)), noTrailers); err != nil {
				t.Error(err)
			}
		})
		for _, step := range []struct{ read, sent int }{
			{0, Window}, {Window/2 - 1, Window}, {1, Window + Window/2}, {Window / 2, 2 * Window}, {Window, 2 * Window}, // the end comes after the last byte is read
		} {
			if _, err := io.CopyN(io.Discard, w.to, int64(step.read)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if w.bytes != step.sent {
				t.Errorf("%d more bytes were read, and %d are sent, want %d", step.read, w.bytes, step.sent)
			}
		}
		sending.Wait()
		if least := 2 * Window / maxData; w.frames < least {
			t.Errorf("the body came in %d frames, want %d at least", w.frames, least)
		}
	})
}

// All that waits ends when the exchange ends, and knows why.
func TestEndWakesAll(t *testing.T) {
	why := errors.New("the tunnel is gone")
	for name, end := range map[string]func(x *Exchange, cancel context.CancelCauseFunc){
		"fail":    func(x *Exchange, _ context.CancelCauseFunc) { x.Fail(why) },
		"context": func(_ *Exchange, cancel context.CancelCauseFunc) { cancel(why) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				x := NewExchange(ctx, 1, toNobody)
				var waiting sync.WaitGroup
				for name, wait := range map[string]func() error{
					"headers":   func() error { _, err := x.Headers(); return err },
					"a reader":  func() error { _, err := x.Read(make([]byte, 1)); return err },
					"a sender":  func() error { return x.SendBody(bytes.NewReader(make([]byte, Window+1)), noTrailers) },
					"a context": func() error { <-x.Context().Done(); return context.Cause(x.Context()) },
				} {
					waiting.Go(func() {
						if err := wait(); !errors.Is(err, why) {
							t.Errorf("%s: %v, want %v", name, err, why)
						}
					})
				}
				synctest.Wait()
				end(x, cancel)
				waiting.Wait()
			})
		})
	}
}

// The other end learns why an exchange is aborted, also if the reason isn't UTF-8.
func TestAbortTellsWhy(t *testing.T) {
	w := newWire(t)
	w.from.Abort(errors.New("no disk \xff"))
	if _, err := io.ReadAll(w.to); err == nil || !strings.Contains(err.Error(), "no disk ?") {
		t.Errorf("the other end reads %v", err)
	}
}

// A body that breaks off has no trailers: nobody takes its beginning for all of it.
func TestBrokenBodyHasNoEnd(t *testing.T) {
	w := newWire(t)
	broken := errors.New("the client has gone")
	if err := w.from.SendBody(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken)), noTrailers); !errors.Is(err, broken) {
		t.Errorf("it ends with %v, want %v", err, broken)
	}
	if got := w.to.Trailers(); got != nil {
		t.Errorf("it has the trailers %v", got)
	}
}
