package auth

import (
	"crypto/x509"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestPlacesAndWays: what each way finds in each place, alone and beside others.
func TestPlacesAndWays(t *testing.T) {
	keys, key := keysOf(t, time.Time{}, "ci")
	a := newAuth(t, Config{
		Issuers: []Issuer{staff(t), shop(t)}, APIKeys: keys, Certificates: true, Cookie: "session",
		PublicMethods: []string{"shop.v1.Catalog/*"}, Rules: []Rule{{Name: "no-eve", Deny: true, Identities: []string{"eve"}}},
	})
	const public = "/shop.v1.Catalog/List"
	bearer := func(token string) string { return "Bearer " + token }
	alice, bob, carol := staffToken(nil), shopToken(nil), staffToken(claims{"sub": "carol"})
	expired := staffToken(claims{"exp": time.Now().Unix() - 3600})
	foreign := staffToken(claims{"iss": "https://elsewhere.example"})
	proxy := &report.ClientNames{SPIFFE: "spiffe://example.org/proxy"}
	for name, row := range map[string]struct {
		call aCall
		want string
	}{
		"nothing":                                   {aCall{}, unauthenticated},
		"nothing, of a connection":                  {aCall{connected: true}, unauthenticated},
		"nothing, public":                           {aCall{method: public}, "nobody"},
		"a token of the call":                       {aCall{own: bearer(alice)}, "alice"},
		"the scheme in other letters":               {aCall{own: "bEARER  " + alice + " "}, "alice"},
		"a token, public":                           {aCall{own: bearer(alice), method: public}, "alice"},
		"a token of the connection":                 {aCall{conn: bearer(alice)}, "alice"},
		"a cookie of the call":                      {aCall{ownCookie: "a=1; session=" + alice}, "alice"},
		"a cookie of the connection":                {aCall{cookie: `session="` + alice + `"`}, "alice"},
		"an empty cookie":                           {aCall{ownCookie: "session="}, unauthenticated},
		"an empty cookie, public":                   {aCall{ownCookie: "session=", method: public}, "nobody"},
		"another cookie":                            {aCall{ownCookie: "other=" + alice}, unauthenticated},
		"a subprotocol":                             {aCall{bearer: alice}, "alice"},
		"an API key in its header":                  {aCall{key: key["ci"]}, "ci"},
		"an API key as a token":                     {aCall{own: bearer(key["ci"])}, "ci"},
		"an API key as a token of the connection":   {aCall{conn: bearer(key["ci"])}, "ci"},
		"an API key in a cookie":                    {aCall{ownCookie: "session=" + key["ci"]}, unauthenticated},
		"a certificate":                             {aCall{client: proxy}, proxy.SPIFFE},
		"a certificate of the connection":           {aCall{client: proxy, connected: true}, proxy.SPIFFE},
		"a certificate without a name":              {aCall{client: &report.ClientNames{}}, unauthenticated},
		"a common name that looks like a SPIFFE ID": {aCall{client: &report.ClientNames{CommonName: proxy.SPIFFE}}, unauthenticated},

		"a token before a certificate":               {aCall{own: bearer(alice), client: proxy}, "alice"},
		"an API key before a certificate":            {aCall{key: key["ci"], client: proxy}, "ci"},
		"the call's token before the connection's":   {aCall{own: bearer(carol), conn: bearer(alice)}, "carol"},
		"the upgrade's before the cookie's":          {aCall{conn: bearer(alice), cookie: "session=" + carol}, "alice"},
		"the cookie's before the subprotocol's":      {aCall{cookie: "session=" + carol, bearer: alice}, "carol"},
		"a token before an expired cookie":           {aCall{own: bearer(alice), ownCookie: "session=" + expired}, "alice"},
		"a token before a cookie of rubbish":         {aCall{own: bearer(alice), ownCookie: "session=rubbish"}, "alice"},
		"the call's token, the upgrade's is expired": {aCall{own: bearer(alice), conn: bearer(expired)}, "alice"},
		"the call's token, the upgrade's is rubbish": {aCall{own: bearer(alice), conn: "Bearer rubbish"}, "alice"},
		"the call's token, another scheme's upgrade": {aCall{own: bearer(alice), conn: "Basic YTpi"}, "alice"},
		"tokens of two issuers":                      {aCall{own: bearer(bob), conn: bearer(alice)}, "bob"},

		"an expired token":                           {aCall{own: bearer(expired)}, unauthenticated},
		"an expired token, public":                   {aCall{own: bearer(expired), method: public}, unauthenticated},
		"an expired token beside a certificate":      {aCall{own: bearer(expired), client: proxy}, unauthenticated},
		"an expired token beside the connection's":   {aCall{own: bearer(expired), conn: bearer(alice)}, unauthenticated},
		"an expired token beside an API key":         {aCall{own: bearer(expired), key: key["ci"]}, unauthenticated},
		"an expired token of the connection":         {aCall{conn: bearer(expired), client: proxy}, unauthenticated},
		"an API key, the upgrade's token is expired": {aCall{key: key["ci"], conn: bearer(expired)}, unauthenticated},
		"an API key, the upgrade's is another's":     {aCall{key: key["ci"], conn: bearer(foreign)}, unauthenticated},
		"an API key, the upgrade's is rubbish":       {aCall{key: key["ci"], conn: "Bearer rubbish"}, unauthenticated},
		"an API key, another scheme's upgrade":       {aCall{key: key["ci"], conn: "Basic YTpi"}, unauthenticated},
		"an API key, the upgrade's is good":          {aCall{key: key["ci"], conn: bearer(alice)}, "ci"},
		"another issuer's token":                     {aCall{own: bearer(foreign)}, unauthenticated},
		"another issuer's token beside a good one":   {aCall{own: bearer(foreign), conn: bearer(alice)}, unauthenticated},
		"an opaque token":                            {aCall{own: bearer("opaque"), conn: bearer(alice)}, unauthenticated},
		"an opaque token, public":                    {aCall{own: bearer("opaque"), method: public}, unauthenticated},
		"another scheme":                             {aCall{own: "Basic YTpi", conn: bearer(alice)}, unauthenticated},
		"no token behind the scheme":                 {aCall{own: "Bearer ", conn: bearer(alice)}, unauthenticated},
		"two tokens in one value":                    {aCall{own: bearer(alice) + ", " + bearer(carol)}, unauthenticated},
		"two cookies of one name":                    {aCall{ownCookie: "session=" + alice + "; session=" + carol}, unauthenticated},
		"the same cookie twice":                      {aCall{ownCookie: "session=" + alice + "; session=" + alice}, "alice"},
		"an unknown API key":                         {aCall{key: strings.Repeat("k", 40)}, unauthenticated},
		"an unknown API key beside a certificate":    {aCall{key: strings.Repeat("k", 40), client: proxy}, unauthenticated},
		"a damaged API key as a token":               {aCall{own: bearer(key["ci"][:59]), conn: bearer(alice)}, unauthenticated},
		"a valid token of somebody who is refused":   {aCall{own: bearer(staffToken(claims{"sub": "eve"}))}, denied},
		"a valid token of somebody refused, public":  {aCall{own: bearer(staffToken(claims{"sub": "eve"})), method: public}, denied},
		"a valid token of somebody, by a connection": {aCall{conn: bearer(staffToken(claims{"sub": "eve"}))}, denied},
	} {
		if got, _ := judged(t, a, row.call); got != row.want {
			t.Errorf("%s: got %s, want %s", name, got, row.want)
		}
	}
	for _, several := range []bridge.Credentials{{Authorization: []string{bearer(alice), bearer(alice)}}, {Authorization: []string{"", bearer(alice)}}} {
		r := &bridge.AuthRequest{Method: public, Metadata: metadata.MD{"authorization": several.Authorization}, Own: several}
		if got := verdict(a.Authenticate(t.Context(), r)); got != unauthenticated {
			t.Errorf("with %d values: got %s", len(several.Authorization), got)
		}
	}
	r := &bridge.AuthRequest{Method: public, Metadata: metadata.MD{"x-api-key": {key["ci"], key["ci"]}}}
	if got := verdict(a.Authenticate(t.Context(), r)); got != unauthenticated {
		t.Errorf("with two API keys: got %s", got)
	}
}

// TestWhatIsNeeded: all_of and any_of, which the package rules tests by itself.
func TestWhatIsNeeded(t *testing.T) {
	keys, key := keysOf(t, time.Now().Add(time.Minute), "ci")
	proxy := &report.ClientNames{SPIFFE: "spiffe://example.org/proxy"}
	alice := "Bearer " + staffToken(claims{"role": "admin"})
	for name, row := range map[string]struct {
		all, any []string
		call     aCall
		want     string
	}{
		"both":                     {[]string{"staff", WayCertificates}, []string{WayAPIKeys}, aCall{own: alice, client: proxy, key: key["ci"]}, "alice"},
		"the first names them":     {[]string{WayCertificates, "staff", WayAPIKeys}, nil, aCall{own: alice, client: proxy, key: key["ci"]}, proxy.SPIFFE},
		"of the connection":        {[]string{WayCertificates, "staff", WayAPIKeys}, nil, aCall{conn: alice, client: proxy, key: key["ci"]}, proxy.SPIFFE},
		"one is missing":           {[]string{WayCertificates, "staff", WayAPIKeys}, nil, aCall{own: alice, client: proxy}, unauthenticated},
		"any is missing":           {[]string{WayCertificates}, []string{"staff", WayAPIKeys}, aCall{client: proxy}, unauthenticated},
		"any is there":             {[]string{WayCertificates}, []string{"staff", WayAPIKeys}, aCall{client: proxy, key: key["ci"]}, proxy.SPIFFE},
		"any of the connection":    {[]string{WayCertificates}, []string{"staff", WayAPIKeys}, aCall{client: proxy, conn: alice}, proxy.SPIFFE},
		"one is bad":               {[]string{WayCertificates}, []string{"staff", WayAPIKeys}, aCall{client: proxy, conn: alice, key: strings.Repeat("k", 40)}, unauthenticated},
		"the call's comes first":   {nil, []string{WayCertificates, "staff", WayAPIKeys}, aCall{own: alice, client: proxy}, "alice"},
		"of several, the call's":   {nil, []string{"staff", WayCertificates, WayAPIKeys}, aCall{conn: alice, client: proxy, key: key["ci"]}, "ci"},
		"of several, in the order": {nil, []string{WayCertificates, "staff", WayAPIKeys}, aCall{conn: alice, client: proxy}, proxy.SPIFFE},
	} {
		a := newAuth(t, Config{Issuers: []Issuer{staff(t)}, APIKeys: keys, Certificates: true, AllOf: row.all, AnyOf: row.any})
		r := wantJudged(t, a, row.call, row.want)
		if t.Failed() {
			t.Fatal(name)
		}
		if len(row.all) == 3 && row.want == proxy.SPIFFE {
			if got := r.Metadata["x-culvert-scopes"]; !slices.Equal(got, []string{"read write"}) || r.Metadata["x-role"][0] != "admin" {
				t.Errorf("%s: scopes %q, and %v", name, got, r.Metadata)
			}
		}
	}
}

// TestDeniedBesideAnother: a denied credential gets nobody in, whichever others are beside it and
// whichever of them counts. Rules that allow see the one that counts.
func TestDeniedBesideAnother(t *testing.T) {
	keys, key := keysOf(t, time.Time{}, "ci")
	proxy := &report.ClientNames{SPIFFE: "spiffe://example.org/proxy"}
	alice := "Bearer " + staffToken(nil)
	all := []string{"staff", WayCertificates}
	const public = "/shop.v1.Catalog/List"
	for name, row := range map[string]struct {
		all  []string
		deny Rule
		call aCall
		want string
	}{
		"the certificate, beside a token":     {nil, Rule{Identities: []string{proxy.SPIFFE}}, aCall{client: proxy, own: alice}, denied},
		"the certificate, with all_of":        {all, Rule{Identities: []string{proxy.SPIFFE}, Kinds: []string{"mtls"}}, aCall{client: proxy, own: alice}, denied},
		"the certificate, beside a key":       {nil, Rule{Kinds: []string{"mtls"}}, aCall{client: proxy, key: key["ci"]}, denied},
		"the certificate, of a connection":    {nil, Rule{Kinds: []string{"mtls"}}, aCall{client: proxy, connected: true, own: alice}, denied},
		"the certificate, on a public method": {all, Rule{Kinds: []string{"mtls"}}, aCall{client: proxy, method: public}, denied},
		"the connection's token":              {nil, Rule{Issuers: []string{"staff"}}, aCall{conn: alice, key: key["ci"]}, denied},
		"the connection's scope":              {nil, Rule{Scopes: []string{"write"}}, aCall{conn: alice, key: key["ci"]}, denied},
		"another certificate":                 {all, Rule{Identities: []string{"spiffe://example.org/other"}}, aCall{client: proxy, own: alice}, "alice"},
		"the key, which the call hasn't":      {nil, Rule{Kinds: []string{"api-key"}}, aCall{client: proxy, own: alice}, "alice"},
		"a name of another kind":              {all, Rule{Identities: []string{"alice"}, Kinds: []string{"mtls"}}, aCall{client: proxy, own: alice}, "alice"},
		"the connection's, in the same place": {nil, Rule{Scopes: []string{"write"}}, aCall{conn: alice, own: "Bearer " + staffToken(claims{"scope": "read"})}, "alice"},
	} {
		row.deny.Name, row.deny.Deny = "no", true
		cfg := Config{Issuers: []Issuer{staff(t)}, APIKeys: keys, Certificates: true, AllOf: row.all, PublicMethods: []string{"shop.v1.Catalog/*"}, Rules: []Rule{row.deny}}
		if row.all != nil {
			cfg.APIKeys = nil
		}
		if got, r := judged(t, newAuth(t, cfg), row.call); got != row.want || (r.Rule == "no") != (row.want == denied) {
			t.Errorf("%s: got %s by the rule %q, want %s", name, got, r.Rule, row.want)
		}
	}
}

// TestServiceThatNobodyAsks: on a public method that lacks another credential, the service isn't
// asked, and no rule sees an identity of it.
func TestServiceThatNobodyAsks(t *testing.T) {
	a := newAuth(t, Config{
		Issuers: []Issuer{staff(t)}, Certificates: true, External: &External{Target: "127.0.0.1:1"}, AllOf: []string{"staff", WayExternal, WayCertificates},
		PublicMethods: []string{"shop.v1.Catalog/*"}, Rules: []Rule{{Name: "no", Deny: true, Kinds: []string{"external"}}},
	})
	wantJudged(t, a, aCall{client: &report.ClientNames{SPIFFE: "spiffe://example.org/proxy"}, method: "/shop.v1.Catalog/List"}, "nobody")
}

// TestCertificateThatIsNoWay: that of a proxy, or of a client whose token is bound to it, changes
// nothing for tokens and API keys, and proves nothing.
func TestCertificateThatIsNoWay(t *testing.T) {
	keys, key := keysOf(t, time.Time{}, "ci")
	a := newAuth(t, Config{Issuers: []Issuer{staff(t)}, APIKeys: keys, PublicMethods: []string{"shop.v1.Catalog/*"}})
	for name, row := range map[string]struct {
		call aCall
		want string
	}{
		"a token":                   {aCall{own: "Bearer " + staffToken(nil)}, "alice"},
		"a token of the connection": {aCall{conn: "Bearer " + staffToken(nil)}, "alice"},
		"an API key":                {aCall{key: key["ci"]}, "ci"},
		"nothing":                   {aCall{}, unauthenticated},
		"nothing, of a connection":  {aCall{connected: true}, unauthenticated},
		"nothing, public":           {aCall{method: "/shop.v1.Catalog/List"}, "nobody"},
		"a bad token":               {aCall{own: "Bearer bad"}, unauthenticated},
	} {
		row.call.client = &report.ClientNames{SPIFFE: "spiffe://example.org/proxy"}
		if got, _ := judged(t, a, row.call); got != row.want {
			t.Errorf("%s: got %s, want %s", name, got, row.want)
		}
	}
	var j judge
	a = newAuth(t, Config{Issuers: []Issuer{staff(t)}, External: j.serveGRPC(t), PublicMethods: []string{"shop.v1.Catalog/*"}})
	for name, row := range map[string]struct {
		call  aCall
		want  string
		asked int
	}{
		"a token":          {aCall{own: "Bearer " + staffToken(nil)}, "alice", 0},
		"a service's":      {aCall{own: "Bearer secret-alice"}, "alice", 1},
		"nothing":          {aCall{}, unauthenticated, 1},
		"nothing, public":  {aCall{method: "/shop.v1.Catalog/List"}, "nobody", 0},
		"of a connection":  {aCall{conn: "Bearer " + staffToken(nil)}, "alice", 0},
		"connected, alone": {aCall{connected: true}, unauthenticated, 1},
	} {
		row.call.client = &report.ClientNames{SPIFFE: "spiffe://example.org/proxy"}
		if got, _ := judged(t, a, row.call); got != row.want {
			t.Errorf("%s, with a service: got %s, want %s", name, got, row.want)
		}
		if n := len(j.asked()); n != row.asked {
			t.Errorf("%s: the service was asked %d times, want %d", name, n, row.asked)
		}
	}
}

// TestIdentityMetadata: the backend learns who calls, from nobody else.
func TestIdentityMetadata(t *testing.T) {
	keys, key := keysOf(t, time.Time{}, "ci")
	a := newAuth(t, Config{Issuers: []Issuer{staff(t)}, APIKeys: keys, Certificates: true, PublicMethods: []string{"*/*"}})
	forged := metadata.MD{"x-role": {"admin"}, "x-other": {"stays"}}
	for _, name := range report.IdentityMetadata {
		forged[name] = []string{"root"}
	}
	token := func(c claims) aCall { return aCall{own: "Bearer " + staffToken(c), md: forged} }
	for name, row := range map[string]struct {
		call aCall
		want string // subject | issuer | kind | scopes | x-role
	}{
		"nobody":                  {aCall{md: forged}, "||||"},
		"a token":                 {token(claims{"role": "reader"}), "alice|" + staffIssuer + "|jwt|read write|reader"},
		"a token without scopes":  {token(claims{"scope": nil}), "alice|" + staffIssuer + "|jwt||"},
		"a claim that isn't text": {token(claims{"role": map[string]any{"a": 1}}), "alice|" + staffIssuer + "|jwt|read write|"},
		"an API key":              {aCall{key: key["ci"], md: forged}, "ci||api-key|read|"},
		"a certificate":           {aCall{client: &report.ClientNames{DNS: []string{"orders.example"}}, md: forged}, "orders.example||mtls||"},
		"a subject in UTF-8":      {token(claims{"sub": " J\u00fcrgen 100% "}), "%20J%C3%BCrgen 100%25%20|" + staffIssuer + "|jwt|read write|"},
		"scopes with blanks":      {token(claims{"scope": nil, "scp": []string{"a b", "c%20d"}}), "alice|" + staffIssuer + "|jwt|a%20b c%2520d|"},
	} {
		r := row.call.request(t, a)
		if _, err := a.Authenticate(t.Context(), r); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, n := range append(slices.Clone(report.IdentityMetadata[:]), "x-role") {
			got = append(got, strings.Join(r.Metadata[n], ","))
		}
		if joined := strings.Join(got, "|"); joined != row.want || r.Metadata["x-other"][0] != "stays" {
			t.Errorf("%s: the backend gets %s, want %s", name, joined, row.want)
		}
	}
	if forged["x-role"][0] != "admin" {
		t.Error("the test's own metadata has changed")
	}
}

// TestRefusalOfAnIdentity: a refused call isn't told as an identity, and the bridge learns whose
// it was. The backend learns it, too, if the call passes since auth is only tried out.
func TestRefusalOfAnIdentity(t *testing.T) {
	a := newAuth(t, Config{Issuers: []Issuer{staff(t)}, Rules: []Rule{{Name: "readers", Scopes: []string{"read"}, Methods: []string{"shop.v1.*/*"}}}})
	r := aCall{own: "Bearer " + staffToken(claims{"scope": "none"}), md: metadata.MD{"x-culvert-subject": {"root"}}}.request(t, a)
	id, err := a.Authenticate(t.Context(), r)
	f, _ := errors.AsType[*report.Fault](err)
	if f == nil || id != nil || f.Reason != report.ReasonPermissionDenied || f.Key != report.KeyAuthRules || r.Rule != "no rule allows" {
		t.Errorf("got %v, %+v by %q", id, f, r.Rule)
	}
	if r.Refused == nil || r.Refused.Name != "alice" || r.Refused.Issuer != staffIssuer {
		t.Errorf("the refused caller is %+v", r.Refused)
	}
	if strings.Contains(f.Text, "readers") || !slices.Equal(r.Metadata["x-culvert-subject"], []string{"alice"}) {
		t.Errorf("the client learns %q, and the backend %v", f.Text, r.Metadata)
	}
	if r = wantJudged(t, a, aCall{own: "Bearer " + staffToken(nil)}, "alice"); r.Rule != "readers" || r.Refused != nil {
		t.Errorf("the rule is %q", r.Rule)
	}
}

// TestStrip: credentials reach the backend, or not.
func TestStrip(t *testing.T) {
	keys, key := keysOf(t, time.Time{}, "ci")
	alice := staffToken(nil)
	cfg := Config{Issuers: []Issuer{staff(t)}, APIKeys: keys, Certificates: true, Cookie: "session"}
	whole := metadata.MD{"cookie": {"a=1; session=" + alice, "session=" + alice, "b=2"}, "x-other": {"1"}}
	left := metadata.MD{"cookie": {"a=1", "b=2"}, "x-other": {"1"}}
	for _, c := range []aCall{
		{own: "Bearer " + alice, md: whole},
		{conn: "Bearer " + alice, md: whole},
		{ownCookie: "session=" + alice, md: whole},
		{bearer: alice, md: whole},
		{key: key["ci"], md: whole},
	} {
		for _, strip := range []bool{false, true} {
			cfg.Strip = strip
			_, r := judged(t, newAuth(t, cfg), c)
			got := r.Metadata
			maps.DeleteFunc(got, func(name string, _ []string) bool { return strings.HasPrefix(name, "x-culvert-") })
			want := whole.Copy()
			if strip {
				want = left
			} else {
				if c.own+c.conn+c.bearer != "" {
					want["authorization"] = []string{"Bearer " + alice}
				}
				if c.key != "" {
					want["x-api-key"] = []string{c.key}
				}
			}
			if !maps.EqualFunc(got, want, slices.Equal) {
				t.Errorf("%+v, strip %v: the backend gets %v, want %v", c, strip, got, want)
			}
		}
	}
	if f := faultOfCall(t, newAuth(t, cfg), aCall{}); f.Key != report.KeyAuth {
		t.Errorf("the setting that decides is %q", f.Key)
	}
	// What only the backend judges isn't a credential of culvert's.
	a := newAuth(t, Config{Certificates: true, Strip: true})
	r := wantJudged(t, a, aCall{own: "Basic YTpi", client: &report.ClientNames{CommonName: "c"}}, "c")
	if len(r.Metadata["authorization"]) != 1 {
		t.Errorf("the backend gets %v", r.Metadata)
	}
}

// TestAudienceByRoute: a token counts for the routes that its audience is for, also one of the
// connection.
func TestAudienceByRoute(t *testing.T) {
	issuer := staff(t)
	issuer.Audiences, issuer.RouteAudiences = []string{"all"}, map[string][]string{"orders": {"orders", "shop"}}
	a := newAuth(t, Config{Issuers: []Issuer{issuer}, Routes: []string{"orders", "catalog"}})
	for _, row := range []struct{ aud, route, want string }{
		{"all", "", "alice"},
		{"all", "catalog", "alice"},
		{"all", "orders", unauthenticated},
		{"orders", "orders", "alice"},
		{"shop", "orders", "alice"},
		{"shop", "catalog", unauthenticated},
		{"other", "", unauthenticated},
	} {
		token := "Bearer " + staffToken(claims{"aud": row.aud})
		for _, c := range []aCall{{own: token, route: row.route}, {conn: token, route: row.route}, {own: token, connected: true, route: row.route}} {
			wantJudged(t, a, c, row.want)
		}
	}
	f := faultOfCall(t, a, aCall{own: "Bearer " + staffToken(claims{"aud": "shop"})})
	if !strings.Contains(f.Text, "aud") || f.Key != report.KeyAuthIssuers {
		t.Errorf("got %+v", f)
	}
}

// TestExpiry: the identity ends with its token or key, unless told otherwise.
func TestExpiry(t *testing.T) {
	ends := time.Now().Add(time.Hour).Truncate(time.Second)
	keys, key := keysOf(t, ends, "ci")
	cfg := Config{Issuers: []Issuer{staff(t)}, APIKeys: keys, Certificates: true}
	for _, ignore := range []bool{false, true} {
		cfg.IgnoreExpiry = ignore
		a := newAuth(t, cfg)
		for name, row := range map[string]struct {
			call aCall
			want time.Time
		}{
			"a token":       {aCall{own: "Bearer " + staffToken(claims{"exp": ends.Unix()})}, ends.Add(time.Minute)},
			"an API key":    {aCall{key: key["ci"]}, ends},
			"a certificate": {aCall{client: &report.ClientNames{CommonName: "c"}}, time.Time{}},
		} {
			if ignore {
				row.want = time.Time{}
			}
			id, err := a.Authenticate(t.Context(), row.call.request(t, a))
			if err != nil || !id.Expires.Equal(row.want) {
				t.Errorf("%s: %+v, %v; want the end %v", name, id, err, row.want)
			}
		}
	}
}

// TestExpiryOfTheNameless: a token that a call needs ends the call, although the service that names
// the subject names none.
func TestExpiryOfTheNameless(t *testing.T) {
	ends := time.Now().Add(time.Hour).Truncate(time.Second)
	permits := serveCheck(t, new(editor))
	c := aCall{own: "Bearer " + staffToken(claims{"exp": ends.Unix()})}
	for name, cfg := range map[string]Config{
		"all_of":            {AllOf: []string{WayExternal, "staff"}},
		"all_of and any_of": {AllOf: []string{WayExternal}, AnyOf: []string{"staff"}},
	} {
		cfg.Issuers, cfg.External = []Issuer{staff(t)}, permits
		a := newAuth(t, cfg)
		id, err := a.Authenticate(t.Context(), c.request(t, a))
		if err != nil || id == nil || id.Name != "" || !id.Expires.Equal(ends.Add(time.Minute)) {
			t.Errorf("%s: %+v, %v; want nobody until the token's end", name, id, err)
		}
		cfg.IgnoreExpiry = true
		a = newAuth(t, cfg)
		if id, err := a.Authenticate(t.Context(), c.request(t, a)); err != nil || id != nil {
			t.Errorf("%s, without ends: %+v, %v; want nobody", name, id, err)
		}
	}
}

// TestBoundToken: a token with cnf isn't a bearer token.
func TestBoundToken(t *testing.T) {
	a := newAuth(t, Config{Issuers: []Issuer{staff(t)}})
	mine, others := certificate(t, "mine"), certificate(t, "others")
	bound := "Bearer " + staffToken(claims{"cnf": map[string]any{"x5t#S256": thumbprintText(mine)}})
	byKey := "Bearer " + staffToken(claims{"cnf": map[string]any{"jkt": thumbprintText(mine)}})
	for range 2 { // the verdict is new, and then it is kept
		for name, row := range map[string]struct {
			token string
			with  *x509.Certificate
			want  string
		}{
			"its certificate":      {bound, mine, "alice"},
			"another certificate":  {bound, others, unauthenticated},
			"no certificate":       {bound, nil, unauthenticated},
			"a proof of DPoP":      {byKey, mine, unauthenticated},
			"no need of one":       {"Bearer " + staffToken(nil), others, "alice"},
			"no need, and no cert": {"Bearer " + staffToken(nil), nil, "alice"},
		} {
			r := aCall{own: row.token}.request(t, a)
			r.Peer.TLS = stateWith(row.with)
			if got := verdict(a.Authenticate(t.Context(), r)); got != row.want {
				t.Errorf("%s: got %s, want %s", name, got, row.want)
			}
		}
	}
}

// TestKindsAreApart: subjects are unique for a kind only, and the bridge compares identities by
// their names and issuers: to limit them, to renew credentials and to find agents' sessions.
func TestKindsAreApart(t *testing.T) {
	keys, key := keysOf(t, time.Time{}, "alice")
	a := newAuth(t, Config{Certificates: true, APIKeys: keys, Issuers: []Issuer{staff(t)}})
	seen := map[bridge.Identity]bool{}
	for _, c := range []aCall{{client: &report.ClientNames{CommonName: "alice"}}, {key: key["alice"]}, {own: "Bearer " + staffToken(nil)}} {
		id, err := a.Authenticate(t.Context(), c.request(t, a))
		if err != nil {
			t.Fatal(err)
		}
		seen[bridge.Identity{Name: id.Name, Issuer: id.Issuer}] = true
	}
	if len(seen) != 3 {
		t.Errorf("three kinds of alice are %v", seen)
	}
}

// TestStripOfRefusedCalls: while auth is only tried out, they go on without their credentials.
func TestStripOfRefusedCalls(t *testing.T) {
	a := newAuth(t, Config{Strip: true, Issuers: []Issuer{staff(t)}, Rules: []Rule{{Name: "nobody", Deny: true, Identities: []string{"alice"}}}})
	for own, want := range map[string]string{"Bearer bad": unauthenticated, "Bearer " + staffToken(nil): denied, "Bearer " + staffToken(claims{"exp": 1}): unauthenticated} {
		if r := wantJudged(t, a, aCall{own: own}, want); len(r.Metadata["authorization"]) > 0 {
			t.Errorf("the credential of a call that ends with %s goes on", want)
		}
	}
}
