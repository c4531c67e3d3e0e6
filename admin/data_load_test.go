package admin

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// TestOnePageIsMadeAtATime: callers who ask at once take one processor from calls, and those who
// don't read keep nobody waiting.
func TestOnePageIsMadeAtATime(t *testing.T) {
	c := dataControl(t)
	var making, together atomic.Int32
	c.Data.Calls = func(CallQuery) Calls {
		if making.Add(1) > 1 {
			together.Add(1)
		}
		for range 1000 {
			runtime.Gosched() // others would begin theirs
		}
		making.Add(-1)
		return Calls{}
	}
	h := c.Handler()
	unread, made := make(chan struct{}), make(chan struct{}, maxRequests)
	var asking sync.WaitGroup
	for range maxRequests {
		asking.Go(func() {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/calls", http.NoBody)
			r.Host = "localhost"
			h.ServeHTTP(unreadAnswer{httptest.NewRecorder(), made, unread}, r)
		})
	}
	for range maxRequests {
		<-made
	}
	if n := together.Load(); n > 0 {
		t.Errorf("%d pages were made beside others", n)
	}
	close(unread)
	asking.Wait()
}

// An unreadAnswer tells that it is made. It is for a caller who doesn't read until read is closed.
type unreadAnswer struct {
	http.ResponseWriter
	made chan<- struct{}
	read <-chan struct{}
}

func (w unreadAnswer) Write(p []byte) (int, error) {
	w.made <- struct{}{}
	<-w.read
	return w.ResponseWriter.Write(p)
}

// TestAPageThatPanicsIsTheOnlyOne: the next one is made.
func TestAPageThatPanicsIsTheOnlyOne(t *testing.T) {
	c := dataControl(t)
	c.Data.Routes = func() Routes { panic("a test") }
	h := c.Handler()
	func() {
		defer func() { _ = recover() }() // as net/http does
		ask(t, h, http.MethodGet, "/routes", "", nil)
	}()
	if w := ask(t, h, http.MethodGet, "/calls", "", nil); w.Code != http.StatusOK {
		t.Errorf("the next page: %d", w.Code)
	}
}
