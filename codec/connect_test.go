package codec

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
)

// TestConnectError: the name of each code is gRPC's own in lower case.
func TestConnectError(t *testing.T) {
	const message = "\"quoted\" <é>\n"
	named := func(code codes.Code) string {
		t.Helper()
		var e struct{ Code, Message string }
		if err := json.Unmarshal([]byte(ConnectError(code, message)), &e); err != nil {
			t.Fatal(err)
		}
		if e.Message != message {
			t.Errorf("the message is %q, want %q", e.Message, message)
		}
		return e.Code
	}
	for code := codes.Canceled; code <= maxCode; code++ {
		name := strings.ToUpper(named(code))
		if name == "CANCELED" {
			name = "CANCELLED" // Connect spells it with one l
		}
		var got codes.Code
		if err := got.UnmarshalJSON([]byte(`"` + name + `"`)); err != nil || got != code {
			t.Errorf("%v has the name %q, which is %v in gRPC (%v)", code, named(code), got, err)
		}
	}
	for _, code := range []codes.Code{codes.OK, maxCode + 1, 1 << 31} {
		if got := named(code); got != "unknown" {
			t.Errorf("the code %d has the name %q, want unknown", code, got)
		}
	}
}
