package ratelimit

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/culvert-grpc/culvert/codec"
)

const (
	ok   = ratelimitv3.RateLimitResponse_OK
	over = ratelimitv3.RateLimitResponse_OVER_LIMIT
)

type descriptorStatus = ratelimitv3.RateLimitResponse_DescriptorStatus

func header(pairs ...string) (list []*corev3.HeaderValue) {
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, &corev3.HeaderValue{Key: pairs[i], Value: pairs[i+1]})
	}
	return list
}

func judge(t testing.TB, r *ratelimitv3.RateLimitResponse) (Answer, *Refusal) {
	t.Helper()
	l := fakeLimiter(t, patient(), &fakeService{})
	f := aCall()
	return l.judge(l.question(&f), r)
}

func TestAnswersOverTheLimit(t *testing.T) {
	in := func(d time.Duration) *descriptorStatus {
		return &descriptorStatus{Code: over, DurationUntilReset: durationpb.New(d)}
	}
	perMinute := &ratelimitv3.RateLimitResponse_RateLimit{RequestsPerUnit: 10, Unit: ratelimitv3.RateLimitResponse_RateLimit_MINUTE}
	perTwo := &ratelimitv3.RateLimitResponse_RateLimit{RequestsPerUnit: 5, Unit: ratelimitv3.RateLimitResponse_RateLimit_HOUR, UnitMultiplier: wrapperspb.UInt32(2)}
	for name, c := range map[string]struct {
		statuses []*descriptorStatus
		header   []*corev3.HeaderValue
		after    time.Duration
		cause    string
	}{
		"nothing more":           {nil, nil, 0, "the rate limit service answered with the code OVER_LIMIT"},
		"one of two":             {[]*descriptorStatus{in(7 * time.Second), {Code: ok, DurationUntilReset: durationpb.New(time.Hour)}}, nil, 7 * time.Second, "over the limit by identity, method"},
		"both":                   {[]*descriptorStatus{in(7 * time.Second), in(60 * time.Second)}, nil, time.Minute, "over the limit by identity, method; by peer"},
		"limits":                 {[]*descriptorStatus{{Code: over, CurrentLimit: perMinute}, {Code: over, CurrentLimit: perTwo}}, nil, 0, "over the limit by identity, method (10 in a minute); by peer (5 in a 2 hours)"},
		"a part of a second":     {[]*descriptorStatus{in(time.Millisecond)}, nil, time.Second, "over the limit by identity, method"},
		"negative":               {[]*descriptorStatus{in(-time.Second)}, nil, 0, "over the limit by identity, method"},
		"longer than a year":     {[]*descriptorStatus{in(maxRetry + 1)}, nil, 0, "over the limit by identity, method"},
		"an impossible duration": {[]*descriptorStatus{{Code: over, DurationUntilReset: &durationpb.Duration{Seconds: 1, Nanos: -1}}}, nil, 0, "over the limit by identity, method"},
		"in the header":          {nil, header("Retry-After", "30"), 30 * time.Second, "the rate limit service answered with the code OVER_LIMIT"},
		"both ways":              {[]*descriptorStatus{in(7 * time.Second)}, header("retry-after", "30"), 7 * time.Second, "over the limit by identity, method"},
		"no number":              {nil, header("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT"), 0, "the rate limit service answered with the code OVER_LIMIT"},
		"a negative number":      {nil, header("retry-after", "-1"), 0, "the rate limit service answered with the code OVER_LIMIT"},
		"a large number":         {nil, header("retry-after", "4294967295"), 0, "the rate limit service answered with the code OVER_LIMIT"},
		"more than was asked":    {[]*descriptorStatus{{Code: ok}, {Code: ok}, in(time.Second), nil}, nil, time.Second, "the rate limit service answered with the code OVER_LIMIT"},
	} {
		_, r := judge(t, &ratelimitv3.RateLimitResponse{OverallCode: over, Statuses: c.statuses, ResponseHeadersToAdd: c.header})
		if r == nil {
			t.Errorf("%s: passes", name)
			continue
		}
		when := "later"
		if c.after > 0 {
			when = fmt.Sprintf("in %d s", int(c.after.Seconds()))
		}
		if want := "the rate limit of this service was reached; try again " + when; r.Message != want || r.RetryAfter != c.after {
			t.Errorf("%s: got %q, %v, want %q", name, r.Message, r.RetryAfter, want)
		}
		if r.Kind != OverLimit || r.Error() != c.cause {
			t.Errorf("%s: got %v, %q, want %q", name, r.Kind, r.Error(), c.cause)
		}
	}
}

// TestOverallCodeDecides, as in Envoy: in its shadow mode the service says OK whatever the
// descriptors' codes are.
func TestOverallCodeDecides(t *testing.T) {
	for code, want := range map[ratelimitv3.RateLimitResponse_Code]string{
		ok: "", over: "over the limit by identity, method", 0: "UNKNOWN", 7: "code 7", -1: "code -1",
	} {
		a, r := judge(t, &ratelimitv3.RateLimitResponse{OverallCode: code, Statuses: []*descriptorStatus{{Code: over}}})
		if (r == nil) != (want == "") || a.Open != nil {
			t.Errorf("%d: got %+v, %v", code, a, r)
		} else if r != nil && (!strings.Contains(r.Error(), want) || (r.Kind == OverLimit) != (code == over)) {
			t.Errorf("%d: got %v, want %q", code, r, want)
		}
	}
}

func TestHeadersForTheClient(t *testing.T) {
	many := make([]string, 0, 40)
	for i := range 20 {
		many = append(many, fmt.Sprint("x-", i), "1")
	}
	for name, c := range map[string]struct {
		in   []*corev3.HeaderValue
		want metadata.MD
	}{
		"none":           {nil, nil},
		"Envoy's":        {header("RateLimit-Limit", "10, 10;w=60", "RateLimit-Remaining", "0"), metadata.MD{"ratelimit-limit": {"10, 10;w=60"}, "ratelimit-remaining": {"0"}}},
		"twice":          {header("x-a", "1", "X-A", "2"), metadata.MD{"x-a": {"1", "2"}}},
		"raw":            {[]*corev3.HeaderValue{{Key: "x-a", RawValue: []byte("1")}}, metadata.MD{"x-a": {"1"}}},
		"what can't":     {header("grpc-status", "0", "TE", "1", ":status", "200", "", "1", "x a", "1", "x-a-bin", "AA", "x-b", "a\r\nb", "x-c", "\xff", "\u212a", "1", "x-d", "1"), metadata.MD{"x-d": {"1"}}},
		"a large value":  {header("x-a", "1", "x-b", strings.Repeat("a", maxHeaderBytes), "x-c", "1"), metadata.MD{"x-a": {"1"}}},
		"a nil in it":    {[]*corev3.HeaderValue{nil}, nil},
		"more than some": {header(many...)[:17], nil},
	} {
		if name == "more than some" {
			c.want = metadata.MD{}
			for _, h := range c.in[:maxHeaders] {
				c.want.Set(h.GetKey(), "1")
			}
		}
		a, _ := judge(t, &ratelimitv3.RateLimitResponse{OverallCode: ok, ResponseHeadersToAdd: c.in})
		_, r := judge(t, &ratelimitv3.RateLimitResponse{OverallCode: over, ResponseHeadersToAdd: c.in})
		if !reflect.DeepEqual(a.Header, c.want) || !reflect.DeepEqual(r.Header, c.want) {
			t.Errorf("%s: got %v and %v, want %v", name, a.Header, r.Header, c.want)
		}
	}
}

// FuzzResponse judges the bytes of a RateLimitResponse.
func FuzzResponse(f *testing.F) {
	for _, r := range []*ratelimitv3.RateLimitResponse{
		{},
		{OverallCode: ok, ResponseHeadersToAdd: header("RateLimit-Limit", "10", "grpc-status", "0", "x-a", "a\nb")},
		{OverallCode: over, Statuses: []*descriptorStatus{{Code: over, DurationUntilReset: durationpb.New(time.Minute)}, {Code: ok}}},
		{OverallCode: over, Statuses: []*descriptorStatus{{Code: over, DurationUntilReset: &durationpb.Duration{Seconds: 1 << 62, Nanos: -1}}}},
		{OverallCode: over, ResponseHeadersToAdd: header("Retry-After", "99999999999")},
		{OverallCode: 9, RawBody: []byte("no")},
	} {
		b, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	l := fakeLimiter(f, patient(), &fakeService{})
	facts := aCall()
	q := l.question(&facts)
	f.Fuzz(func(t *testing.T, b []byte) {
		response := &ratelimitv3.RateLimitResponse{}
		if proto.Unmarshal(b, response) != nil {
			return
		}
		a, r := l.judge(q, response)
		if (r == nil) != (response.GetOverallCode() == ok) || a.Open != nil {
			t.Errorf("the code %d: got %+v, %v", response.GetOverallCode(), a, r)
		}
		headers := a.Header
		if r != nil {
			headers = r.Header
			if r.RetryAfter < 0 || r.RetryAfter > maxRetry || r.RetryAfter%time.Second != 0 {
				t.Errorf("the retry time %v", r.RetryAfter)
			}
			if strings.ContainsFunc(r.Message+r.Error(), func(c rune) bool { return !unicode.IsPrint(c) }) || len(r.Error()) > 2<<10 {
				t.Errorf("the texts %q, %q", r.Message, r.Error())
			}
		}
		n, size := 0, 0
		for name, values := range headers {
			for _, v := range values {
				n, size = n+1, size+codec.FieldBytes(name, v)
				if !codec.ValidName(name) || !codec.ValidValue(v) || l.o.ReservedDown(name) {
					t.Errorf("%q: %q for the client", name, v)
				}
			}
		}
		if n > maxHeaders || size > maxHeaderBytes {
			t.Errorf("%d headers of %d bytes", n, size)
		}
	})
}
