package headers

import (
	"maps"
	"strings"

	"google.golang.org/grpc/metadata"
)

// VouchedNames are the names that the operator adds to the table's. NewVouched makes it.
type VouchedNames struct{ exact, hyphened map[string]bool }

// NewVouched returns the names, in any case.
func NewVouched(names []string) VouchedNames {
	v := VouchedNames{exact: make(map[string]bool, len(names)), hyphened: make(map[string]bool, len(names))}
	for _, name := range names {
		name = strings.ToLower(name)
		v.exact[name], v.hyphened[hyphened(name)] = true, true
	}
	return v
}

// Has reports whether the operator has added the lower-case name.
func (v VouchedNames) Has(name string) bool { return v.exact[name] }

// Resembles reports whether a backend may take the lower-case name for one of these.
func (v VouchedNames) Resembles(name string) bool { return v.hyphened[hyphened(name)] }

// Strike removes from md these names, unless a trusted peer sets them, and the names
// that imitate them.
func (v VouchedNames) Strike(md metadata.MD, trusted bool) {
	if len(v.exact) > 0 {
		maps.DeleteFunc(md, func(name string, _ []string) bool { return v.Strikes(name, trusted) })
	}
}

// Strikes reports whether Strike removes the lower-case name.
func (v VouchedNames) Strikes(name string, trusted bool) bool {
	return v.Has(name) && !trusted || !v.Has(name) && v.Resembles(name)
}
