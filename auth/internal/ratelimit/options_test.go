package ratelimit

import (
	"strings"
	"testing"
)

func TestOptionsThatAreRefused(t *testing.T) {
	entry := func(e Entry) func(*Options) {
		return func(o *Options) { o.Descriptors = []Descriptor{{e}} }
	}
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"no target":          {func(o *Options) { o.Target = "" }, "target"},
		"no reserved names":  {func(o *Options) { o.ReservedDown = nil }, "reserved"},
		"no domain":          {func(o *Options) { o.Domain = "" }, "domain"},
		"a long domain":      {func(o *Options) { o.Domain = strings.Repeat("a", 257) }, "domain"},
		"a negative timeout": {func(o *Options) { o.Timeout = -1 }, "time-out"},
		"a long timeout":     {func(o *Options) { o.Timeout = MaxTimeout + 1 }, "time-out"},
		"negative slots":     {func(o *Options) { o.Concurrent = -1 }, "concurrent"},
		"many slots":         {func(o *Options) { o.Concurrent = MaxConcurrent + 1 }, "concurrent"},
		"no descriptor":      {func(o *Options) { o.Descriptors = nil }, "0 descriptors: give 1 to 16"},
		"many descriptors":   {func(o *Options) { o.Descriptors = make([]Descriptor, 17) }, "17 descriptors"},
		"no entry":           {func(o *Options) { o.Descriptors[1] = nil }, "descriptor 2: 0 entries"},
		"many entries":       {func(o *Options) { o.Descriptors[0] = make(Descriptor, 17) }, "descriptor 1: 17 entries"},
		"no key":             {entry(Entry{Source: FromPeer}), "key"},
		"a long key":         {entry(Entry{Key: strings.Repeat("k", 257), Source: FromPeer}), "key"},
		"a key with a line":  {entry(Entry{Key: "a\nb", Source: FromPeer}), "key"},
		"no literal":         {entry(Entry{Key: "a"}), "value of a"},
		"a blank literal":    {entry(Entry{Key: "a", Text: " "}), "value of a"},
		"an unknown source":  {entry(Entry{Key: "a", Source: 99}), "source 99"},
		"a negative source":  {entry(Entry{Key: "a", Source: -1}), "source -1"},
		"a text unused":      {entry(Entry{Key: "a", Source: FromSubject, Text: "alice"}), `"alice" is set`},
		"no name":            {entry(Entry{Key: "a", Source: FromMetadata}), "can't name metadata"},
		"an upper-case name": {entry(Entry{Key: "a", Source: FromMetadata, Text: "X-Tenant"}), "can't name metadata"},
		"a name of bytes":    {entry(Entry{Key: "a", Source: FromMetadata, Text: "x-tenant-bin"}), "without -bin"},
	} {
		o := patient()
		c.change(&o)
		l, err := New(o)
		if err == nil {
			t.Errorf("%s: accepted", name)
			l.Close()
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %q, want %q in it", name, err, c.want)
		}
	}
}

// TestCredentialsDontReachTheService: the service would keep them in its database.
func TestCredentialsDontReachTheService(t *testing.T) {
	for _, name := range []string{
		"authorization", "proxy-authorization", "x-forwarded-authorization", "cookie", "set-cookie", "x-api-key", "x_api_key", "x.apikey",
		"x-auth-token", "x-jwt-assertion", "x-client-secret", "x-password", "x-session-id",
	} {
		o := patient()
		o.Descriptors = append(o.Descriptors, Descriptor{{Key: "a", Source: FromMetadata, Text: name}})
		if l, err := New(o); err == nil {
			t.Errorf("%s is accepted", name)
			l.Close()
		} else if !strings.Contains(err.Error(), "limit by identity instead") {
			t.Errorf("%s: got %q", name, err)
		}
	}
}

// TestOptionsAreTheLimitersOwn: the caller may change its descriptors afterwards.
func TestOptionsAreTheLimitersOwn(t *testing.T) {
	o := patient()
	l := fakeLimiter(t, o, &fakeService{})
	o.Descriptors[0][0].Key, o.Descriptors[1] = "changed", nil
	f := aCall()
	if got := l.question(&f).String(); strings.Contains(got, "changed") || !strings.Contains(got, "peer") {
		t.Errorf("got %s", got)
	}
}
