package identity

import (
	"errors"
	"slices"
	"testing"
)

func TestKindOf(t *testing.T) {
	if got := KindOf(nil); got != None {
		t.Errorf("nobody has the kind %q, want %q", got, None)
	}
	for _, k := range Kinds {
		if got := KindOf(&Identity{Kind: k}); got != k {
			t.Errorf("got %q, want %q", got, k)
		}
	}
}

func TestRefusalHasTwoFaces(t *testing.T) {
	cause := errors.New("line 3 has expired")
	for _, c := range []struct {
		refusal Refusal
		want    string
	}{
		{Refusal{Text: "send another key"}, "send another key"},
		{Refusal{Text: "send another key", Cause: cause}, "send another key: line 3 has expired"},
	} {
		if got := c.refusal.Error(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
		if got := errors.Is(&c.refusal, cause); got != (c.refusal.Cause != nil) {
			t.Errorf("%+v has the cause: %v", c.refusal, got)
		}
	}
	names := []string{BadCredential.String(), NotPermitted.String(), Unjudged.String()}
	if want := []string{"UNAUTHENTICATED", "PERMISSION_DENIED", "AUTH_UNAVAILABLE"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
}
