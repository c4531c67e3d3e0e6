package pool

import (
	"context"

	"google.golang.org/grpc"
)

// accompany starts the companion of a connection that takes calls. The pool's mu is held.
func (c *conn) accompany() {
	if c.companion == nil {
		return
	}
	p := c.slot.address.pool
	ctx, cancel := context.WithCancel(context.Background()) // ended by lose
	c.dismiss = cancel
	calls, release := c.sub.GetOrBuildProducer(onConn{})
	p.checks.Go(func() {
		defer release()
		defer c.wire.Catch()
		c.companion(ctx, calls.(grpc.ClientConnInterface)) //nolint:forcetypeassert // see onConn
	})
}
