package ask

import (
	"context"
	"testing"
)

// A closing context is the life of what is closed as soon as somebody has looked for its end.
type closing struct {
	context.Context
	slots Slots
}

func (c closing) Err() error {
	err := c.Context.Err()
	c.slots.Close()
	return err
}

// TestSnapshotBesideClose: the slots that Close takes aren't questions at the service.
func TestSnapshotBesideClose(t *testing.T) {
	slots := make(Slots, 8)
	if got := new(Counts).Snapshot(closing{t.Context(), slots}, slots).Asking; got != 0 {
		t.Errorf("%d questions are at the service, which nobody has asked", got)
	}
}
