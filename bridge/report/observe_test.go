package report

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"
)

// A scribe writes down what it is told.
type scribe struct {
	name  string
	said  *[]string
	calls bool // it wants to be told of calls
}

func (s scribe) say(what string, args ...any) {
	*s.said = append(*s.said, s.name+": "+fmt.Sprintf(what, args...))
}

func (s scribe) ConnBegan(c ConnInfo) { s.say("began %s", c.Peer) }
func (s scribe) ConnEnded(c ConnInfo) { s.say("ended %s", c.Peer) }
func (s scribe) Refused(r Refusal)    { s.say("refused %s", r.Reason) }
func (s scribe) WebEnded(w *WebInfo)  { s.say("web request %s", w.ID) }

func (s scribe) CallBegan(_ context.Context, c *CallInfo, md metadata.MD) CallObserver {
	s.say("call %s with %d fields", c.ID, len(md))
	md["by-"+s.name] = []string{"1"}
	if !s.calls {
		return nil
	}
	return s
}

func (s scribe) Header(header metadata.MD)      { s.say("header %v", header["a"]) }
func (s scribe) Message(d Direction, bytes int) { s.say("message %d of %d bytes", d, bytes) }
func (s scribe) Ended(c *CallInfo)              { s.say("end of %s", c.ID) }

// TestNoObserverIsTold: nil stands for an Observer that isn't there.
func TestNoObserverIsTold(t *testing.T) {
	for _, o := range []Observer{Observers(), Observers(nil), Observers(nil, nil)} {
		if o != Discard() {
			t.Errorf("of nobody: %T, want Discard", o)
		}
	}
	var said []string
	all := []Observer{nil, scribe{"x", &said, true}, nil}
	for want, o := range map[string]Observer{
		"x: began p, x: call 1 with 0 fields, x: end of 1, x: refused NO_ROUTE, x: ended p":                                                                                    Observers(all...),
		"x: began p, y: began p, x: call 1 with 0 fields, y: call 1 with 1 fields, x: end of 1, y: end of 1, x: refused NO_ROUTE, y: refused NO_ROUTE, x: ended p, y: ended p": Observers(append(all, scribe{"y", &said, true})...),
	} {
		said = nil
		o.ConnBegan(ConnInfo{Peer: "p"})
		o.CallBegan(t.Context(), &CallInfo{ID: "1"}, metadata.MD{}).Ended(&CallInfo{ID: "1"})
		o.Refused(Refusal{Reason: ReasonNoRoute})
		o.ConnEnded(ConnInfo{Peer: "p"})
		if got := strings.Join(said, ", "); got != want {
			t.Errorf("they said %q, want %q", got, want)
		}
	}
	if all[0] != nil || all[2] != nil {
		t.Error("the caller's slice has changed")
	}
}

// TestObserversAreToldInTheirOrder, and each sees what the one before it has added
// to the metadata. One that doesn't care for a call isn't told of the rest.
func TestObserversAreToldInTheirOrder(t *testing.T) {
	var said []string
	o := Observers(scribe{"x", &said, true}, Discard(), scribe{"y", &said, false}, scribe{"z", &said, true})
	o.ConnBegan(ConnInfo{Peer: "p"})
	md := metadata.MD{}
	c := o.CallBegan(t.Context(), &CallInfo{ID: "1"}, md)
	c.Header(metadata.Pairs("a", "b"))
	c.Message(Response, 5)
	c.Ended(&CallInfo{ID: "1"})
	o.WebEnded(&WebInfo{ID: "2"})
	o.Refused(Refusal{Reason: ReasonNoRoute})
	o.ConnEnded(ConnInfo{Peer: "p"})
	want := []string{
		"x: began p", "y: began p", "z: began p",
		"x: call 1 with 0 fields", "y: call 1 with 1 fields", "z: call 1 with 2 fields",
		"x: header [b]", "z: header [b]", "x: message 1 of 5 bytes", "z: message 1 of 5 bytes", "x: end of 1", "z: end of 1",
		"x: web request 2", "y: web request 2", "z: web request 2",
		"x: refused NO_ROUTE", "y: refused NO_ROUTE", "z: refused NO_ROUTE",
		"x: ended p", "y: ended p", "z: ended p",
	}
	if !slices.Equal(said, want) {
		t.Errorf("they were told\n%q, want\n%q", said, want)
	}
	if len(md) != 3 {
		t.Errorf("the metadata is %v, want a field of each", md)
	}
}

// TestTwoObserversCostOneAllocation a call, beside their own.
func TestTwoObserversCostOneAllocation(t *testing.T) {
	o := Observers(noted{}, noted{})
	c := new(CallInfo)
	if got := testing.AllocsPerRun(100, func() { o.CallBegan(t.Context(), c, nil).Ended(c) }); got != 1 {
		t.Errorf("a call costs %v allocations, want 1", got)
	}
}

// noted is told of calls and keeps nothing.
type noted struct{ discard }

func (noted) CallBegan(context.Context, *CallInfo, metadata.MD) CallObserver { return DiscardCall() }
