package descriptor

import (
	"cmp"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// An UnknownMethodError reports that a service, which the descriptors have, has no such
// method. It wraps ErrUnknown.
type UnknownMethodError struct {
	Method string
	of     protoreflect.ServiceDescriptor
}

func (e *UnknownMethodError) Error() string {
	return "the method " + e.Method + " of the service " + string(e.of.FullName()) + ": " + ErrUnknown.Error()
}

// Unwrap returns ErrUnknown.
func (*UnknownMethodError) Unwrap() error { return ErrUnknown }

// The bounds of a search for names that may be meant: clients choose the name.
const (
	maxNear        = 2 // letters that are wrong, missing or too many
	maxNearName    = 64
	maxNearMethods = 1000
)

// Near returns the names of the service's methods that may be meant, the nearest first.
func (e *UnknownMethodError) Near() []string {
	if len(e.Method) > maxNearName {
		return nil
	}
	type candidate struct {
		name     string
		distance int
	}
	var all []candidate
	methods := e.of.Methods()
	for i := range min(methods.Len(), maxNearMethods) {
		name := string(methods.Get(i).Name())
		if max(len(e.Method)-len(name), len(name)-len(e.Method)) > maxNear {
			continue
		}
		// Without the parameter MaxCost, which makes some distances too small.
		if d := levenshtein.Distance(strings.ToLower(e.Method), strings.ToLower(name), nil); d <= min(maxNear, len(name)/2) {
			all = append(all, candidate{name, d})
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(a.distance, b.distance) })
	names := make([]string, len(all))
	for i, c := range all {
		names[i] = c.name
	}
	return names
}
