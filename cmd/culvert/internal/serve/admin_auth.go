package serve

import (
	"maps"
	"slices"
	"time"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/auth"
)

// authState is what culvert judges calls by.
func (p *program) authState() admin.Auth {
	all := admin.Auth{At: time.Now().UTC(), Ways: []admin.Text{}, Issuers: []admin.AuthIssuer{}, APIKeyFile: []admin.AuthFile{}, Services: []admin.AuthService{}}
	if p.auth == nil {
		return all
	}
	a := p.auth.now()
	if a == nil {
		return all
	}
	settings := &p.reloads.current().Auth
	all.Enabled, all.Enforced, all.Rules = true, settings.Enforce, len(settings.Rules)
	for _, way := range settings.Ways() {
		all.Ways = append(all.Ways, admin.Text(way))
	}
	state := a.State()
	for _, i := range state.Issuers {
		all.Issuers = append(all.Issuers, shownIssuer(&i))
	}
	all.Tokens = admin.AuthTokens(state.Tokens)
	if k := state.APIKeys; k != nil {
		all.APIKeyFile = append(all.APIKeyFile, admin.AuthFile{File: admin.Text(k.File), Keys: k.Keys, Read: k.Read.UTC(), Problem: admin.Text(k.Problem)})
	}
	if s := state.External; s != nil {
		all.Services = append(all.Services, admin.AuthService{
			Name: auth.WayExternal, Allowed: s.Allowed, Denied: s.Denied, Failed: s.Failed, Open: s.Open, Cancelled: s.Cancelled, Cached: s.Cached, Shared: s.Shared,
			Asking: s.Asking, MeanSeconds: s.Mean.Seconds(),
		})
	}
	if s := state.RateLimit; s != nil {
		all.Services = append(all.Services, admin.AuthService{
			Name: "rate_limit", Allowed: s.Allowed, Denied: s.OverLimit, Failed: s.Failed, Open: s.Open, Cancelled: s.Cancelled, Unasked: s.Unasked,
			Asking: s.Asking, MeanSeconds: s.Mean.Seconds(),
		})
	}
	return all
}

func shownIssuer(i *auth.IssuerState) admin.AuthIssuer {
	shown := admin.AuthIssuer{
		Name: admin.Text(i.Name), Issuer: admin.Text(i.Issuer), Keys: i.Keys, Fetched: i.Fetched.UTC(), Next: i.Next.UTC(), Failures: i.Failures, Problem: admin.Text(i.Problem),
		Skipped: []admin.AuthSkippedKey{},
	}
	for _, kid := range slices.Sorted(maps.Keys(i.Skipped)) {
		shown.Skipped = append(shown.Skipped, admin.AuthSkippedKey{ID: admin.Text(kid), Why: admin.Text(i.Skipped[kid])})
	}
	return shown
}
