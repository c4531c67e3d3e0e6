package gate

import (
	"net/http"
	"testing"
)

// TestUpgradeIsASCII: a proxy in front compares tokens by their bytes. RFC 9110 §5.6.2.
func TestUpgradeIsASCII(t *testing.T) {
	for value, want := range map[string]bool{"websocket": true, "\t WebSocket ": true, "h2c,websocket": true, "web\u017focket": false, "websoc\u212aet": false, "\u00a0websocket": false, "websockets": false} {
		r := &http.Request{Method: http.MethodGet, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {value}}}
		if got := IsUpgrade(r); got != want {
			t.Errorf("Upgrade: %q is an upgrade: %v", value, got)
		}
	}
}
