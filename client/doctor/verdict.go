package doctor

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// A Verdict is what findings mean, in words for people. verdicts.json has one row for each.
type Verdict struct {
	ID       string `json:"id"`
	Words    string `json:"words"`
	Programs string `json:"programs,omitempty"` // the way for package client, and for culvert dial: grpc, websocket, grpc-web, auto
	Pages    string `json:"pages,omitempty"`    // the way for a page: websocket (@culvert/web), grpc-web (connect-web and others)
	Ask      string `json:"ask,omitempty"`      // the sentence for the network team
	Docs     string `json:"docs"`               // a page below docs/, with its anchor
	Evidence string `json:"evidence,omitempty"` // not in the table
}

// Settings are the clients to use, in words for people, by Verdict.Programs and by Verdict.Pages.
type Settings struct {
	Programs map[string]string `json:"programs"`
	Pages    map[string]string `json:"pages"`
}

var (
	//go:embed verdicts.json
	verdictsText []byte
	//go:embed settings.json
	settingsText []byte

	verdicts = sync.OnceValue(func() map[string]Verdict { // a program that serves needs none
		var rows []Verdict
		parse(verdictsText, &rows)
		all := make(map[string]Verdict, len(rows))
		for _, v := range rows {
			all[v.ID] = v
		}
		return all
	})
)

// Clients returns the settings for each way.
func Clients() (s Settings) {
	parse(settingsText, &s)
	return s
}

func parse(table []byte, into any) {
	if err := json.Unmarshal(table, into); err != nil {
		panic("BUG: a table of the doctor's: " + err.Error())
	}
}

// Possible says whether something is possible.
type Possible string

// The values of Possible.
const (
	Yes      Possible = "yes"
	No       Possible = "no"
	CantTell Possible = "can't tell"
)

// A Judgement is what the findings of a run mean.
type Judgement struct {
	Bidirectional Possible  `json:"bidirectional"`
	Verdicts      []Verdict `json:"verdicts"` // the first one says which way works
}

// circumstances are the names that stand in the words of verdicts.
type circumstances struct {
	Host, Port, Authority string // of the edge
	Proxy                 string // host and port; "": none
	S                     string // of the schemes https and wss; "": plaintext
}

func (x *examination) circumstances() circumstances {
	c := circumstances{Host: x.target.Host, Port: x.target.Port, Authority: x.target.Authority(), Proxy: x.net.Via(x.target)}
	if x.target.Secure {
		c.S = "s"
	}
	return c
}

// judgementOf returns what findings mean. It is a pure function.
func judgementOf(f findings, c circumstances) Judgement {
	j := judge{findings: ofNetwork(f), names: strings.NewReplacer("{host}", c.Host, "{port}", c.Port, "{authority}", c.Authority, "{proxy}", c.Proxy, "{s}", c.S)}
	way := j.way()
	j.say(way, "")
	if j.connection() {
		j.first(decryptionRows)
		if way != "way-grpc" && (c.S != "" || !j.first(plaintextRows)) {
			j.first(nativeRows)
		}
		if !j.foreign() {
			if ws, ok := j.findings[probeSocket]; ok && (ws.Cause != causeHidden || j.findings[probePreflight].Cause == "") { // else the page's origin explains it
				j.first(socketRows)
			}
			j.web()
		}
		j.idle()
		j.service()
	}
	j.first(pageRows)
	j.first(preflightRows)
	bidi := No
	switch way {
	case "way-grpc", "way-untested", "way-websocket", "way-websocket-page", "way-grpc-web-bidi":
		bidi = Yes
	case "way-unknown":
		bidi = CantTell
	}
	return Judgement{bidi, j.said}
}

// A row has a verdict for the finding of a probe.
type row struct {
	probe   Probe
	cause   Cause    // "": whatever it is
	results []Result // nil: whatever it is
	when    func(Finding) bool
	verdict string // "": nothing is said
}

var broken = []Result{refused, stripped, held, silent, cut, failed}

// Of each of these lists, the first row that matches counts.
var (
	connectionRows = []row{
		{probe: probeDNS, results: broken, verdict: "dns-fails"},
		{probe: probeConnect, results: []Result{refused}, verdict: "connect-refused"},
		{probe: probeConnect, results: []Result{silent}, verdict: "connect-silent"},
		{probe: probeConnect, results: broken, verdict: "connect-fails"},
		{probe: probeTLS, cause: causeUnknownCA, verdict: "tls-unknown-ca"},
		{probe: probeTLS, cause: causeWrongCertificate, verdict: "tls-wrong-certificate"},
		{probe: probeTLS, cause: causeNotTLS, verdict: "tls-not-tls"},
		{probe: probeTLS, cause: causeWantsCertificate, verdict: "wants-certificate"},
		{probe: probeTLS, results: []Result{cut}, verdict: "tls-cut"},
		{probe: probeTLS, results: []Result{silent}, verdict: "tls-silent"},
		{probe: probeTLS, results: broken, verdict: "tls-fails"},
	}
	decryptionRows = []row{
		{probe: probeDecryption, cause: causeDecrypted, verdict: "decrypted"},
		{probe: probeDecryption, cause: causeNoSCT, verdict: "decryption-unknown"},
		{probe: probeDecryption, cause: causeEndsBefore, verdict: "tls-ends-before"},
	}
	// Why native gRPC doesn't pass, where nothing has agreed on HTTP/2.
	plaintextRows = []row{
		{probe: probeWeb, cause: causeWantsTLS},
		{probe: probeHTTP2, results: broken, verdict: "no-h2c"},
	}
	// Why native gRPC doesn't pass.
	nativeRows = []row{
		{probe: probeALPN, results: broken, verdict: "no-http2"},
		{probe: probeALPNAlone, results: broken, verdict: "no-http2"},
		{probe: probeHTTP2, results: broken, verdict: "http2-dead"},
		{probe: probeGRPC, cause: causeServiceHTTP1, verdict: "http1-behind"},
		{probe: probeGRPC, when: func(f Finding) bool {
			return f.Answer != nil && f.Answer.Status == http.StatusForbidden && f.Answer.Product == "Cloudflare"
		}, verdict: "grpc-refused-cloudflare"},
		{probe: probeGRPC, when: isPost, verdict: "post-refused"},
		{probe: probeGRPC, results: []Result{refused}, verdict: "grpc-refused"},
		{probe: probeGRPC, cause: causeNoTrailers, verdict: "grpc-trailers-lost"},
		{probe: probeGRPC, results: []Result{silent}, verdict: "grpc-silent"},
		{probe: probeGRPC, results: []Result{cut, failed}, verdict: "grpc-cut"},
		{probe: probeGRPCBidi, results: []Result{held, silent}, verdict: "grpc-held"},
		{probe: probeGRPCStream, results: []Result{held}, verdict: "grpc-held"},
		{probe: probeGRPCBidi, results: broken, verdict: "grpc-cut"},
	}
	// Why WebSockets don't pass.
	socketRows = []row{
		{probe: probeSocket, cause: causeHidden, verdict: "websocket-fails"},
		{probe: probeSocket, results: []Result{stripped}, verdict: "websocket-stripped"},
		{probe: probeSocket, results: []Result{silent}, verdict: "websocket-silent"},
		{probe: probeSocket, results: []Result{cut}, verdict: "websocket-cut"},
		{probe: probeSocket, when: ofCulvert},
		{probe: probeSocket, results: broken, verdict: "websocket-refused"},
		{probe: probeSocketHTTP2, cause: causeNoPong, verdict: "websocket-dead-later"},
		{probe: probeSocketHTTP2, results: append([]Result{"", unknown}, broken...), verdict: "websocket-dead"},
		{probe: probeSocketBidi, when: ofCulvert},
		{probe: probeSocketBidi, results: append([]Result{""}, broken...), verdict: "websocket-dead-later"},
	}
	webRows = []row{
		{probe: probeWeb, when: isPost, verdict: "post-refused"},
		{probe: probeWeb, results: []Result{refused}, verdict: "grpc-web-refused"},
		{probe: probeWeb, results: []Result{silent}, verdict: "grpc-web-silent"},
		{probe: probeWeb, results: append([]Result{unknown}, broken...), verdict: "grpc-web-cut"},
	}
	chunkedRows = []row{{probe: probeWebChunked, results: broken, verdict: "chunked-refused"}}
	heldRows    = []row{{probe: probeWebStream, results: []Result{held, silent}, verdict: "responses-held"}}
	typeRows    = []row{
		{probe: probeTypeConnect, results: broken, verdict: "types-refused"},
		{probe: probeTypeJSON, results: broken, verdict: "types-refused"},
	}
	bodyRows = []row{
		{probe: probeLargeBody, results: []Result{refused}, verdict: "body-capped"},
		{probe: probeLargeBody, results: broken, verdict: "transfer-cut"},
	}
	headerRows = []row{{probe: probeLargeHeader, results: broken, verdict: "header-capped"}}
	pageRows   = []row{
		{probe: probePage, cause: causePolicyBlocks, verdict: "csp-blocks"},
		{probe: probePage, cause: causeMixedContent, verdict: "mixed-content"},
		{probe: probePage, cause: causeUnreachable, verdict: "page-unreachable"},
	}
	preflightRows = []row{
		{probe: probePreflight, cause: causeOriginDenied, verdict: "origin-denied"},
		{probe: probePreflight, cause: causeHidden, verdict: "answers-hidden"},
		{probe: probePreflight, results: append([]Result{unknown}, broken...), verdict: "preflight-lost"},
	}
)

// ofCulvert reports whether a finding has an answer of culvert's own.
func ofCulvert(f Finding) bool { return f.Answer != nil && f.Answer.Culvert }

// isPost reports whether an answer refuses the method POST.
func isPost(f Finding) bool {
	return f.Result == refused && f.Answer != nil && f.Answer.Status == http.StatusMethodNotAllowed
}

// ofNetwork returns findings without the results that say nothing about the network. Culvert itself
// has made some by refusing. Their causes stay.
func ofNetwork(f findings) findings {
	all := maps.Clone(f)
	for p, one := range all {
		switch {
		case one.Result == refused && ofCulvert(one):
			one.Result = ""
		case slices.Contains(ofEachRequest, one.Cause) && one.Cause != f[probeWeb].Cause:
			one.Cause = "" // it is the answer to what the probe asks for
		case slices.Contains(ofEachRequest, one.Cause):
			one.Result = ""
		case slices.Contains(untoldCauses, one.Cause):
			one.Result = unknown
		case (one.Result == silent || one.Result == held) && !slices.Contains(reaching, p) && f.slow():
			one.Result, one.Cause = unknown, causeSlow
		}
		all[p] = one
	}
	return all
}

// reaching are the probes before all ways.
var reaching = []Probe{probeDNS, probeConnect, probeTLS, probeALPNAlone}

// slow reports whether the other probes needed so long that one without an answer tells nothing.
func (f findings) slow() bool {
	for p, one := range f {
		limit := patience
		switch {
		case p == probeConnect || p == probeTLS:
			limit /= 2
		case p == probeDNS || p == probeLargeBody || strings.HasPrefix(string(p), "idle-"):
			continue
		}
		if one.Result == works && one.Took >= limit {
			return true
		}
	}
	return false
}

var (
	// ownCauses are those for which the service itself refuses calls. Each has a verdict of its name.
	ownCauses = []Cause{causeUnauthenticated, causeHostUnknown, causeQuota, causeServiceRefuses}
	// untoldCauses are those for which nothing can be told. Each has a verdict of its name.
	untoldCauses = append([]Cause{causeRateLimited, causeGatewayFails, causeNoConnection, causeSlow}, ofEachRequest...)
	// ofEachRequest are those that count where also the plainest request has them.
	ofEachRequest = []Cause{causeWantsTLS, causeOtherSite}
)

type judge struct {
	findings
	names *strings.Replacer
	said  []Verdict
}

// say adds a verdict, once.
func (j *judge) say(id, evidence string) {
	if slices.ContainsFunc(j.said, func(v Verdict) bool { return v.ID == id }) {
		return
	}
	v, ok := verdicts()[id]
	if !ok {
		panic("BUG: no verdict " + id)
	}
	if v.Pages == "websocket" && !j.socketPasses() {
		v.Pages = ""
		if j.works(probeWeb) {
			v.Pages = "grpc-web"
		}
	}
	switch preflight := j.findings[probePreflight]; {
	case j.findings[probePage].Result == refused, preflight.Cause == causeOriginDenied, preflight.Cause == causeHostUnknown:
		v.Pages = "" // as long as nothing of that changes
	case v.Pages == "grpc-web" && slices.Contains(broken, preflight.Result):
		v.Pages = "" // browsers ask before such a call, and not before a WebSocket
	}
	if v.Programs != "" && j.inPage() {
		v.Programs = "auto"
	}
	v.Words, v.Ask, v.Evidence = j.names.Replace(v.Words), j.names.Replace(v.Ask), evidence
	j.said = append(j.said, v)
}

// of adds a verdict with the evidence of a finding.
func (j *judge) of(id string, p Probe) { j.say(id, j.findings[p].Evidence) }

// first adds the verdict of the first row that matches, and reports whether there is one.
func (j *judge) first(rows []row) bool {
	for _, r := range rows {
		f := j.findings[r.probe] // without a result, if the probe wasn't made
		if slices.Contains(untoldCauses, f.Cause) {
			return true // nor can what follows it be told
		}
		if r.cause != "" && f.Cause != r.cause || r.results != nil && !slices.Contains(r.results, f.Result) || r.when != nil && !r.when(f) {
			continue
		}
		if r.verdict != "" {
			j.of(r.verdict, r.probe)
		}
		return true
	}
	return false
}

// inPage reports whether the findings are those of a page, which knows nothing of native gRPC.
// web/src/doctor/judge.ts has the page's half of the judge.
func (j *judge) inPage() bool { return j.findings[probeGRPC].Cause == causeHidden }

// socketPasses reports whether bytes pass both ways inside a WebSocket. The service may refuse
// the last probe.
func (j *judge) socketPasses() bool {
	r := j.findings[probeSocketBidi].Result
	return j.works(probeSocketHTTP2) && (r == works || r == unknown)
}

// socketWorks reports whether calls pass in a WebSocket, as far as the service lets the doctor
// test it. A server that isn't culvert may not have the service for the last probe.
func (j *judge) socketWorks() bool {
	switch j.findings[probeSocketBidi].Cause {
	case causeQuota, causeServiceRefuses:
		return false
	}
	return j.socketPasses()
}

// way returns the verdict about the best way.
func (j *judge) way() string {
	untold := func(p Probe) bool { return j.findings[p].Result == unknown }
	switch {
	case j.works(probeGRPCBidi):
		return "way-grpc"
	case untold(probeGRPCBidi) && (j.works(probeSocketBidi) || j.works(probeWebBidi)):
		return "way-untested"
	case j.works(probeSocketHTTP2) && untold(probeSocketBidi) && untold(probeGRPCBidi):
		return "way-unknown" // the service refuses both, so native gRPC may be the better way
	case j.socketWorks() && j.inPage():
		return "way-websocket-page"
	case j.socketWorks():
		return "way-websocket"
	case j.works(probeWebBidi):
		return "way-grpc-web-bidi"
	case slices.ContainsFunc([]Probe{probeHTTP2, probeGRPCBidi, probeSocket, probeSocketHTTP2, probeWebBidi}, untold), untold(probeSocketBidi) && j.works(probeSocketHTTP2):
		return "way-unknown"
	case j.works(probeWebStream), j.works(probeGRPCStream):
		return "way-grpc-web"
	case j.works(probeWeb), j.works(probeGRPC):
		return "way-unary"
	}
	return "way-none"
}

// known reports whether the service is culvert: then an answer without its signs is somebody
// else's.
func (j *judge) known() bool {
	if slices.ContainsFunc([]Probe{probeGRPCBidi, probeSocketBidi, probeWebBidi, probeWebStream, probeGRPCStream, probeService}, j.works) {
		return true
	}
	for _, p := range []Probe{probeGRPC, probeWeb, probeWebChunked} {
		if f := j.findings[p]; f.Result == works && f.Cause == "" {
			return true // the echo came back
		}
	}
	for _, f := range j.findings {
		if f.Answer != nil && f.Answer.Culvert || f.Result == held {
			return true
		}
	}
	return false
}

// foreign reports whether the service is another gRPC server. It may not speak what doesn't
// pass, so nobody can be blamed for that.
func (j *judge) foreign() bool {
	return !j.known() && !j.works(probeSocketHTTP2) && (j.findings[probeGRPC].Cause == causeUnimplemented || j.findings[probeWeb].Cause == causeUnimplemented)
}

// connection says why there is no connection, and reports whether there is one.
func (j *judge) connection() bool {
	for _, p := range []Probe{probeConnect, probeTLS} {
		if cause := string(j.findings[p].Cause); strings.HasPrefix(cause, "proxy-") {
			j.of(cause, p)
			return false
		}
	}
	if j.first(connectionRows) {
		j.first(decryptionRows)
		return false
	}
	for _, p := range order { // with TLS 1.3 it shows behind the handshake, in whatever comes first
		if j.findings[p].Cause == causeWantsCertificate {
			j.first(decryptionRows)
			j.of("wants-certificate", p)
			return false
		}
	}
	return true
}

// noPost reports whether a GET passes, that of the WebSocket, and no POST, whatever its content
// type is.
func (j *judge) noPost() bool {
	return j.works(probeSocketHTTP2) && !slices.ContainsFunc([]Probe{probeWeb, probeTypeConnect, probeTypeJSON}, func(p Probe) bool {
		return !slices.Contains(broken, j.findings[p].Result)
	})
}

// web says what doesn't pass over HTTP/1.1.
func (j *judge) web() {
	switch {
	case j.noPost():
		j.of("post-refused", probeWeb)
		return
	case j.first(webRows), !j.works(probeWeb):
		return
	}
	j.first(chunkedRows)
	j.first(heldRows)
	for _, p := range []Probe{probeWebStream, probeWebBidi} {
		if f := j.findings[p]; f.Result == cut {
			j.say("age-cut", fmt.Sprintf("after %v: %s", round(f.Took), f.Evidence))
		}
	}
	if two := j.findings[probeWebBidi].Result; j.works(probeWebChunked) && (two == held || two == silent) && j.findings[probeWebStream].Result != held {
		j.of("requests-held", probeWebBidi)
	}
	if j.known() {
		j.first(typeRows)
		j.first(bodyRows)
		j.first(headerRows)
	}
}

// idle says what ends connections.
func (j *judge) idle() {
	dead := func(p Probe) bool { r := j.findings[p].Result; return r == cut || r == silent }
	ended := func(id string, p Probe, isIdle bool) {
		text := j.findings[p].Evidence
		if who := whoEnds(j.findings[p].After, isIdle); who != "" {
			text += "; known for this limit: " + who
		}
		j.say(id, text)
	}
	switch {
	case dead(probeIdleAnswered):
		ended("age-cut", probeIdleAnswered, false)
	case dead(probeIdlePing):
		ended("pings-not-counted", probeIdlePing, true)
	case dead(probeIdleOneWay):
		ended("pings-not-counted", probeIdleOneWay, true)
	case dead(probeIdleSocket):
		ended("idle-cut", probeIdleSocket, true)
	}
	for _, way := range [][2]Probe{{probeIdleGRPC, probeIdleGRPCBusy}, {probeIdleWeb, probeIdleWebBusy}} {
		switch {
		case dead(way[1]):
			ended("age-cut", way[1], false)
		case dead(way[0]):
			ended("idle-cut", way[0], true)
		}
	}
}

// service says what the service itself lacks, and who has answered in its place.
func (j *judge) service() {
	for _, p := range order {
		f := j.findings[p]
		switch {
		case slices.Contains(ownCauses, f.Cause), slices.Contains(untoldCauses, f.Cause):
			j.of(string(f.Cause), p)
		case f.Answer != nil && !f.Answer.Culvert && p != probePreflight && (j.known() || decrypts(f.Answer.Product)):
			j.say("box-answered", f.Answer.String())
		}
	}
	switch {
	case j.foreign():
		j.say("service-missing", "")
	case j.findings[probeService].Cause == causeUnimplemented && j.known():
		j.of("service-half-off", probeService)
	}
}
