package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
)

// A Control asks a backend for its records through a unix socket, which works
// from any network namespace and whatever becomes of the backend's network.
type Control struct {
	client *http.Client
}

// NewControl returns a Control for the backend whose control socket is path.
func NewControl(path string) *Control {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &Control{&http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 64}}}
}

// Close closes the idle connections.
func (c *Control) Close() { c.client.CloseIdleConnections() }

// Wait returns the record of the call id once it has come to state: [Began],
// [Cancelled] or [Ended]. It waits as long as ctx.
func (c *Control) Wait(ctx context.Context, id, state string) (Record, error) {
	return get[Record](ctx, c, "/record?"+url.Values{"id": {id}, "wait": {state}}.Encode())
}

// Sent returns how many bytes of payload the backend has sent in the calls that run.
func (c *Control) Sent(ctx context.Context) (int64, error) {
	return get[int64](ctx, c, "/sent")
}

// Records returns the record of every call so far, by id.
func (c *Control) Records(ctx context.Context) (map[string]Record, error) {
	return get[map[string]Record](ctx, c, "/records")
}

// Release sends the replies of the call id that Script.HoldAfter or HoldAll holds back.
// It waits until the call has begun.
func (c *Control) Release(ctx context.Context, id string) error {
	_, err := get[bool](ctx, c, "/release?"+url.Values{"id": {id}}.Encode())
	return err
}

// SetHealth makes the backend's grpc.health.v1 say whether the service serves.
func (c *Control) SetHealth(ctx context.Context, service string, serves bool) error {
	_, err := get[bool](ctx, c, "/health?"+url.Values{"service": {service}, "serves": {strconv.FormatBool(serves)}}.Encode())
	return err
}

// Connections returns how many connections the backend has.
func (c *Control) Connections(ctx context.Context) (int, error) {
	return get[int](ctx, c, "/connections")
}

// Running returns how many calls run.
func (c *Control) Running(ctx context.Context) (int, error) {
	return get[int](ctx, c, "/running")
}

// WaitIdle waits until no call runs.
func (c *Control) WaitIdle(ctx context.Context) error {
	_, err := get[int](ctx, c, "/idle")
	return err
}

func get[T any](ctx context.Context, c *Control, path string) (answer T, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://backend"+path, nil)
	if err != nil {
		return answer, err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return answer, fmt.Errorf("backend's control: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end below
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body) // the status says enough
		return answer, fmt.Errorf("backend's control: %s: %s", resp.Status, text)
	}
	err = json.NewDecoder(resp.Body).Decode(&answer)
	return answer, err
}
