package socket

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/internal/parts"
)

const writeGrace = 250 * time.Millisecond

// A graceError is a cause that gives a write another time than writeGrace.
type graceError time.Duration

func (graceError) Error() string { return "the end, with a time for the write" }

func graceOf(cause error) time.Duration {
	if given := graceError(0); errors.As(cause, &given) {
		return time.Duration(given)
	}
	return writeGrace
}

// A pipe is what a Guard guards: a write that blocks until the client
// takes it, or until it is cut.
type pipe struct {
	taken chan struct{}
	cut   chan struct{}
}

func newPipe() *pipe { return &pipe{taken: make(chan struct{}, 1), cut: make(chan struct{})} }

// write returns errCut when it was cut.
func (p *pipe) write() error {
	select {
	case <-p.taken:
		return nil
	case <-p.cut:
		return errCut
	}
}

var errCut = errors.New("the write was cut")

func (p *pipe) isCut() bool {
	select {
	case <-p.cut:
		return true
	default:
		return false
	}
}

// guarded runs a test of one guard in a bubble.
func guarded(t *testing.T, f func(t *testing.T, g *Guard, p *pipe, end context.CancelFunc)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		g, p := new(Guard), newPipe()
		g.Watch(ctx, graceOf, func() { close(p.cut) }) // twice would panic
		f(t, g, p, cancel)
	})
}

func TestBlockedWriteIsCutAfterTheGrace(t *testing.T) {
	guarded(t, func(t *testing.T, g *Guard, p *pipe, end context.CancelFunc) {
		if !g.begin(false) {
			t.Fatal("a write can't begin, and the call goes on")
		}
		parts.Elapse(time.Hour) // a slow client is the registry's business
		if p.isCut() {
			t.Fatal("a write was cut, and the call goes on")
		}
		end()
		start := time.Now()
		err := p.write()
		if err == nil {
			t.Error("the write got through")
		}
		if got := time.Since(start); got != writeGrace {
			t.Errorf("it was cut after %v, want %v", got, writeGrace)
		}
		if err := g.end(err); !errors.Is(err, ErrEnded) {
			t.Errorf("a write that was cut returned %v", err)
		}
		if g.begin(false) {
			t.Error("a write begins after the call's end")
		}
		if g.release() {
			t.Error("the way to the client passes for whole")
		}
	})
}

// TestCauseDecidesTheGrace of a write.
func TestCauseDecidesTheGrace(t *testing.T) {
	for _, want := range []time.Duration{writeGrace / 2, 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			g, p := new(Guard), newPipe()
			g.Watch(ctx, graceOf, func() { close(p.cut) })
			g.begin(false)
			start := time.Now()
			cancel(graceError(want))
			err := p.write()
			if took := time.Since(start); took != want {
				t.Errorf("the write was cut after %v, want %v", took, want)
			}
			if g.end(err) == nil || g.release() {
				t.Error("a write that was cut passes for whole")
			}
		})
	}
}

// TestWriteThatWasLateIsWhole: on a busy machine a write may take longer than the grace
// although its client reads. The cut does nothing to it then.
func TestWriteThatWasLateIsWhole(t *testing.T) {
	guarded(t, func(t *testing.T, g *Guard, p *pipe, end context.CancelFunc) {
		err := g.LastWrite(func(late bool) error {
			end()
			parts.Elapse(time.Hour)
			if late || !p.isCut() {
				t.Errorf("late %v, cut %v; want only the cut", late, p.isCut())
			}
			return nil
		})
		if err != nil {
			t.Errorf("a write that was whole returned %v", err)
		}
	})
}

func TestWriteThatGetsOnIsLeftAlone(t *testing.T) {
	guarded(t, func(t *testing.T, g *Guard, p *pipe, end context.CancelFunc) {
		g.begin(false)
		end()
		parts.Elapse(writeGrace - time.Millisecond)
		p.taken <- struct{}{}
		if g.end(p.write()) != nil {
			t.Error("a write that got on within the grace was cut")
		}
		parts.Elapse(time.Hour)
		if p.isCut() {
			t.Error("the connection was cut with nothing being written")
		}
		if g.begin(false) {
			t.Error("a write begins after the call's end")
		}
		if !g.release() {
			t.Error("the way to the client passes for broken")
		}
	})
}

func TestEndBetweenWritesCutsNothing(t *testing.T) {
	guarded(t, func(t *testing.T, g *Guard, p *pipe, end context.CancelFunc) {
		g.begin(false)
		if g.end(nil) != nil {
			t.Error("a write that nobody touched passes for broken")
		}
		end()
		parts.Elapse(time.Hour)
		if p.isCut() || g.begin(false) || !g.release() {
			t.Errorf("cut %v; want the client told the end, and nothing else written", p.isCut())
		}
	})
}

// TestReleaseIsTheLastWord: what the caller writes after it is its own.
func TestReleaseIsTheLastWord(t *testing.T) {
	for name, before := range map[string]func(g *Guard, end context.CancelFunc){
		"before the end": func(*Guard, context.CancelFunc) {},
		"after the end": func(_ *Guard, end context.CancelFunc) {
			end()
			synctest.Wait()
		},
		"at the end": func(_ *Guard, end context.CancelFunc) { end() },
		"within the grace": func(g *Guard, end context.CancelFunc) {
			g.begin(false)
			end()
			parts.Elapse(writeGrace / 2)
			_ = g.end(nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			guarded(t, func(t *testing.T, g *Guard, p *pipe, end context.CancelFunc) {
				before(g, end)
				if !g.release() {
					t.Error("the way to the client passes for broken")
				}
				end()
				parts.Elapse(time.Hour)
				if p.isCut() {
					t.Error("it was cut after the release")
				}
				if g.begin(false) {
					t.Error("a write begins after the release")
				}
			})
		})
	}
}

// TestReleaseBesideTheCut: whichever comes first, both agree on whether the
// client can be told.
func TestReleaseBesideTheCut(t *testing.T) {
	for range 100 {
		guarded(t, func(t *testing.T, g *Guard, p *pipe, end context.CancelFunc) {
			g.begin(false)
			end()
			<-time.After(writeGrace) // the cut runs beside what follows
			err := error(nil)
			if p.isCut() {
				err = errCut
			}
			whole := g.end(err) == nil
			if released := g.release(); released != whole || whole != (err == nil) { // a cut behind the write does nothing
				t.Errorf("the write ended with %v, it was whole: %v, the way is: %v", err, whole, released)
			}
		})
	}
}

// TestLastWrite: the end is told as long as nothing broke into a write, and do
// learns whether the context has ended.
func TestLastWrite(t *testing.T) {
	for name, c := range map[string]struct {
		before func(g *Guard, p *pipe, end context.CancelFunc)
		within func(end context.CancelFunc) // of the last write, which blocks then
		want   []bool                       // what do is told
		err    error
	}{
		"the call goes on": {func(*Guard, *pipe, context.CancelFunc) {}, nil, []bool{false}, nil},
		"the call has ended": {func(_ *Guard, _ *pipe, end context.CancelFunc) {
			end()
			synctest.Wait()
		}, nil, []bool{true}, nil},
		"a write was cut": {func(g *Guard, p *pipe, end context.CancelFunc) {
			err := g.Write(func() error {
				end()
				return p.write()
			})
			if !errors.Is(err, ErrEnded) {
				t.Errorf("the write that was cut returned %v", err)
			}
		}, nil, nil, ErrEnded},
		"it is cut itself": {func(*Guard, *pipe, context.CancelFunc) {}, func(end context.CancelFunc) { end() }, []bool{false}, ErrEnded},
	} {
		t.Run(name, func(t *testing.T) {
			guarded(t, func(t *testing.T, g *Guard, p *pipe, end context.CancelFunc) {
				c.before(g, p, end)
				var told []bool
				err := g.LastWrite(func(late bool) error {
					told = append(told, late)
					if c.within != nil {
						c.within(end)
						return p.write()
					}
					return nil
				})
				if !slices.Equal(told, c.want) || !errors.Is(err, c.err) {
					t.Errorf("do ran with %v, and the end returned %v; want %v and %v", told, err, c.want, c.err)
				}
				if err := g.Write(func() error { return nil }); !errors.Is(err, ErrEnded) {
					t.Errorf("a write after the last one returned %v, want %v", err, ErrEnded)
				}
			})
		})
	}
}

func TestGuardThatWatchesNothing(t *testing.T) {
	var g Guard
	if !g.begin(false) || g.end(nil) != nil || !g.release() || g.begin(false) {
		t.Error("a guard without a context doesn't let one write and then release")
	}
}

// TestWriteBetween: a write waits for it, and it for none.
func TestWriteBetween(t *testing.T) {
	guarded(t, func(t *testing.T, g *Guard, p *pipe, _ context.CancelFunc) {
		ran := func() (ran bool) {
			if err := g.WriteBetween(func() error { ran = true; return nil }); err != nil {
				t.Errorf("between: %v", err)
			}
			return ran
		}
		if !ran() {
			t.Error("nothing is under way, and it doesn't run")
		}
		done := make(chan error, 2)
		if err := g.Write(func() error {
			if ran() {
				t.Error("it runs inside a write")
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		go func() {
			done <- g.WriteBetween(func() error {
				err := p.write()
				done <- nil
				return err
			})
		}()
		synctest.Wait()
		if ran() {
			t.Error("it runs beside itself")
		}
		p.taken <- struct{}{}
		if err := g.LastWrite(func(late bool) error {
			if late || len(done) == 0 {
				t.Errorf("the last write began before the one between had ended; late: %v", late)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		if began, ended := <-done, <-done; began != nil || ended != nil {
			t.Error("the write between failed")
		}
		if ran() {
			t.Error("it runs behind the last write")
		}
	})
}

// TestWriteBetweenIsCut by the end of the context, and by Stop.
func TestWriteBetweenIsCut(t *testing.T) {
	for name, cut := range map[string]func(g *Guard, end context.CancelFunc){
		"the context's end": func(g *Guard, end context.CancelFunc) {
			end()
			if err := g.LastWrite(func(bool) error { return nil }); !errors.Is(err, ErrEnded) {
				t.Errorf("the last write behind it: %v", err)
			}
		},
		"a write": func(g *Guard, end context.CancelFunc) {
			time.AfterFunc(time.Second, end)
			if err := g.Write(func() error { return nil }); !errors.Is(err, ErrEnded) {
				t.Errorf("a write behind it: %v", err)
			}
			g.Stop()
		},
		"a stop": func(g *Guard, _ context.CancelFunc) { g.Stop() },
	} {
		guarded(t, func(t *testing.T, g *Guard, p *pipe, end context.CancelFunc) {
			done := make(chan error, 1)
			go func() { done <- g.WriteBetween(p.write) }()
			synctest.Wait()
			cut(g, end)
			if err := <-done; !errors.Is(err, ErrEnded) || !p.isCut() {
				t.Errorf("%s: %v, cut: %v", name, err, p.isCut())
			}
		})
	}
}

// TestWriteBetweenThatPanics holds up nobody: the way to the client is broken.
func TestWriteBetweenThatPanics(t *testing.T) {
	guarded(t, func(t *testing.T, g *Guard, _ *pipe, _ context.CancelFunc) {
		func() {
			defer func() { _ = recover() }()
			_ = g.WriteBetween(func() error { panic("in a write") })
		}()
		if err := g.Write(func() error { return nil }); !errors.Is(err, ErrEnded) {
			t.Errorf("a write behind it: %v", err)
		}
		if err := g.LastWrite(func(bool) error { return nil }); !errors.Is(err, ErrEnded) {
			t.Errorf("the last write: %v", err)
		}
	})
}
