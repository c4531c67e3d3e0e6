package client

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/protobuf/types/known/emptypb"
)

// A Client calls an edge by whatever way leads there. It is a grpc.ClientConnInterface, for
// generated stubs. Its methods may be called concurrently.
type Client struct {
	d  *Dialer
	cc *grpc.ClientConn
}

// NewClient returns a Client of the edge at "https://edge.example.com", which may have a port
// and a path prefix. It connects with the first call. The caller closes it.
func NewClient(target string, opts ...Option) (*Client, error) {
	d, err := NewDialer(target, opts...)
	if err != nil {
		return nil, err
	}
	cc, err := grpc.NewClient(target, d.dialOptions()...)
	if err != nil {
		d.Close()
		return nil, err
	}
	return &Client{d, cc}, nil
}

// DialOptions returns what grpc.NewClient needs for the edge at the target, which must be its
// first argument, too: dialer, credentials, authority and resolver. Everything that they begin
// ends with the connections of the grpc.ClientConn.
func DialOptions(target string, opts ...Option) ([]grpc.DialOption, error) {
	d, err := NewDialer(target, opts...)
	if err != nil {
		return nil, err
	}
	return d.dialOptions(), nil
}

func (d *Dialer) dialOptions() []grpc.DialOption {
	d.watches = true
	// The address is the Dialer's, so nothing is resolved here: behind a proxy, names may
	// not be known.
	one := func(scheme string) resolver.Builder {
		r := manual.NewBuilderWithScheme(scheme)
		r.InitialState(resolver.State{Endpoints: []resolver.Endpoint{{Addresses: []resolver.Address{{Addr: d.target.Address()}}}}})
		return r
	}
	opts := append(slices.Clone(d.o.grpc), // the program's interceptors see methods without the prefix
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return d.Dial(ctx) }),
		grpc.WithTransportCredentials(wayCredentials{insecure.NewCredentials(), d.target.Secure}),
		grpc.WithAuthority(d.target.Authority()),
		grpc.WithResolvers(one("https"), one("http"), one("wss"), one("ws")),
		grpc.WithNoProxy(), // the Dialer has it
		grpc.WithConnectParams(grpc.ConnectParams{ // the Dialer has the pauses: see pace
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: pauseTimes, Jitter: pauseBand, MaxDelay: time.Second},
			MinConnectTimeout: findTimeout,
		}),
	)
	prefix := d.target.Prefix
	opts = append(opts,
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			defer d.beginCall()()
			if d.learnsCall() {
				d.callBy(func(ctx context.Context, method string) error {
					return invoke(ctx, method, new(emptypb.Empty), new(emptypb.Empty), cc, plainCodec)
				})
			}
			return invoke(ctx, prefix+method, req, reply, cc, opts...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			end := d.beginCall()
			if d.learnsCall() {
				d.callBy(func(ctx context.Context, method string) error { return callOnce(ctx, cc, method, open) })
			}
			s, err := open(ctx, desc, cc, prefix+method, append(slices.Clip(opts), grpc.OnFinish(func(error) { end() }))...)
			if err != nil {
				end()
			}
			return s, err
		}))
	if d.o.tokens != nil {
		opts = append(opts, grpc.WithPerRPCCredentials(callTokens{d}))
	}
	return opts
}

// beginCall counts a call until its end, which may be noted again.
func (d *Dialer) beginCall() (end func()) {
	d.Want()
	d.calls.Add(1)
	return sync.OnceFunc(func() { d.calls.Add(-1) })
}

// Invoke makes a unary call, as grpc.ClientConn does.
func (c *Client) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return c.cc.Invoke(ctx, method, args, reply, opts...)
}

// NewStream begins a streaming call, as grpc.ClientConn does.
func (c *Client) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return c.cc.NewStream(ctx, desc, method, opts...)
}

// Connect begins to look for a way, if there is no connection.
func (c *Client) Connect() { c.cc.Connect() }

// Status returns what the client knows now.
func (c *Client) Status() Status { return c.d.Status() }

// State returns whether there is a connection.
func (c *Client) State() connectivity.State { return c.d.Status().State }

// Way returns the way that calls take now; "": there is no connection.
func (c *Client) Way() Way { return c.d.Status().Way }

// Latency returns how long a round trip took when the connection was opened.
func (c *Client) Latency() time.Duration { return c.d.Status().Latency }

// Close ends all calls, and waits for everything that the client has begun.
func (c *Client) Close() error {
	err := c.cc.Close()
	c.d.Close()
	return err
}
