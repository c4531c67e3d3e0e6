package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/relay"
)

// faulty is the call that is cut: an echo of numbered requests.
var faulty = scenario{
	name: "cut", method: "Bidi", replies: 60,
	script:   probe.Script{Echo: true, AnyPayload: true, Trailer: []probe.Field{{Name: "x-tail", Value: "whole"}}},
	requests: many(60, jobRequest{Bytes: 1000}),
}

// stalled is the call whose way stands still in the middle.
var stalled = scenario{
	name: "stalled", method: "ServerStream", replies: 60,
	script:   probe.Script{Replies: 60, ReplyBytes: 1000, ReplyEvery: 50, Trailer: []probe.Field{{Name: "x-tail", Value: "whole"}}},
	requests: []jobRequest{{}},
}

// TestFaultsUnderTheNPMPackage has @culvert/web call through a relay that cuts the
// connection at any byte, that holds each byte back, or that stands still for a time. What
// comes is in order and nothing is missing before it. A call that isn't whole ends with
// UNAVAILABLE and says whether the backend may have seen it. No call begins twice.
func TestFaultsUnderTheNPMPackage(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	page := servePage(t, bundlePage(t))
	c := startCulvert(t, b.address, culvertOptions{args: []string{"--allow-origin", page}})
	var work sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(func() { stop(); work.Wait() })
	var jobs []job
	of := map[string]scenario{}
	add := func(s scenario, platform, address string) string {
		j := s.job(t, platform+" culvert-web")
		j.Address, j.Page = "http://"+address, page
		jobs, of[j.ID] = append(jobs, j), s
		return j.ID
	}
	random := rand.New(rand.NewPCG(1, 2)) // the same cuts in every run
	for _, platform := range []string{"node", "chromium"} {
		for n := range 60 {
			first := relay.Fate{Reset: n%2 == 0}
			if n%4 < 2 {
				first.AfterDown = 1 + random.Int64N(65_000)
			} else {
				first.AfterUp = 1 + random.Int64N(65_000)
			}
			add(faulty, platform, startRelay(t, c.address, func(connection int) relay.Fate {
				if connection > 0 {
					return relay.Fate{}
				}
				return first
			}).Addr())
		}
		add(faulty, platform, startRelay(t, c.address, func(int) relay.Fate { return relay.Fate{Delay: 1500 * time.Millisecond} }).Addr())
		p := newPath(t, c.address)
		id := add(stalled, platform, p.ln.Addr().String())
		work.Go(func() {
			if _, err := b.control.Wait(ctx, id, probe.Began); err != nil {
				return // the call is missed
			}
			p.still.Lock()
			defer p.still.Unlock()
			select {
			case <-time.After(4 * time.Second):
			case <-ctx.Done():
			}
		})
	}
	seen := runJobs(t, jobs)
	whole, cut := 0, 0
	for _, j := range jobs {
		o := seen[j.ID]
		if o.Code == codes.OK {
			whole++
		} else {
			cut++
		}
		if v := judgeFaults(t, b, of[j.ID], o); len(v.problems) > 0 {
			t.Errorf("%s, %s: %s\nseen by the client: %+v", j.Client, j.Scenario, strings.Join(v.problems, "\n"), o)
		}
	}
	t.Logf("%d calls were whole, %d were cut", whole, cut)
	if whole == 0 || cut == 0 {
		t.Error("the faults have tested nothing")
	}
}

func judgeFaults(t *testing.T, b *backend, s scenario, o observation) verdict {
	if o.Code == codes.OK || s.name == stalled.name {
		v := s.judge(t, o, b)
		v.equal("x-tail", o.Trailer["x-tail"], "whole")
		v.echoed(s, o)
		return v
	}
	var v verdict
	if o.Error != "" || o.Code != codes.Unavailable || o.Message == "" {
		v.errorf("%v %q (%s), want UNAVAILABLE with a reason", o.Code, o.Message, o.Error)
	}
	v.echoed(s, o)
	r, began := b.saw(t, o.ID)
	if r.Attempts > 1 {
		v.errorf("the call began %d times at the backend", r.Attempts)
	}
	switch sent := fmt.Sprint(o.Trailer["culvert-sent"]); {
	case sent != "[maybe]" && sent != "[no]":
		v.errorf("culvert-sent is %s", sent)
	case sent == "[no]" && began:
		v.errorf("the backend has seen the call, and the client says that it has not")
	}
	if began {
		if r = b.record(t, o.ID, probe.Ended, patience); r.Received < int64(len(o.Replies)) {
			v.errorf("%d replies to %d requests", len(o.Replies), r.Received)
		}
	}
	return v
}

// echoed checks that the replies are the first ones, each once.
func (v *verdict) echoed(s scenario, o observation) {
	want := sum(jobPayload(1000))
	for i, r := range o.Replies {
		if s.name == stalled.name {
			want = sum(probe.Payload(uint64(i), 1000))
		}
		if r.Sequence != uint64(i) || r.SHA256 != want {
			v.errorf("reply %d is number %d with the sum %s", i, r.Sequence, r.SHA256)
			return
		}
	}
}

// runJobs runs the jobs of Node and of Chromium and returns what was seen of them by id.
func runJobs(t *testing.T, jobs []job) map[string]observation {
	t.Helper()
	seen := map[string]observation{}
	patience := time.After(5 * time.Minute)
	for platform, program := range map[string]string{"node": "node.js", "chromium": "chromium.js"} {
		own := slices.DeleteFunc(slices.Clone(jobs), func(j job) bool { return !strings.HasPrefix(j.Client, platform+" ") })
		r := startNode(t, platform, program, own)
		for range own {
			select {
			case o, ok := <-r.seen:
				if !ok {
					t.Fatalf("%s ended early: %v", platform, r.err)
				}
				seen[o.ID] = o
			case <-patience:
				t.Fatalf("%s has not ended its calls", platform)
			}
		}
		for range phases {
			r.next()
		}
	}
	return seen
}
