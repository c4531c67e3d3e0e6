package bridge

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/message"
	"github.com/culvert-grpc/culvert/internal/descriptor"
)

// A StagePanics lets the calls of one server panic at one stage of their way at a time: in a
// step, in a method of their downstream, in a conversion, at their end, or where a request
// is freed. The conformance suite has one for each of its servers.
type StagePanics struct {
	s    *Server
	of   func(*call) bool // which calls; nil: all
	at   atomic.Pointer[string]
	hits atomic.Int64
}

var stagePanics sync.Map // *StagePanics by *Server

// NewStagePanics returns that of a server that doesn't serve yet.
func NewStagePanics(s *Server) *StagePanics {
	p := &StagePanics{s: s}
	s.account.Pool = stagedPool{s.account.Pool, p}
	stagePanics.Store(s, p)
	return p
}

// Arm lets calls panic at the stage; empty: nowhere.
func (p *StagePanics) Arm(stage string) { p.at.Store(&stage) }

// Hits returns how many panics there were.
func (p *StagePanics) Hits() int64 { return p.hits.Load() }

// Left says what calls have left in the server that no Snapshot shows.
func (p *StagePanics) Left() string {
	if n := p.s.policy.Load().users.n.Load(); n != 1 {
		return fmt.Sprintf("%d requests hold the policy", n-1)
	}
	return ""
}

func (p *StagePanics) is(stage string) bool {
	at := p.at.Load()
	return at != nil && *at == stage
}

func (p *StagePanics) reach(stage string) {
	if p.is(stage) {
		p.hits.Add(1)
		panic("a test panics in " + stage)
	}
}

// StageSteps lets the steps of calls reach the stages, until undo.
func StageSteps() (undo func()) {
	before := steps
	for i, of := range before {
		steps[i].run = func(r *call, ctx context.Context) error {
			staged, ok := stagePanics.Load(r.s)
			if !ok {
				return of.run(r, ctx)
			}
			p := staged.(*StagePanics)
			if p.of != nil && !p.of(r) {
				return of.run(r, ctx)
			}
			p.reach(of.name)
			err := of.run(r, ctx)
			switch of.name {
			case "admit":
				r.down = p.wrap(r.down)
			case "open":
				p.spoil(r)
			}
			return err
		}
	}
	return func() { steps = before }
}

// spoil lets the call panic in conversions, and at its end.
func (p *StagePanics) spoil(r *call) {
	c := r.convert
	switch {
	case c == nil:
	case p.is("convert request"):
		p.hits.Add(1)
		*c = message.Converter{}
	case p.is("convert reply"):
		p.hits.Add(1)
		c.Method.Reply = descriptor.Message{}
	}
	stop := r.stopTime
	r.stopTime = func() {
		stop()
		p.reach("end")
	}
}

func (p *StagePanics) wrap(down downstream) downstream {
	staged := stagedDown{down, p}
	switch down := down.(type) {
	case opener:
		return stagedOpener{staged, down}
	case parker:
		return stagedParker{staged, down}
	}
	return staged
}

type stagedDown struct {
	downstream
	p *StagePanics
}

func (d stagedDown) Prepare(ctx context.Context) error {
	d.p.reach("Prepare")
	return d.downstream.Prepare(ctx)
}

func (d stagedDown) Recv() (mem.BufferSlice, error) {
	d.p.reach("Recv")
	return d.downstream.Recv()
}

func (d stagedDown) SendHeader(md metadata.MD, more bool) error {
	d.p.reach("SendHeader")
	return d.downstream.SendHeader(md, more)
}

func (d stagedDown) Send(m mem.BufferSlice, more bool) error {
	d.p.reach("Send")
	return d.downstream.Send(m, more)
}

func (d stagedDown) Finish(st *status.Status, trailer metadata.MD) error {
	d.p.reach("Finish")
	d.p.reach("Abort")
	return d.downstream.Finish(st, trailer)
}

func (d stagedDown) Abort() {
	d.downstream.Abort()
	d.p.reach("Abort")
}

type stagedOpener struct {
	stagedDown
	of opener
}

func (o stagedOpener) Open() error {
	o.p.reach("Open")
	return o.of.Open()
}

type stagedParker struct {
	stagedDown
	parker
}

// A stagedPool panics once where a buffer is freed.
type stagedPool struct {
	mem.BufferPool
	p *StagePanics
}

func (s stagedPool) Put(b *[]byte) {
	if s.p.is("free") {
		defer s.p.Arm("")
		s.p.reach("free")
	}
	s.BufferPool.Put(b)
}
