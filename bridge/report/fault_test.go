package report

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestKeysOfRulesAreNoLimits: a status names the limit that was reached, and no rule.
func TestKeysOfRulesAreNoLimits(t *testing.T) {
	for _, c := range []struct {
		f     Fault
		limit string
		http  int
		retry string
	}{
		{Fault{Reason: ReasonNoRoute, Key: KeyRoutes}, "", http.StatusNotFound, ""},
		{Fault{Reason: ReasonOriginDenied, Key: "hosts"}, "", http.StatusForbidden, ""},
		{Fault{Reason: ReasonBadRequest, Key: KeyCertificates, HTTP: http.StatusMisdirectedRequest}, "", http.StatusMisdirectedRequest, ""},
		{Fault{Reason: ReasonLimitExceeded, Key: KeyCalls, Retry: time.Second + 1}, KeyCalls, http.StatusServiceUnavailable, "2"},
		{Fault{Reason: ReasonLimitExceeded, Key: KeyAddressLimits + "calls", Retry: 1}, KeyAddressLimits + "calls", http.StatusTooManyRequests, "1"},
		{Fault{Reason: ReasonMaxAge, Key: KeyRouteMaxAge}, KeyRouteMaxAge, http.StatusServiceUnavailable, ""},
	} {
		if limit, code, retry := c.f.Limit(), c.f.HTTPStatus(), c.f.RetrySeconds(); limit != c.limit || code != c.http || retry != c.retry {
			t.Errorf("%s by %s: the limit %q, HTTP status %d, Retry-After %q; want %q, %d, %q", c.f.Reason, c.f.Key, limit, code, retry, c.limit, c.http, c.retry)
		}
	}
}

// refusedCount is an Observer that counts refusals.
type refusedCount struct {
	Observer
	all, reported int
}

func (o *refusedCount) Refused(r Refusal) {
	o.all++
	if r.ReportOnly {
		o.reported++
	}
}

// TestNote: refusals by a rule are counted and logged, likely mistakes are only logged, and
// others not even that.
func TestNote(t *testing.T) {
	var out bytes.Buffer
	obs := &refusedCount{Observer: Discard()}
	l := NewRefusals(slog.New(slog.NewTextHandler(&out, nil)), obs)
	for _, c := range []struct {
		f    Fault
		says string
		all  int
	}{
		{Fault{Reason: ReasonOriginDenied, Key: "hosts", Text: "a", Hint: "add it"}, `msg=refused reason=ORIGIN_DENIED key=hosts peer=p detail="" hint="add it"`, 1},
		{Fault{Reason: ReasonBadRequest, Text: "a text", Likely: true, Detail: "GET /"}, `msg=refused reason=BAD_REQUEST peer=p detail="GET /" hint="a text"`, 1},
		{Fault{Reason: ReasonBadRequest, Text: "a text"}, "", 1},
	} {
		out.Reset()
		l.Note(&c.f, "p")
		if got := out.String(); !strings.Contains(got, c.says) || (got == "") != (c.says == "") || obs.all != c.all {
			t.Errorf("%+v: logged %q, and %d are counted; want %q and %d", c.f, got, obs.all, c.says, c.all)
		}
	}
	out.Reset()
	if err := l.Unless(true, &Fault{Reason: ReasonNoRoute, Key: KeyRoutes}, "p"); err != nil || obs.reported != 1 || !strings.Contains(out.String(), "would be refused") {
		t.Errorf("a rule that is only tried out gives %v, and %d are reported: %s", err, obs.reported, &out)
	}
	if err := l.Unless(false, &Fault{Reason: ReasonNoRoute, Key: KeyRoutes}, "p"); err == nil || obs.all != 2 {
		t.Errorf("a rule in force gives %v, and %d are counted before anybody has answered", err, obs.all-2)
	}
}
