package client

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// A call in a WebSocket outlives its token if culvert gets a newer one in the same WebSocket, by
// this method. By other ways a call ends with its token.
const refreshMethod = "/culvert.v1.Session/Refresh"

const (
	renewTimeout = 10 * time.Second // for the source, and for the edge
	maxLead      = 3 * time.Minute  // before a token expires, it is renewed
)

// refreshKey is the key in a context for the authorization of a call of refreshMethod.
type refreshKey struct{}

// renewals are the tokens in the WebSockets that are open.
type renewals struct {
	mu   sync.Mutex
	all  map[*renewal]struct{}
	last time.Time // when the token of the last call expires, which may wait for a connection
}

// A renewal is what one connection needs. The mu of renewals guards until, handing and deaf.
type renewal struct {
	until   time.Time     // when the first of its calls' tokens expires; zero: there is nothing to renew
	handing bool          // the edge is given a newer one: until is that of calls that began meanwhile
	deaf    bool          // the edge takes no tokens
	changed chan struct{} // has room for one
	refused string        // the authorization that the edge doesn't take; the renewing goroutine's own
}

// add adds a renewal until remove.
func (rs *renewals) add() *renewal {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := &renewal{until: rs.last, changed: make(chan struct{}, 1)}
	rs.all[r] = struct{}{}
	return r
}

// remove ends add. r may be nil.
func (rs *renewals) remove(r *renewal) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	delete(rs.all, r)
}

// begin notes a call whose token expires then. It may be on any of the connections.
func (rs *renewals) begin(expires time.Time) {
	if expires.IsZero() {
		return
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.last = expires
	for r := range rs.all {
		if r.lower(expires) {
			select {
			case r.changed <- struct{}{}:
			default: // it will look
			}
		}
	}
}

// lower notes a token, and reports whether it expires before the others. mu is held.
func (r *renewal) lower(to time.Time) bool {
	lower := !r.deaf && !to.IsZero() && (r.until.IsZero() || to.Before(r.until))
	if lower {
		r.until = to
	}
	return lower
}

// take returns when the first token expires, and forgets it. Calls that begin from now on note theirs.
func (rs *renewals) take(r *renewal) (until time.Time) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	until, r.until, r.handing = r.until, time.Time{}, true
	return until
}

// end ends what take began: the tokens last until then. It returns when the first one expires.
func (rs *renewals) end(r *renewal, until time.Time, deaf bool) time.Time {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r.handing = false
	r.lower(until)
	if r.deaf = deaf; deaf {
		r.until = time.Time{}
	}
	return r.until
}

// holds reports whether there is something to renew, or it is being renewed.
func (rs *renewals) holds(r *renewal) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return r.handing || !r.until.IsZero()
}

func (rs *renewals) until(r *renewal) time.Time {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return r.until
}

// needs reports whether running calls need their connection for new tokens: in one that is retired,
// no call can begin. r may be nil.
func (d *Dialer) needs(r *renewal) bool {
	return r != nil && d.busy() && d.renewals.holds(r)
}

// busy reports whether calls may run. Of those of a Dialer alone it doesn't know.
func (d *Dialer) busy() bool { return !d.watches || d.calls.Load() > 0 }

// Authorization returns what the source of tokens has now, for one call: for programs that use a
// Dialer alone. Without a source it is empty. The edge gets the next token for the call, as far as
// Companion says.
func (d *Dialer) Authorization(ctx context.Context) (string, error) {
	if d.o.tokens == nil {
		return "", nil
	}
	c, err := d.o.tokens.ask(ctx)
	if err == nil {
		d.renewals.begin(c.expires)
	}
	return c.authorization, err
}

// Companion returns what must run as long as calls can begin on the connection, or nil: it gives
// the edge new tokens, by calls on this connection alone. It returns when the context ends.
func (c *conn) Companion() func(ctx context.Context, calls grpc.ClientConnInterface) {
	if c.renewal == nil {
		return nil
	}
	return func(ctx context.Context, calls grpc.ClientConnInterface) {
		c.dialer.renew(ctx, c, func(ctx context.Context, method string) error {
			authorization, _ := ctx.Value(refreshKey{}).(string)
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", authorization)
			return calls.Invoke(ctx, method, new(emptypb.Empty), new(emptypb.Empty), plainCodec)
		})
	}
}

// plainCodec is the codec of refreshMethod, whatever the program's is.
var plainCodec = grpc.ForceCodecV2(encoding.GetCodecV2("proto"))

// renew gives the edge new tokens, until the context or the connection ends.
func (d *Dialer) renew(ctx context.Context, c *conn, by invoke) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.doomed, cancel)() //nolint:contextcheck // the end of the connection is another one
	if !d.watches && ctx.Err() == nil {         // the programs' calls may come late, and culvert closes a WebSocket that proves nothing
		d.prove(ctx, c, by)
	}
	timer := time.NewTimer(time.Until(renewalTime(time.Now(), d.renewals.until(c.renewal))))
	defer timer.Stop()
	for {
		next := time.Now()
		select {
		case <-ctx.Done():
			return
		case <-c.renewal.changed:
			next = renewalTime(next, d.renewals.until(c.renewal))
		case <-timer.C:
			if c.retired.Load() {
				return // calls begin on another connection
			}
			next = d.renewNow(ctx, c, by)
		}
		timer.Reset(time.Until(next))
	}
}

// never is so far away that a renewal looks at its clock before.
const never = 24 * time.Hour

// renewalTime returns when to renew what expires: a few minutes before, but not with all other clients at once.
func renewalTime(now, expires time.Time) time.Time {
	left := expires.Sub(now)
	if expires.IsZero() {
		return now.Add(never)
	}
	lead := time.Duration(float64(min(left/3, maxLead)) * (0.75 + rand.Float64()/2)) //nolint:gosec // it only spreads clients
	return now.Add(min(left-lead, never))
}

// renewNow asks for a new token and gives it to the edge. It returns when to do that again.
func (d *Dialer) renewNow(ctx context.Context, c *conn, by invoke) time.Time {
	r, now := c.renewal, time.Now()
	before := d.renewals.until(r)
	if left := before.Sub(now); before.IsZero() || left > 2*maxLead {
		return renewalTime(now, before)
	}
	if !d.busy() {
		d.renewals.take(r)
		return renewalTime(now, d.renewals.end(r, time.Time{}, false))
	}
	// A source may have nothing newer yet: it is asked more and more often until the token expires, and less and less often
	// afterwards, since an edge with another clock, or none that closes streams, may still let the stream live.
	again := now.Add(min(max(time.Second, before.Sub(now).Abs()/4), 30*time.Second))
	asking, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	got, err := d.o.tokens.ask(asking)
	switch {
	case ctx.Err() != nil:
		return again
	case err != nil:
		d.noteToken(c, err)
		return again
	case !got.expires.IsZero() && !got.expires.After(before), got.authorization == r.refused:
		return again
	}
	before = d.renewals.take(r)
	deaf, err := d.hand(ctx, c, by, got)
	if err != nil {
		d.renewals.end(r, before, false)
		return again
	}
	return renewalTime(time.Now(), d.renewals.end(r, got.expires, deaf))
}

// prove gives the edge the first token of a connection.
func (d *Dialer) prove(ctx context.Context, c *conn, by invoke) {
	asking, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	got, err := d.o.tokens.ask(asking)
	if err != nil {
		return // calls tell it, which ask, too
	}
	deaf, err := d.hand(ctx, c, by, got)
	if err == nil {
		d.renewals.end(c.renewal, got.expires, deaf)
	}
}

// hand gives the edge a token. deaf reports that the edge takes none.
func (d *Dialer) hand(ctx context.Context, c *conn, by invoke, got credential) (deaf bool, err error) {
	calling, cancel := context.WithTimeout(context.WithValue(ctx, refreshKey{}, got.authorization), renewTimeout)
	defer cancel()
	err = by(calling, d.target.Prefix+refreshMethod)
	switch status.Code(err) { //nolint:exhaustive // the others are failures that may pass
	case codes.OK, codes.Unimplemented:
		d.noteToken(c, nil)
		return err != nil, nil
	case codes.PermissionDenied, codes.Unauthenticated:
		c.renewal.refused = got.authorization
	}
	if ctx.Err() == nil {
		d.noteToken(c, err)
	}
	return false, err
}

// noteToken notes why the token of the calls on a connection can't be renewed, or that it was.
func (d *Dialer) noteToken(c *conn, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	was, ok := d.conns[c]
	if !ok || sameText(was.TokenErr, err) {
		return
	}
	now := was
	now.TokenErr = err
	d.conns[c] = now
	if d.status == was {
		d.setStatus(now)
	}
}

func sameText(a, b error) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Error() == b.Error()
}

// An invoke makes a call with empty messages.
type invoke func(ctx context.Context, method string) error

// learnsCall reports whether callBy is of use.
func (d *Dialer) learnsCall() bool { return d.o.tokens != nil && d.invoke.Load() == nil }

// callBy notes how calls are made.
func (d *Dialer) callBy(by invoke) { d.invoke.CompareAndSwap(nil, &by) }

// call makes a call on the connection that grpc-go has.
func (d *Dialer) call(ctx context.Context, method string) error {
	if by := d.invoke.Load(); by != nil {
		return (*by)(ctx, method)
	}
	return status.Error(codes.Unavailable, "there was no call yet")
}

// callOnce is a call with empty messages, as a stream.
func callOnce(ctx context.Context, cc *grpc.ClientConn, method string, open grpc.Streamer) error {
	s, err := open(ctx, &grpc.StreamDesc{}, cc, method, plainCodec)
	if err != nil {
		return err
	}
	if err := s.SendMsg(new(emptypb.Empty)); err != nil && !errors.Is(err, io.EOF) { // RecvMsg has the status
		return err
	}
	return s.RecvMsg(new(emptypb.Empty))
}
