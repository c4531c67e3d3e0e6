package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/culvert-grpc/culvert/e2e/e2epb"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// TestRollingUpdate replaces both pods of a Deployment while clients call. No call
// fails: neither those of a grpc-go client that keeps its connections, nor those on
// new connections.
func TestRollingUpdate(t *testing.T) {
	namespace := makeNamespace(t)
	deployments := kube.AppsV1().Deployments(namespace)
	if _, err := kube.CoreV1().Services(namespace).Create(t.Context(), newService(), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := deployments.Create(t.Context(), newDeployment(), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	if err := rolledOut(ctx, namespace, "orders"); err != nil {
		t.Fatal(err)
	}
	found := followEndpoints(t, namespace)
	if err := found.await(ctx, 2); err != nil {
		t.Fatal(err)
	}
	before := found.all()

	conn, err := grpc.NewClient("manual:///orders", grpc.WithResolvers(found.resolver),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := e2epb.NewProbeClient(conn)
	callers := []*caller{
		startCaller(t, "grpc-go", func(ctx context.Context) error {
			_, err := client.Unary(ctx, &e2epb.Request{})
			return err
		}),
		startCaller(t, "gRPC-Web", func(ctx context.Context) error { return roundTrip(ctx, wire.Web, found.next()) }),
		startCaller(t, "WebSocket", func(ctx context.Context) error { return roundTrip(ctx, wire.WebSocket, found.next()) }),
	}
	again := []byte(`{"spec":{"template":{"metadata":{"annotations":{"update":"1"}}}}}`)
	if _, err := deployments.Patch(ctx, "orders", types.StrategicMergePatchType, again, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := rolledOut(ctx, namespace, "orders"); err != nil {
		t.Fatal(err)
	}
	if err := podsLeft(ctx, namespace, 2); err != nil {
		t.Fatal(err)
	}
	for _, c := range callers {
		c.end(t)
	}
	for _, address := range found.all() {
		for _, old := range before {
			if address == old {
				t.Errorf("%s was not replaced", old)
			}
		}
	}
}

// newService returns a Service that leads to culvert.
func newService() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "orders"},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "orders"},
			Ports:    []corev1.ServicePort{{Name: "grpc", Port: 443, TargetPort: intstr.FromString(sidecar)}},
		},
	}
}

// newDeployment returns a Deployment with the update that the guide has.
func newDeployment() *appsv1.Deployment {
	none, one := intstr.FromInt32(0), intstr.FromInt32(1)
	pod := template()
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "orders"},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(2)), Template: pod,
			Selector: &metav1.LabelSelector{MatchLabels: pod.Labels},
			Strategy: appsv1.DeploymentStrategy{RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: &none, MaxSurge: &one}},
		},
	}
}

// endpoints are the addresses behind the Service, as a watch of its EndpointSlices tells
// them: what a proxy on the node knows.
type endpoints struct {
	resolver *manual.Resolver // for grpc-go

	mu      sync.Mutex
	slices  map[string][]string // addresses by the slice's name
	turn    int
	changed chan struct{} // closed when the addresses have changed
}

// followEndpoints watches until the end of the test.
func followEndpoints(t *testing.T, namespace string) *endpoints {
	t.Helper()
	e := &endpoints{resolver: manual.NewBuilderWithScheme("manual"), slices: map[string][]string{}, changed: make(chan struct{})}
	e.resolver.InitialState(resolver.State{})
	ctx, cancel := context.WithCancel(context.Background())
	// A watch without a version begins with what there is.
	w, err := kube.DiscoveryV1().EndpointSlices(namespace).Watch(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=orders"})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	var watching sync.WaitGroup
	watching.Go(func() {
		for event := range w.ResultChan() {
			if s, is := event.Object.(*discoveryv1.EndpointSlice); is {
				e.set(s)
			}
		}
	})
	t.Cleanup(func() {
		w.Stop()
		cancel()
		watching.Wait()
	})
	return e
}

func (e *endpoints) set(s *discoveryv1.EndpointSlice) {
	var addresses []string
	for _, one := range s.Endpoints {
		if one.Conditions.Ready != nil && *one.Conditions.Ready {
			addresses = append(addresses, net.JoinHostPort(one.Addresses[0], strconv.Itoa(int(*s.Ports[0].Port))))
		}
	}
	e.mu.Lock()
	e.slices[s.Name] = addresses
	close(e.changed)
	e.changed = make(chan struct{})
	e.mu.Unlock()
	var state resolver.State
	for _, address := range e.all() {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: address})
	}
	e.resolver.UpdateState(state)
}

func (e *endpoints) all() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []string
	for _, addresses := range e.slices {
		all = append(all, addresses...)
	}
	return all
}

// next returns the addresses by turns.
func (e *endpoints) next() string {
	all := e.all()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.turn++
	return all[e.turn%len(all)]
}

// await waits for so many addresses.
func (e *endpoints) await(ctx context.Context, n int) error {
	for {
		e.mu.Lock()
		changed := e.changed
		e.mu.Unlock()
		if len(e.all()) == n {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("endpoints %v, want %d: %w", e.all(), n, ctx.Err())
		case <-changed:
		}
	}
}

// A caller makes one call after another.
type caller struct {
	name  string
	stop  context.CancelFunc
	done  sync.WaitGroup
	calls int
	errs  []error // both are valid after the end
}

// startCaller calls until the end of the test at the latest.
func startCaller(t *testing.T, name string, call func(context.Context) error) *caller {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &caller{name: name, stop: cancel}
	c.done.Go(func() {
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for ctx.Err() == nil {
			one, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
			if err := call(one); err != nil {
				c.errs = append(c.errs, fmt.Errorf("%s: %w", time.Now().Format(time.StampMilli), err))
			}
			cancel()
			c.calls++
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	})
	t.Cleanup(func() { cancel(); c.done.Wait() })
	return c
}

// end stops the caller. Each failed call fails the test.
func (c *caller) end(t *testing.T) {
	t.Helper()
	c.stop()
	c.done.Wait()
	t.Logf("%s: %d calls, %d failed", c.name, c.calls, len(c.errs))
	if c.calls < 100 {
		t.Errorf("%s: only %d calls", c.name, c.calls)
	}
	if err := errors.Join(c.errs[:min(len(c.errs), 5)]...); err != nil {
		t.Errorf("%s: %v", c.name, err)
	}
}
