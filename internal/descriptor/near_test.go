package descriptor

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestNearMethods(t *testing.T) {
	set := shopDescriptors(t)
	for name, want := range map[string][]string{
		"Gett": {"Get"}, "get": {"Get"}, "GET": {"Get"}, "Gt": {"Get"}, "Chta": {"Chat"}, "Watches": {"Watch"}, "Hat": {"Chat"},
		"": nil, "X": nil, "Xyz": nil, "Remove": nil, strings.Repeat("Get", 100_000): nil,
	} {
		_, err := set.Method("/shop.v1.Orders/" + name)
		var unknown *UnknownMethodError
		if !errors.As(err, &unknown) || !errors.Is(err, ErrUnknown) || unknown.Method != name {
			t.Errorf("%.20q: %.100v, want an UnknownMethodError", name, err)
			continue
		}
		if got := unknown.Near(); !slices.Equal(got, want) && len(got)+len(want) > 0 {
			t.Errorf("%.20q: near %q, want %q", name, got, want)
		}
	}
	if _, err := set.Method("/shop.v1.Order/Get"); !errors.Is(err, ErrUnknown) || errors.As(err, new(*UnknownMethodError)) {
		t.Errorf("what is no service: %v", err)
	}
}
