package doctor

import (
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/client/internal/answer"
	"github.com/culvert-grpc/culvert/internal/pathservice"
	"github.com/culvert-grpc/culvert/internal/terminal"
)

// An Answer is an HTTP answer that isn't what a probe wants.
type Answer struct {
	Culvert bool   `json:"culvert"` // it has a sign of culvert's own
	Status  int    `json:"status"`
	Reason  string `json:"reason,omitempty"` // culvert's
	Type    string `json:"-"`                // the content type
	Says    string `json:"says,omitempty"`   // the title of a page, or the beginning of a text
	Server  string `json:"server,omitempty"`
	Via     string `json:"via,omitempty"`
	Product string `json:"product,omitempty"` // that the answer names
}

// String is the answer as evidence.
func (a *Answer) String() string { return (*answer.Answer)(a).String() }

// answerOf reads who has answered. It reads the beginning of the body, as far as it comes in a
// moment, and closes it.
func answerOf(status int, h http.Header, body io.ReadCloser) *Answer {
	read, page := answer.Of(status, h, body)
	a := (*Answer)(read)
	a.Product = productIn(a.Server + "\n" + a.Via + "\n" + a.Says + "\n" + string(page))
	return a
}

// refusedBy returns the finding of an answer in place of what a probe wants.
func refusedBy(a *Answer) Finding {
	return Finding{Result: refused, Cause: causeOf(a), Evidence: a.String(), Answer: a}
}

// elsewhere are answers of others than the service which say nothing of what a probe asks for.
// The first row that matches counts.
var elsewhere = []struct {
	from, to int // statuses
	says     string
	cause    Cause
}{
	{from: http.StatusTooManyRequests, to: http.StatusTooManyRequests, cause: causeRateLimited},
	{from: http.StatusInternalServerError, to: http.StatusInternalServerError, cause: causeGatewayFails},
	{from: http.StatusBadGateway, to: http.StatusGatewayTimeout, cause: causeGatewayFails},
	{from: http.StatusBadRequest, to: http.StatusBadRequest, says: "https", cause: causeWantsTLS}, // Go, nginx
	{from: http.StatusBadRequest, to: http.StatusBadRequest, says: "ssl", cause: causeWantsTLS},   // Apache
	{from: http.StatusOK, to: http.StatusPermanentRedirect, cause: causeOtherSite},
	{from: http.StatusNotFound, to: http.StatusNotFound, cause: causeOtherSite},
	{from: http.StatusUnauthorized, to: http.StatusUnauthorized, cause: causeOtherSite},
	{from: http.StatusNetworkAuthenticationRequired, to: http.StatusNetworkAuthenticationRequired, cause: causeOtherSite},
}

// causeOf returns why culvert refuses, or what another answer says of its sender; "": nothing.
func causeOf(a *Answer) Cause {
	switch {
	case !a.Culvert:
		for _, r := range elsewhere {
			if a.Status >= r.from && a.Status <= r.to && strings.Contains(strings.ToLower(a.Says), r.says) {
				return r.cause
			}
		}
		return ""
	case a.Status == http.StatusHTTPVersionNotSupported:
		return causeServiceHTTP1
	case a.Status == http.StatusUnauthorized:
		return causeUnauthenticated
	case a.Reason == "ORIGIN_DENIED" && strings.Contains(a.Says, pathservice.UnknownHost):
		return causeHostUnknown
	case a.Reason == "ORIGIN_DENIED":
		return causeOriginDenied
	case a.Reason == "LIMIT_EXCEEDED":
		return causeQuota
	}
	return causeServiceRefuses
}

const maxShown = 320

// printable returns the beginning of somebody else's text, without what a terminal would act on.
func printable(s string) string { return terminal.Short(s, maxShown) }

// A product is a box or a service that names itself in answers, or in the issuers of its
// certificates.
type product struct {
	name  string
	words []string // in lower case
}

// decrypters can decrypt TLS with a CA of their own.
var decrypters = []product{
	{"Zscaler", []string{"zscaler"}},
	{"Netskope", []string{"netskope", "goskope"}},
	{"Palo Alto Networks", []string{"palo alto", "paloalto", "pan-os"}},
	{"Fortinet", []string{"fortinet", "fortigate", "fortiguard", "fortiproxy"}},
	{"Broadcom (Blue Coat)", []string{"blue coat", "bluecoat", "proxysg", "symantec web"}},
	{"Skyhigh (McAfee)", []string{"skyhigh", "mcafee web", "mwg"}},
	{"Cisco Umbrella", []string{"umbrella", "opendns"}},
	{"Forcepoint", []string{"forcepoint", "websense"}},
	{"Check Point", []string{"check point", "checkpoint"}},
	{"Sophos", []string{"sophos"}},
	{"Barracuda", []string{"barracuda"}},
	{"WatchGuard", []string{"watchguard", "fireware"}},
	{"SonicWall", []string{"sonicwall"}},
	{"Menlo Security", []string{"menlo security", "menlosecurity"}},
	{"iboss", []string{"iboss"}},
	{"Kaspersky", []string{"kaspersky"}},
	{"ESET", []string{"eset ssl"}},
	{"Avast", []string{"avast"}},
	{"Bitdefender", []string{"bitdefender"}},
	{"Squid", []string{"squid"}},
	{"mitmproxy", []string{"mitmproxy"}},
	{"Privoxy", []string{"privoxy"}},
}

var products = slices.Concat(decrypters, []product{
	{"Tinyproxy", []string{"tinyproxy"}},
	{"Cloudflare", []string{"cloudflare"}},
	{"CloudFront", []string{"cloudfront"}},
	{"Akamai", []string{"akamai"}},
	{"AWS load balancer", []string{"awselb"}},
	{"Google front end", []string{"google frontend", "1.1 google"}},
	{"Azure gateway", []string{"microsoft-azure-application-gateway", "azure front door"}},
	{"Apache Traffic Server", []string{"apachetrafficserver", "traffic server"}},
	{"Envoy", []string{"envoy"}},
	{"HAProxy", []string{"haproxy", "no server is available to handle this request"}},
	{"nginx", []string{"nginx"}},
})

// productIn returns the product that a text names, or "".
func productIn(text string) string { return firstIn(text, products) }

// decrypts reports whether a product is one of decrypters.
func decrypts(name string) bool {
	return slices.ContainsFunc(decrypters, func(p product) bool { return p.name == name })
}

// firstIn returns the first product of a list that a text names, or "".
func firstIn(text string, list []product) string {
	text = strings.ToLower(text)
	for _, p := range list {
		for _, word := range p.words {
			if strings.Contains(text, word) {
				return p.name
			}
		}
	}
	return ""
}
