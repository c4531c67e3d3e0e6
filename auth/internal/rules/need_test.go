package rules

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/identity"
)

const publicMethod, otherMethod = "/grpc.health.v1.Health/Check", "/shop.v1.Orders/Get"

func requirement(t testing.TB, n Need) *Requirement {
	t.Helper()
	r, err := NewRequirement(n)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// saying returns what the ways said, from a letter for each: a way that is absent, valid,
// invalid or unavailable. The subject is the way's name, and so are the refusals' texts.
func saying(letters string, ways []string) []Said {
	said := make([]Said, len(letters))
	for i, c := range letters {
		switch c {
		case '-':
		case 'v':
			said[i] = Said{Finding: Valid, Identity: &identity.Identity{Subject: ways[i], Kind: identity.JWT, Scopes: []string{ways[i]}}}
		case 'i':
			said[i] = Said{Finding: Invalid, Refusal: &identity.Refusal{Reason: identity.BadCredential, Text: ways[i]}}
		case 'u':
			said[i] = Said{Finding: Unavailable, Refusal: &identity.Refusal{Reason: identity.Unjudged, Text: ways[i]}}
		}
	}
	return said
}

// spoken writes a verdict: "ok a", "ok nobody", "invalid a", "unavailable a", "nothing" (the
// call has no credential) or "lacks". A + is a call that is public.
func spoken(v Verdict) string {
	text := "ok nobody"
	switch {
	case v.Refusal != nil && v.Refusal.Text == noCredential:
		text = "nothing"
	case v.Refusal != nil && v.Refusal.Text == oneMissing:
		text = "lacks"
	case v.Refusal != nil && v.Refusal.Reason == identity.Unjudged:
		text = "unavailable " + v.Refusal.Text
	case v.Refusal != nil:
		text = "invalid " + v.Refusal.Text
	case v.Identity != nil:
		text = "ok " + v.Identity.Subject
	}
	if v.Public {
		text += " +"
	}
	return text
}

// TestVerdictsOfTwoWays is the whole truth table of two ways: what they said, and the verdict
// with any_of and all_of, on a method that needs a credential and on a public one.
func TestVerdictsOfTwoWays(t *testing.T) {
	for _, row := range []struct{ said, any, all, publicAny, publicAll string }{
		{"--", "nothing", "nothing", "ok nobody +", "ok nobody +"},
		{"-v", "ok b", "lacks", "ok b +", "ok nobody +"},
		{"-i", "invalid b", "invalid b", "invalid b", "invalid b"},
		{"-u", "unavailable b", "unavailable b", "unavailable b", "unavailable b"},
		{"v-", "ok a", "lacks", "ok a +", "ok nobody +"},
		{"vv", "ok a", "ok a", "ok a +", "ok a +"},
		{"vi", "invalid b", "invalid b", "invalid b", "invalid b"},
		{"vu", "unavailable b", "unavailable b", "unavailable b", "unavailable b"},
		{"i-", "invalid a", "invalid a", "invalid a", "invalid a"},
		{"iv", "invalid a", "invalid a", "invalid a", "invalid a"},
		{"ii", "invalid a", "invalid a", "invalid a", "invalid a"},
		{"iu", "invalid a", "invalid a", "invalid a", "invalid a"},
		{"u-", "unavailable a", "unavailable a", "unavailable a", "unavailable a"},
		{"uv", "unavailable a", "unavailable a", "unavailable a", "unavailable a"},
		{"ui", "invalid b", "invalid b", "invalid b", "invalid b"},
		{"uu", "unavailable a", "unavailable a", "unavailable a", "unavailable a"},
	} {
		ways, public := []string{"a", "b"}, []string{"grpc.health.v1.Health/*"}
		anyOf := requirement(t, Need{Ways: ways, AnyOf: ways, PublicMethods: public})
		allOf := requirement(t, Need{Ways: ways, AllOf: ways, PublicMethods: public})
		neither := requirement(t, Need{Ways: ways, PublicMethods: public}) // any of the ways
		for _, c := range []struct {
			name   string
			r      *Requirement
			method string
			want   string
		}{
			{"any_of", anyOf, otherMethod, row.any},
			{"all_of", allOf, otherMethod, row.all},
			{"any_of, public", anyOf, publicMethod, row.publicAny},
			{"all_of, public", allOf, publicMethod, row.publicAll},
			{"neither", neither, otherMethod, row.any},
			{"neither, public", neither, publicMethod, row.publicAny},
		} {
			if got := spoken(c.r.Judge(c.method, saying(row.said, ways))); got != c.want {
				t.Errorf("%s of %s: got %q, want %q", c.name, row.said, got, c.want)
			}
		}
	}
}

// expected is the verdict, told in another way than Judge: by what occurs in the letters.
func expected(letters string, all int, ways []string, public bool) string {
	suffix := ""
	if public {
		suffix = " +"
	}
	if i := strings.IndexByte(letters, 'i'); i >= 0 {
		return "invalid " + ways[i]
	}
	if i := strings.IndexByte(letters, 'u'); i >= 0 {
		return "unavailable " + ways[i]
	}
	met := !strings.Contains(letters[:all], "-") && (all == len(letters) || strings.Contains(letters[all:], "v"))
	switch {
	case met && letters == "":
		return "ok nobody +"
	case met:
		return "ok " + ways[strings.IndexByte(letters, 'v')] + suffix
	case public:
		return "ok nobody +"
	case strings.Contains(letters, "v"):
		return "lacks"
	default:
		return "nothing"
	}
}

// TestVerdictsOfAllCombinations: up to four ways, of which any number are in all_of.
func TestVerdictsOfAllCombinations(t *testing.T) {
	rows := 0
	for n := range 5 {
		ways := []string{"a", "b", "c", "d"}[:n]
		for all := range n + 1 { // without ways, each method is public
			r := requirement(t, Need{Ways: ways, AllOf: ways[:all], AnyOf: ways[all:], PublicMethods: []string{"grpc.health.v1.Health/*"}})
			if !slices.Equal(r.Ways(), ways) {
				t.Fatalf("the ways are %q, want %q", r.Ways(), ways)
			}
			if got := r.Public(otherMethod); got != (n == 0) || !r.Public(publicMethod) {
				t.Errorf("with %d ways, %s is public: %v", n, otherMethod, got)
			}
			for number := range 1 << (2 * n) {
				letters := make([]byte, n)
				for i := range letters {
					letters[i] = "-viu"[number>>(2*i)&3]
				}
				for _, method := range []string{otherMethod, publicMethod} {
					got, want := spoken(r.Judge(method, saying(string(letters), ways))), expected(string(letters), all, ways, method == publicMethod)
					if got != want {
						t.Errorf("all_of %q, any_of %q, said %s, %s: got %q, want %q", ways[:all], ways[all:], letters, method, got, want)
					}
					rows++
				}
			}
		}
	}
	if want := 2 * (1 + 2*4 + 3*16 + 4*64 + 5*256); rows != want {
		t.Errorf("%d rows, want %d", rows, want)
	}
}

// TestOrderOfAllOfAndAnyOf: the lists' order counts, not that of the ways.
func TestOrderOfAllOfAndAnyOf(t *testing.T) {
	ways := []string{"a", "b", "c"}
	r := requirement(t, Need{Ways: ways, AllOf: []string{"c"}, AnyOf: []string{"b", "a"}})
	order := []string{"c", "b", "a"}
	if !slices.Equal(r.Ways(), order) {
		t.Fatalf("the ways are %q, want %q", r.Ways(), order)
	}
	v := r.Judge(otherMethod, saying("vvv", order))
	if v.Way != "c" || v.Identity.Subject != "c" || !slices.Equal(v.Identity.Scopes, []string{"c", "b"}) {
		t.Errorf("got %q, %+v, want c with the scopes of c and b", v.Way, v.Identity)
	}
}

// split returns the letters, or nil.
func split(letters string) []string { return strings.Split(letters, "")[:len(letters)] }

// TestCredentialOfTheCallCountsFirst: of any_of, a valid credential of the call counts before
// one of the connection. Of all_of, the list decides.
func TestCredentialOfTheCallCountsFirst(t *testing.T) {
	ways := []string{"a", "b", "c"}
	for _, c := range []struct{ said, ofCall, all, any, want string }{
		{"vvv", "", "", "abc", "a"},
		{"vvv", "b", "", "abc", "b"},
		{"vvv", "c", "", "abc", "c"},
		{"vvv", "bc", "", "abc", "b"},
		{"vvv", "abc", "", "abc", "a"},
		{"v-v", "b", "", "abc", "a"}, // it is absent
		{"vvv", "b", "abc", "", "a"},
		{"vvv", "c", "a", "bc", "a"},
	} {
		r := requirement(t, Need{Ways: ways, AllOf: split(c.all), AnyOf: split(c.any)})
		said := saying(c.said, ways)
		for i := range said {
			said[i].OfCall = strings.Contains(c.ofCall, ways[i])
		}
		v := r.Judge(otherMethod, said)
		if v.Refusal != nil || v.Way != c.want || v.Identity.Subject != c.want {
			t.Errorf("%+v: got %q, %+v, %v", c, v.Way, v.Identity, v.Refusal)
			continue
		}
		if c.all == "a" && !slices.Equal(v.Identity.Scopes, []string{"a", "c"}) {
			t.Errorf("%+v: got the scopes %q, want those of a and c", c, v.Identity.Scopes)
		}
	}
}

// TestMistakesOfWays: a way that breaks its promise refuses the call.
func TestMistakesOfWays(t *testing.T) {
	r := requirement(t, Need{Ways: []string{"a"}, PublicMethods: []string{"*/*"}})
	for name, said := range map[string]Said{
		"valid without an identity": {Finding: Valid},
		"an identity of no kind":    {Finding: Valid, Identity: &identity.Identity{Kind: identity.None}},
		"an unknown finding":        {Finding: 99},
		"invalid without a refusal": {Finding: Invalid},
	} {
		if v := r.Judge(publicMethod, []Said{said}); v.Refusal != notValid || v.Identity != nil || v.Way != "a" {
			t.Errorf("%s: got %+v", name, v)
		}
	}
	if v := r.Judge(publicMethod, []Said{{Finding: Unavailable}}); v.Refusal != unjudged {
		t.Errorf("got %+v", v)
	}
	denied := &identity.Refusal{Reason: identity.NotPermitted, Text: "the policy says no"}
	if v := r.Judge(otherMethod, []Said{{Finding: Invalid, Refusal: denied}}); v.Refusal != denied {
		t.Errorf("got %+v, want the way's own refusal", v.Refusal)
	}
	defer func() {
		if text := fmt.Sprint(recover()); !strings.HasPrefix(text, "BUG:") {
			t.Errorf("a way that is left out: got %q", text)
		}
	}()
	r.Judge(publicMethod, nil)
}

func TestCausesNameWhatIsMissing(t *testing.T) {
	r := requirement(t, Need{Ways: []string{"mtls", "corp", "keys"}, AllOf: []string{"mtls"}, AnyOf: []string{"corp", "keys"}})
	for letters, want := range map[string]string{
		"---": `none of "mtls", "corp", "keys"`,
		"-v-": `"mtls" found no credential, and all_of needs it`,
		"v--": `none of "corp", "keys" found a credential, and any_of needs one`,
	} {
		v := r.Judge(otherMethod, saying(letters, r.Ways()))
		if v.Refusal == nil || v.Refusal.Reason != identity.BadCredential || !strings.Contains(v.Refusal.Cause.Error(), want) {
			t.Errorf("%s: got %v, want %q", letters, v.Refusal, want)
			continue
		}
		for _, inside := range []string{"mtls", "corp", "keys"} {
			if strings.Contains(v.Refusal.Text, inside) {
				t.Errorf("%s: the client's text names %q: %s", letters, inside, v.Refusal.Text)
			}
		}
	}
}

// TestFirstOfSeveralMissingIsNamed: also where any_of is missing, too.
func TestFirstOfSeveralMissingIsNamed(t *testing.T) {
	ways := []string{"a", "b", "c", "d"}
	r := requirement(t, Need{Ways: ways, AllOf: ways[:3], AnyOf: ways[3:]})
	v := r.Judge(otherMethod, saying("v---", ways))
	if v.Refusal == nil || v.Refusal.Cause == nil || !strings.HasPrefix(v.Refusal.Cause.Error(), `"b" found no credential`) {
		t.Errorf("got %v, want a cause for b", v.Refusal)
	}
}

func TestMergedIdentity(t *testing.T) {
	soon, late := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC)
	cert := &identity.Identity{Subject: "pod", Issuer: "ca", Kind: identity.MTLS, Expires: late, Metadata: map[string][]string{"x-team": {"shop"}}}
	user := &identity.Identity{Subject: "alice", Issuer: "https://id.example", Kind: identity.JWT, Scopes: []string{"read", "write"}, Expires: soon, Metadata: map[string][]string{"x-team": {"evil"}, "x-mail": {"a@example.com"}}}
	user.Claims = claiming(0, 2).Claims
	key := &identity.Identity{Subject: "ci", Kind: identity.APIKey, Scopes: []string{"write", "admin"}}
	spare := []string{"write", "admin", "", ""}
	key.Scopes = spare[:2] // an append could write behind them
	other := identity.Identity{Subject: "bob", Issuer: "https://other.example", Kind: identity.JWT, Claims: claiming(1, 2).Claims}
	ways := []string{"mtls", "jwt", "keys"}
	valid := func(ids ...*identity.Identity) []Said {
		var said []Said
		for _, id := range ids {
			said = append(said, Said{Finding: Valid, Identity: id})
		}
		return said
	}
	for _, c := range []struct {
		name string
		need Need
		said []Said
		want identity.Identity
	}{
		{"all of three", Need{AllOf: ways}, valid(cert, user, key), identity.Identity{
			Subject: "pod", Issuer: "ca", Kind: identity.MTLS, Scopes: []string{"read", "write", "admin"}, Claims: user.Claims, Expires: soon,
			Metadata: map[string][]string{"x-team": {"shop"}, "x-mail": {"a@example.com"}},
		}},
		{"all in another order", Need{AllOf: []string{"keys", "jwt"}}, valid(key, user), identity.Identity{
			Subject: "ci", Kind: identity.APIKey, Scopes: []string{"write", "admin", "read"}, Claims: user.Claims, Expires: soon, Metadata: user.Metadata,
		}},
		{"all without scopes or metadata", Need{AllOf: []string{"keys", "mtls"}}, valid(&identity.Identity{Subject: "ci", Kind: identity.APIKey}, cert), identity.Identity{
			Subject: "ci", Kind: identity.APIKey, Expires: late, Metadata: cert.Metadata,
		}},
		{"one of all, one of any", Need{AllOf: []string{"mtls"}, AnyOf: []string{"jwt", "keys"}}, valid(cert, user, key), identity.Identity{
			Subject: "pod", Issuer: "ca", Kind: identity.MTLS, Scopes: []string{"read", "write"}, Claims: user.Claims, Expires: soon,
			Metadata: map[string][]string{"x-team": {"shop"}, "x-mail": {"a@example.com"}},
		}},
		{"tokens of two issuers", Need{AllOf: []string{"jwt", "keys"}}, valid(user, &other), identity.Identity{
			Subject: "alice", Issuer: "https://id.example", Kind: identity.JWT, Scopes: []string{"read", "write"}, Claims: claiming(0, 1, 2).Claims, Expires: soon, Metadata: user.Metadata,
		}},
		{"any of three: only the first", Need{AnyOf: []string{"keys", "jwt", "mtls"}}, valid(key, user, cert), *key},
		{"all of one", Need{AllOf: []string{"jwt"}}, valid(user), *user},
	} {
		c.need.Ways = ways
		r := requirement(t, c.need)
		before := []identity.Identity{*cert, *user, *key}
		v := r.Judge(otherMethod, c.said)
		if v.Refusal != nil || !reflect.DeepEqual(*v.Identity, c.want) || v.Way != r.Ways()[0] {
			t.Errorf("%s: got %q, %+v, %v, want %+v", c.name, v.Way, v.Identity, v.Refusal, c.want)
		}
		if !reflect.DeepEqual(before, []identity.Identity{*cert, *user, *key}) || len(cert.Metadata) != 1 || spare[2] != "" {
			t.Errorf("%s: the identities that others share changed", c.name)
		}
	}
}

func TestMistakesOfNeeds(t *testing.T) {
	ways := []string{"corp", "keys"}
	for _, c := range []struct {
		need      Need
		key, says string
	}{
		{Need{AllOf: []string{"corp"}}, "all_of[0]", "no way to authenticate is configured"},
		{Need{Ways: ways, AllOf: []string{"corp", "crop"}}, "all_of[1]", `write one of "corp", "keys"`},
		{Need{Ways: ways, AnyOf: []string{""}}, "any_of[0]", `write one of "corp", "keys"`},
		{Need{Ways: ways, AnyOf: []string{"corp", "keys", "corp"}}, "any_of[2]", "a second time"},
		{Need{Ways: ways, AllOf: []string{"corp"}, AnyOf: []string{"keys", "corp"}}, "any_of[1]", "remove one of them"},
		{Need{Ways: make([]string, 17)}, "ways", "16 are allowed"},
		{Need{Ways: ways, PublicMethods: []string{"a.B/C", "a.B"}}, "public_methods[1]", `want "package.Service/Method"`},
		{Need{Ways: ways, PublicMethods: make([]string, 257)}, "public_methods", "256 are allowed"},
	} {
		r, err := NewRequirement(c.need)
		mistake := new(Mistake)
		if !errors.As(err, &mistake) || r != nil {
			t.Errorf("%+v: got %v, want a mistake", c.need, err)
			continue
		}
		if mistake.Rule != -1 || mistake.Key != c.key || !strings.HasPrefix(err.Error(), c.key+" ") || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: got %q, %v, want %q, %q in it", c.need, mistake.Key, err, c.key, c.says)
		}
	}
}

func TestJudgeAllocatesNothing(t *testing.T) {
	r := requirement(t, Need{Ways: []string{"a", "b"}, AnyOf: []string{"a", "b"}, PublicMethods: []string{"x.Y/*"}})
	said := saying("-v", r.Ways())
	if n := testing.AllocsPerRun(100, func() {
		if v := r.Judge(otherMethod, said); v.Refusal != nil || v.Way != "b" {
			t.Error(v)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkJudge(b *testing.B) {
	r := requirement(b, Need{Ways: []string{"a", "b", "c"}, AllOf: []string{"a"}, AnyOf: []string{"b", "c"}, PublicMethods: []string{"grpc.health.v1.Health/*"}})
	for _, letters := range []string{"v-v", "v--"} {
		said := saying(letters, r.Ways())
		b.Run(letters, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Judge(otherMethod, said)
			}
		})
	}
}
