package report

import "fmt"

// An OriginError reports an invalid entry of bridge.Config.AllowOrigins.
type OriginError struct {
	Entry string
	Why   string
	Want  string
}

func (e *OriginError) Error() string {
	return fmt.Sprintf("origin %q: %s: want %s", e.Entry, e.Why, e.Want)
}
