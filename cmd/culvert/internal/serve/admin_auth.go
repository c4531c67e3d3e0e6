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
	all := admin.Auth{
		At: time.Now().UTC(), Ways: []admin.Text{}, Refused: []admin.AuthRefused{}, Rules: []admin.AuthRule{}, Issuers: []admin.AuthIssuer{},
		APIKeyFile: []admin.AuthFile{}, Services: []admin.AuthService{},
	}
	a := p.auth.now()
	if a == nil {
		return all
	}
	settings := &p.reloads.current().Auth
	all.Enabled, all.Enforced = true, settings.Enforce
	for _, way := range settings.Ways() {
		all.Ways = append(all.Ways, admin.Text(way))
	}
	state := a.State()
	all.Since = state.Began.UTC()
	for _, r := range state.Refused {
		all.Refused = append(all.Refused, admin.AuthRefused{
			Key: r.Key, Issuer: admin.Text(r.Issuer), Reason: string(r.Reason), Calls: r.Calls, Last: r.Last.UTC(), Cause: admin.Text(r.Cause),
		})
	}
	for _, r := range state.Rules {
		effect := "allow"
		if r.Deny {
			effect = "deny"
		}
		all.Rules = append(all.Rules, admin.AuthRule{Name: admin.Text(r.Name), Effect: effect, Calls: r.Calls})
	}
	for _, i := range state.Issuers {
		all.Issuers = append(all.Issuers, shownIssuer(&i))
	}
	all.Tokens = admin.AuthTokens(state.Tokens)
	if k := state.APIKeys; k != nil {
		all.APIKeyFile = append(all.APIKeyFile, admin.AuthFile{File: admin.Text(k.File), Keys: k.Keys, Read: k.Read.UTC(), Problem: admin.Text(k.Problem)})
	}
	for _, service := range []struct {
		name  string
		state *auth.ServiceState
	}{{auth.WayExternal, state.External}, {"rate_limit", state.RateLimit}} {
		if s := service.state; s != nil {
			all.Services = append(all.Services, admin.AuthService{
				Name: service.name, Problem: admin.Text(s.Problem), Allowed: s.Allowed, Denied: s.Denied, Failed: s.Failed, Open: s.Open, Cancelled: s.Cancelled,
				Unasked: s.Unasked, Cached: s.Cached, Shared: s.Shared, Asking: s.Asking, MeanSeconds: s.Mean.Seconds(),
			})
		}
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
