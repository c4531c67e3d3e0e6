package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/culvert-grpc/culvert/e2e/probe"
)

// A scenario is one call, written as data so that clients in other languages can
// run it, and what must come of it.
type scenario struct {
	name     string
	row      string // of the published table, if several scenarios share one
	place    place
	method   string
	script   probe.Script
	metadata []probe.Field
	requests []jobRequest
	timeout  time.Duration

	compress       bool          // the client compresses its requests with gzip
	pingPong       bool          // each request is sent after the reply to the one before
	repliesFirst   int           // the replies that the client awaits before its first request
	cancelAt       int           // the reply after which the client cancels; 0: never
	cancelOnHeader bool          // the client cancels when it has the header
	pause          time.Duration // the client reads nothing for so long after the first reply

	code    codes.Code
	message string
	replies int
	check   func(v *verdict, o observation, r probe.Record) // may be nil
}

// A place is what a call of a scenario meets.
type place string

const (
	ordinary place = ""        // culvert as it is, and a backend
	small    place = "small"   // culvert with limits.message_bytes at 1 MiB
	foreign  place = "foreign" // culvert called from an origin that isn't allowed
	calm     place = "calm"    // culvert and a backend that have little else to do, since time matters
	slow     place = "slow"    // the same as calm, under calls that carry much and wait long
	doomed   place = "doomed"  // a backend that is killed under the call
	drained  place = "drained" // culvert is told to stop under the call
	left     place = "left"    // the client goes away under the call
)

// phases are the places that have a time of their own, in their order. The calls
// of the others run in the first.
var phases = []place{ordinary, calm, slow, doomed, drained, left}

type jobRequest struct {
	Text  string `json:"text,omitempty"`
	Bytes int    `json:"bytes,omitempty"` // the payload's; see jobPayload
}

// A job is a scenario for one client. node/run.js reads it.
type job struct {
	Client         string       `json:"client"`
	Scenario       string       `json:"scenario"`
	ID             string       `json:"id"`
	Phase          place        `json:"phase"`           // one of phases
	Address        string       `json:"address"`         // of culvert, as a URL
	Page           string       `json:"page"`            // that a browser calls from
	Proxy          string       `json:"proxy,omitempty"` // that the client must go through, as a URL
	Method         string       `json:"method"`
	Metadata       []jobField   `json:"metadata"`
	Requests       []jobRequest `json:"requests"`
	TimeoutMS      int64        `json:"timeout_ms"`
	Compress       bool         `json:"compress"`
	PingPong       bool         `json:"ping_pong"`
	RepliesFirst   int          `json:"replies_first"`
	CancelAfter    int          `json:"cancel_after"`
	CancelOnHeader bool         `json:"cancel_on_header"`
	PauseMS        int64        `json:"pause_ms"`
	PatienceMS     int64        `json:"patience_ms"` // for a call that should have ended
	PagePause      *pagePause   `json:"page_pause,omitempty"`
}

type jobField struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
	Bytes []byte `json:"bytes,omitempty"`
}

// job makes the scenario's job for a client.
func (s scenario) job(t testing.TB, client string) job {
	j := job{
		Client: client, Scenario: s.name, ID: newID(t), Method: s.method, Requests: s.requests,
		TimeoutMS: s.timeout.Milliseconds(), Compress: s.compress, PingPong: s.pingPong, RepliesFirst: s.repliesFirst,
		CancelAfter: s.cancelAt, CancelOnHeader: s.cancelOnHeader, PauseMS: s.pause.Milliseconds(),
		PatienceMS: patience.Milliseconds(), // megabytes take a busy machine long
	}
	if slices.Contains(phases, s.place) {
		j.Phase = s.place
	}
	if j.Requests == nil {
		j.Requests = []jobRequest{} // an empty list in JSON, too
	}
	if limited(client, s) != nil {
		// What can't be done with many can't be done with a few.
		j.Requests = j.Requests[:min(3, len(j.Requests))]
		j.PatienceMS = (4*time.Second + s.pause).Milliseconds()
	}
	j.Metadata = []jobField{{Name: probe.IDKey, Value: j.ID}, {Name: probe.ScriptKey, Value: s.script.String()}}
	for _, f := range s.metadata {
		j.Metadata = append(j.Metadata, jobField(f))
	}
	return j
}

// An observation is what a client saw of a job.
type observation struct {
	Client    string              `json:"client"`
	Scenario  string              `json:"scenario"`
	ID        string              `json:"id"`
	Code      codes.Code          `json:"code"`
	Message   string              `json:"message"`
	Header    map[string][]string `json:"header"`
	Trailer   map[string][]string `json:"trailer"`
	Replies   []observedReply     `json:"replies"`
	Metadata  map[string][]string `json:"metadata"` // the request's, as the backend listed it
	Cancelled bool                `json:"cancelled"`
	Error     string              `json:"error"` // what went wrong beside the status
	Millis    int                 `json:"millis"`
	Paused    bool                `json:"paused"`    // no more: the page stands still, and the call goes on
	PausedAt  int                 `json:"paused_at"` // how many replies had come when the page was paused

	// The details, as the client shows them: decoded once or not at all.
	DetailsBin string           `json:"details_bin"`
	Details    []observedDetail `json:"details"`
}

type observedReply struct {
	Sequence uint64 `json:"sequence"`
	Text     string `json:"text"`
	Received uint64 `json:"received"`
	Bytes    int    `json:"bytes"`
	SHA256   string `json:"sha256"`
}

type observedDetail struct {
	Type  string `json:"type"`
	Value string `json:"value"` // base64
}

// jobPayload is the payload of a jobRequest. It must be what node/run.js makes.
func jobPayload(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i*31 + 7)
	}
	return b
}

// A verdict gathers what is wrong with a call.
type verdict struct{ problems []string }

func (v *verdict) errorf(format string, args ...any) {
	v.problems = append(v.problems, fmt.Sprintf(format, args...))
}

// judge says what is wrong with a call, by what its client saw and, above all, by
// what the backend saw of it.
func (s scenario) judge(t testing.TB, o observation, b *backend) verdict {
	var v verdict
	if s.place == foreign {
		// A browser tells the page nothing but that it failed.
		if o.Code == codes.OK && o.Error == "" {
			v.errorf("the call was answered")
		}
		if _, began := b.saw(t, o.ID); began {
			v.errorf("the backend has seen the call")
		}
		return v
	}
	if o.Error != "" {
		v.errorf("the client failed: %s", o.Error)
		return v
	}
	if o.Code != s.code {
		v.errorf("status %v %q, want %v", o.Code, o.Message, s.code)
	}
	if s.message != anyMessage && o.Message != s.message {
		v.errorf("message %q, want %q", o.Message, s.message)
	}
	if len(o.Replies) != s.replies {
		v.errorf("%d replies, want %d", len(o.Replies), s.replies)
		return v
	}
	r, began := b.saw(t, o.ID)
	switch {
	case s.method == "Missing":
		if began {
			v.errorf("the backend has seen the call")
		}
	case s.place == doomed:
		// What it saw died with it.
	case !began && s.place != small: // what is too large need not get there
		v.errorf("the backend has not seen the call")
		return v
	case began:
		r = b.record(t, o.ID, probe.Ended, patience)
		if r.Attempts != 1 {
			v.errorf("the call began %d times at the backend", r.Attempts)
		}
		if r.Fault != "" {
			v.errorf("at the backend %s", r.Fault)
		}
	}
	if s.check != nil {
		s.check(&v, o, r)
	}
	return v
}

func (v *verdict) texts(o observation, want ...string) {
	var got []string
	for _, r := range o.Replies {
		got = append(got, r.Text)
	}
	v.equal("the texts", got, want...)
}

// numbered checks that the replies are those of probe.Payload, in order.
func (v *verdict) numbered(o observation, size int) {
	for i, r := range o.Replies {
		if r.Sequence != uint64(i) || r.SHA256 != sum(probe.Payload(r.Sequence, size)) {
			v.errorf("reply %d is number %d with the sum %s", i, r.Sequence, r.SHA256)
			return
		}
	}
}

func (v *verdict) equal(what string, got []string, want ...string) {
	if !slices.Equal(got, want) {
		v.errorf("%s: got %q, want %q", what, got, want)
	}
}

// reasons checks the reasons of the ErrorInfos of a domain in the details.
func (v *verdict) reasons(o observation, domain string, want ...string) {
	var got []string
	for _, d := range v.details(o) {
		info := new(errdetails.ErrorInfo)
		if d.GetTypeUrl() != "type.googleapis.com/google.rpc.ErrorInfo" {
			continue
		}
		if err := proto.Unmarshal(d.GetValue(), info); err != nil {
			v.errorf("an ErrorInfo: %v", err)
		}
		if info.GetDomain() == domain {
			got = append(got, info.GetReason())
		}
	}
	v.equal("the reasons of "+domain, got, want...)
}

// sameStatus checks that every byte of the backend's status and details has come.
func (v *verdict) sameStatus(o observation, want []byte) {
	if o.DetailsBin != "" {
		if got, err := base64.RawStdEncoding.DecodeString(o.DetailsBin); err != nil || !bytes.Equal(got, want) {
			v.errorf("the status is %q (%v), want %x", o.DetailsBin, err, want)
		}
		return
	}
	st := new(spb.Status)
	if err := proto.Unmarshal(want, st); err != nil {
		v.errorf("the backend's status: %v", err)
	}
	var got, sent []string
	for _, d := range o.Details {
		got = append(got, d.Type+" "+d.Value)
	}
	for _, d := range st.GetDetails() {
		_, name, _ := strings.Cut(d.GetTypeUrl(), "/")
		sent = append(sent, name+" "+base64.RawStdEncoding.EncodeToString(d.GetValue()))
	}
	v.equal("the details", got, sent...)
}

// details returns the details that the client showed.
func (v *verdict) details(o observation) []*anypb.Any {
	if o.DetailsBin != "" {
		raw, err := base64.RawStdEncoding.DecodeString(o.DetailsBin)
		st := new(spb.Status)
		if err == nil {
			err = proto.Unmarshal(raw, st)
		}
		if err != nil {
			v.errorf("the details %q: %v", o.DetailsBin, err)
		}
		return st.GetDetails()
	}
	var out []*anypb.Any
	for _, d := range o.Details {
		raw, err := base64.RawStdEncoding.DecodeString(d.Value)
		if err != nil {
			v.errorf("a detail: %v", err)
		}
		out = append(out, &anypb.Any{TypeUrl: "type.googleapis.com/" + d.Type, Value: raw})
	}
	return out
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
