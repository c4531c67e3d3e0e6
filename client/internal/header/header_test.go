package header

import (
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, given := range []string{"", "x", ": y", "x y: z", "x: \x01", "x: é", "x-bin: !", "host: a", "grpc-timeout: 1S", "sec-fetch-site: x", "connect-timeout-ms: 1", "content-type: a"} {
		if md, err := Parse([]string{given}); err == nil {
			t.Errorf("%q: %v, want an error", given, md)
		}
	}
	if _, err := Parse([]string{"authorization Bearer hunter2"}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("an error with a secret: %v", err)
	}
	got, err := Parse([]string{"X-User:alice", "x-user: bob ", "x-bin: AAE"})
	if want := map[string][]string{"x-user": {"alice", "bob"}, "x-bin": {"AAE"}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}
