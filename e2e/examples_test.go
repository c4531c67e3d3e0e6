package e2e

import (
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
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
		`^culvert +refused NO_ROUTE \S+/gateway.v1.Payroll/Raise .*matches calls by h2ts, or`,
		`^client +a service without a route: Unimplemented`,
		`^catalog +has stopped`,
		`^client +a search: Unavailable`,
		`^accounts +I am ada$`,
		`^metrics +culvert_calls_total\{.*origin="upstream",.*rpc_status_code="OK",transport="h2ts\+grpc"\} [45]`,
		`^metrics +culvert_connections_total\{kind="tunnel",listener=""\} 2$`,
		`^metrics +rpc_server_call_duration_seconds_count\{.*rpc_method="gateway.v1.Basket/Fill",rpc_status_code="OK",.*\} 1`,
	)
	if n := strings.Count(text, "opens a WebSocket"); n != 2 {
		t.Errorf("the two clients opened %d WebSockets:\n%s", n, text)
	}
}

// Without --check an example stays, for people to look at, until it is told to end.
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
	if code := p.wait(t, 10*time.Second); code != 0 {
		t.Errorf("after SIGTERM it ended with %d", code)
	}
}
