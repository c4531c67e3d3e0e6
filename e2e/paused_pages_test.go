package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/probe"
)

// A pagePause says how the page of a job is paused. node/paused.js reads it.
type pagePause struct {
	// Jobs of the same group share a page, which is paused once.
	Group    string `json:"group"`
	LeadMS   int64  `json:"lead_ms"` // after the page's calls were answered
	PauseMS  int64  `json:"pause_ms"`
	Debugger bool   `json:"debugger"`
}

// runPages runs the cells of the browser. Those of one rate and pause share a page.
func (s *pauseStage) runPages(t *testing.T, cells []pauseCell, note func(id string, seen pauseSeen)) {
	var jobs []job
	byID := map[string]pauseCell{}
	patience := time.Duration(0)
	for _, c := range cells {
		jobs = append(jobs, s.pageJob(c))
		byID[c.id] = c
		patience = max(patience, pauseLead+c.pause+pauseTail+pausePatience)
	}
	r := startNode(t, "chromium", "paused.js", jobs)
	// From the last thing that happened: the pages open and begin one after the other, which
	// takes minutes on a machine that does much else.
	overdue := time.NewTimer(patience)
	defer overdue.Stop()
	for left := len(jobs); left > 0; {
		select {
		case o, ok := <-r.seen:
			if !ok {
				t.Errorf("the browser ended: %v", r.err)
				return
			}
			overdue.Reset(patience)
			c := byID[o.ID]
			if o.Paused {
				s.release(t, c)
				continue
			}
			note(o.ID, c.observed(o))
			left--
		case <-overdue.C:
			return // what is missing shows in the cells
		}
	}
}

func (s *pauseStage) pageJob(c pauseCell) job {
	scheme := map[bool]string{false: "http://", true: "https://"}[c.reader.tls]
	return job{
		Client: "chromium " + c.reader.client, ID: c.id, Address: scheme + s.address(c.reader), Page: s.page, Method: "ServerStream",
		Metadata: []jobField{{Name: probe.IDKey, Value: c.id}, {Name: probe.ScriptKey, Value: c.script().String()}},
		Requests: []jobRequest{{}}, PatienceMS: (pauseLead + c.pause + pauseTail + pausePatience).Milliseconds(),
		PagePause: &pagePause{
			Group: fmt.Sprint(c.rate.name, c.pause, c.reader.debugger), LeadMS: pauseLead.Milliseconds(),
			PauseMS: c.pause.Milliseconds(), Debugger: c.reader.debugger,
		},
	}
}

// observed judges what the page saw.
func (c pauseCell) observed(o observation) pauseSeen {
	seen := pauseSeen{stopped: o.PausedAt, err: o.Error}
	if o.Error == "" {
		seen.code = o.Code.String()
	}
	if o.Message != "" {
		seen.err = o.Message
	}
	for i, r := range o.Replies {
		if r.Sequence != uint64(i) || r.SHA256 != sum(probe.Payload(r.Sequence, c.rate.replyBytes)) {
			seen.err = fmt.Sprintf("reply %d came damaged or out of order, as number %d", i, r.Sequence)
			break
		}
		seen.replies++
	}
	return seen
}
