package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// One WebSocket with one token carries all calls to four services; a service that is
// gone, a stranger and an unknown service harm no other call.
func TestExampleAPIGateway(t *testing.T) {
	t.Parallel()
	text := checkExample(t, "api-gateway",
		`^client +opens a WebSocket with authorization "Bearer token-of-ada"`,
		`^support +you said: hello$`,
		`^accounts +I am ada$`,
		`^catalog +teapot, 2900 cents$`,
		`^basket +3 products, 3740 cents$`,
		`^support +you said: goodbye$`,
		`^client +opens a WebSocket with authorization "Bearer guessed"`,
		`^client +WhoAmI of a stranger: Unauthenticated`,
		`^client +a service without a route: Unimplemented`,
		`^catalog +has stopped`,
		`^client +a search: Unavailable`,
		`^accounts +I am ada$`,
		`^metrics +culvert_calls_total\{.*origin="upstream",.*rpc_status_code="OK",transport="h2ts\+grpc"\} [45]`,
		`^metrics +culvert_connections_total\{kind="tunnel",listener=""\} 2$`,
		`^metrics +rpc_server_call_duration_seconds_count\{.*rpc_method="gateway.v1.Basket/Fill",rpc_status_code="OK",.*\} 1`,
	)
	if !regexp.MustCompile(`(?m)^culvert +refused NO_ROUTE \S+/gateway.v1.Payroll/Raise .*matches calls by h2ts, or`).MatchString(text) {
		t.Errorf("culvert's log doesn't say which route is missing:\n%s", text)
	}
	if n := strings.Count(text, "opens a WebSocket"); n != 2 {
		t.Errorf("the two clients opened %d WebSockets:\n%s", n, text)
	}
}

// duoProtocols are those of the page. The IDE also has h2ts.
var duoProtocols = []string{"json", "protobuf", "grpc-websockets"}

// The IDE loses its connection among the tokens and before its answer to the tool
// call, and gets the whole text nevertheless.
func TestExampleDuoWorkflow(t *testing.T) {
	t.Parallel()
	var patterns []string
	for _, protocol := range append(duoProtocols, "h2ts") {
		patterns = append(patterns,
			`^ide +`+protocol+`: dropped the connection after event 4`,
			`^ide +`+protocol+`: tool call read_file\(hello.py\)$`,
			`^ide +`+protocol+`: dropped the connection after event 8`,
			`^ide +`+protocol+`: I read hello.py before I answer. Line 5 calls pritn, which does not exist. It should call print.$`,
		)
	}
	checkExample(t, "duo-workflow", patterns...)
}

// The same in the page, in Chromium.
func TestExampleDuoWorkflowPage(t *testing.T) {
	t.Parallel()
	out := lookAtExample(t, "duo-workflow", "duo.js")
	var seen []string
	for text := range strings.Lines(out) {
		var got struct {
			Protocol string
			Shown    []string
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatalf("%v in %q", err, text)
		}
		seen = append(seen, got.Protocol)
		if len(got.Shown) == 0 || !regexp.MustCompile(`^note: 1: workflow [A-Z2-7]{26}$`).MatchString(got.Shown[0]) {
			t.Errorf("%s: the page begins with %q, want the id of a workflow", got.Protocol, got.Shown)
			continue
		}
		if want := []string{
			"answer: I read hello.py ",
			"note: dropped the connection after event 4; connecting again",
			"answer: before I answer.\n",
			"tool: 8: read_file(hello.py)",
			"note: dropped the connection after event 8; connecting again",
			"answer: Line 5 calls pritn, which does not exist. It should call print.",
			"note: 21: done",
		}; !slices.Equal(got.Shown[1:], want) {
			t.Errorf("%s: the page shows\n%q, want\n%q", got.Protocol, got.Shown[1:], want)
		}
	}
	if !slices.Equal(seen, duoProtocols) {
		t.Errorf("the page offers %q, want %q", seen, duoProtocols)
	}
}

// Real agents take, refuse and suffer configurations, one goes away and comes back.
func TestExampleOpAMP(t *testing.T) {
	t.Parallel()
	text := checkExample(t, "opamp",
		`^check +all agents are healthy$`,
		`^fleet +pushes "interval: 30s", agents: 6$`,
		`^check +all agents have the configuration$`,
		`^web-1 +refuses "interval: soon": time: invalid duration "soon"$`,
		`^page +web-1: WebSocket, healthy, "interval: 30s", refused: time: invalid duration "soon"$`,
		`^sensor-1 +applies "interval: 5ms"$`,
		`^page +sensor-1: polls, can't measure each 5ms, "interval: 5ms"$`,
		`^page +web-2: WebSocket, healthy, "interval: 30s", gone$`,
		`^check +web-2 is gone$`,
		`^page +web-2: WebSocket, healthy, "interval: 30s"$`,
		`^check +web-2 is back, and has got the configuration of all$`,
		`^culvert +/fleet.v1.Fleet/Watch over message, route "watch"`,
	)
	for _, a := range []string{"web-1: WebSocket", "web-2: WebSocket", "web-3: WebSocket", "sensor-1: polls", "sensor-2: polls", "sensor-3: polls"} {
		for _, config := range []string{"10s", "30s"} {
			if !strings.Contains(text, a+`, healthy, "interval: `+config+`"`) {
				t.Errorf("no line shows %s with %s:\n%s", a, config, text)
			}
		}
	}
}

// The same in the page, in Chromium.
func TestExampleOpAMPPage(t *testing.T) {
	t.Parallel()
	var shown []string
	for line := range strings.Lines(lookAtExample(t, "opamp", "opamp.js")) {
		var got struct {
			Result         string
			Shown, Options []string
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		shown = append(shown, "result: "+got.Result)
		shown = append(append(shown, got.Shown...), got.Options...)
	}
	const sensor, web = "sensor-%d, polls, healthy, interval: %s, N s ago", "web-%d, WebSocket, healthy, interval: %s, N s ago"
	rows := func(config string) (all []string) {
		for i := range 6 {
			all = append(all, fmt.Sprintf([]string{sensor, web}[i/3], i%3+1, config))
		}
		return all
	}
	ten, thirty := rows("10s"), rows("30s")
	refused := slices.Clone(thirty)
	refused[3] = `web-1, WebSocket, healthy, interval: 30s, refused: time: invalid duration "soon", N s ago`
	ill := slices.Clone(refused)
	ill[0] = "sensor-1, polls, can't measure each 5ms, interval: 5ms, N s ago"
	if want := slices.Concat(
		[]string{"result: "}, ten,
		[]string{"result: pushed to 6 agents"}, thirty,
		[]string{"result: pushed to 1 agent"}, refused,
		[]string{"result: pushed to 1 agent"}, ill,
		[]string{"result: ", "all agents", "sensor-1", "sensor-2", "sensor-3", "web-1", "web-2", "web-3"},
	); !slices.Equal(shown, want) {
		t.Errorf("the page shows\n%s\nwant\n%s", strings.Join(shown, "\n"), strings.Join(want, "\n"))
	}
}

// The gateway's page makes the same calls in Chromium, in one WebSocket.
func TestExampleAPIGatewayPage(t *testing.T) {
	t.Parallel()
	want := `["connections":1,"shown":["support: you said: hello","accounts: I am ada","catalog: green tea, 450 cents",` +
		`"catalog: black tea, 390 cents","catalog: teapot, 2900 cents","basket: 3 products, 3740 cents","support: you said: goodbye"]]`
	stranger := `["connections":1,"shown":["Unauthenticated: this token is not valid"]]`
	got := strings.NewReplacer("{", "[", "}", "]").Replace(lookAtExample(t, "api-gateway", "gateway.js"))
	if got != want+"\n"+stranger+"\n" {
		t.Errorf("the page shows\n%s\nwant\n%s\n%s", got, want, stranger)
	}
}

// A plain page and a page of React talk through culvert. Vite's dev server is behind it,
// and its hot reload passes.
func TestExamplePages(t *testing.T) {
	t.Parallel()
	checkExample(t, "pages", `^page +/: 200 OK$`, `^page +/react/: 200 OK$`, `^room +check: hello, 1 here$`)
	var got struct {
		Plain, React []string
		Members      []string // after each step
		State        string
		Reloaded     string   // by hot reload
		Sockets      []string // the subprotocols of the WebSockets of the page of React
	}
	out := lookAtExample(t, "pages", "pages.js")
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	lines := []string{"plain: hello", "react: good day"}
	if !slices.Equal(got.Plain, lines) || !slices.Equal(got.React, lines) {
		t.Errorf("the pages show %q and %q, want %q", got.Plain, got.React, lines)
	}
	// StrictMode mounts the component twice. Hot reload of its hooks keeps the stream.
	if want := []string{"1", "2", "2", "1"}; !slices.Equal(got.Members, want) {
		t.Errorf("the room has %q members, want %q", got.Members, want)
	}
	if got.State != "connected" || got.Reloaded != "[vite] hot updated: /react/page.jsx" {
		t.Errorf("the page is %s and says %q, want connected, and that Vite has reloaded the hooks", got.State, got.Reloaded)
	}
	if want := []string{"vite-hmr", "h2ts"}; !slices.Equal(got.Sockets, want) {
		t.Errorf("the page opened WebSockets with %q, want %q", got.Sockets, want)
	}
}

// Without --check an example stays, for people to look at, until it is told to end.
// Then its culvert ends, too.
func TestExampleEndsOnSIGTERM(t *testing.T) {
	t.Parallel()
	p := startExample(t, "api-gateway")
	line, _, err := p.output.find(t.Context(), 0, regexp.MustCompile(`^metrics .*Ctrl-C`).MatchString)
	if err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`http://(\S+)/metrics`).FindStringSubmatch(line)[1]
	if body := get(t, address, "/metrics"); !strings.Contains(body, "culvert_calls_total") {
		t.Errorf("the metrics have no calls:\n%s", body)
	}
	p.signal(t, syscall.SIGTERM)
	if code := p.wait(t, patience); code != 0 {
		t.Errorf("after SIGTERM it ended with %d", code)
	}
	if conn, err := net.Dial("tcp", address); err == nil {
		_ = conn.Close()
		t.Errorf("its culvert still listens at %s", address)
	}
}
