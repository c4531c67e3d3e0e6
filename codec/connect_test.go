package codec

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
)

// TestConnectCode: each name in upper case is gRPC's own name of the code.
func TestConnectCode(t *testing.T) {
	for code := codes.Canceled; code <= maxCode; code++ {
		name := strings.ToUpper(ConnectCode(code))
		if name == "CANCELED" {
			name = "CANCELLED" // Connect spells it with one l
		}
		var got codes.Code
		if err := json.Unmarshal([]byte(`"`+name+`"`), &got); err != nil || got != code {
			t.Errorf("ConnectCode(%v) = %q, which is %v in gRPC (%v)", code, ConnectCode(code), got, err)
		}
	}
	for _, code := range []codes.Code{codes.OK, maxCode + 1, 1 << 31} {
		if got := ConnectCode(code); got != "unknown" {
			t.Errorf("ConnectCode(%d) = %q, want unknown", code, got)
		}
	}
}
