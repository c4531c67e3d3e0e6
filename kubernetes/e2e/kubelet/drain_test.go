package kubelet

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// TestDrain deletes a pod while a stream is open on each transport. culvert turns new
// calls away, and each stream runs to its end: no message is lost.
func TestDrain(t *testing.T) {
	const before, after = 3, 50
	namespace := makeNamespace(t)
	pod := createPod(t, namespace, nil)
	at, backend := address(t, pod), control(t, pod)
	calls := map[wire.Transport]wire.Call{}
	for _, transport := range transports {
		calls[transport] = openStream(t, transport, at, before, after)
	}
	if err := kube.CoreV1().Pods(namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := refused(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	for _, transport := range transports {
		if err := backend.Release(t.Context(), string(transport)); err != nil {
			t.Fatalf("%s: %v", transport, err)
		}
		call := calls[transport]
		n, err := wire.Drain(call, before)
		if err != nil || n != before+after {
			t.Errorf("%s: %d messages, want %d: %v", transport, n, before+after, err)
			continue
		}
		if s := call.Status(); s.Code != 0 {
			t.Errorf("%s: ended with %v", transport, s)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := podsLeft(ctx, namespace, 0); err != nil {
		t.Errorf("the pod is still there: %v", err)
	}
}

// openStream opens a stream and receives its first messages. The others wait until they
// are released.
func openStream(t *testing.T, transport wire.Transport, address string, before, after int) wire.Call {
	t.Helper()
	conn, err := wire.Dial(t.Context(), transport, address)
	if err != nil {
		t.Fatalf("%s: %v", transport, err)
	}
	t.Cleanup(conn.Close)
	conn.SetDeadline(time.Now().Add(patience))
	script := probe.Script{Replies: before + after, ReplyBytes: 1000, HoldAfter: before}
	call, err := conn.Post(t.Context(), wire.ServerStream, wire.Metadata(string(transport), script), wire.Request(0, 0))
	if err != nil {
		t.Fatalf("%s: %v", transport, err)
	}
	t.Cleanup(call.Close)
	for i := range uint64(before) {
		if _, err := wire.RecvReply(call, i); err != nil {
			t.Fatalf("%s: %v", transport, err)
		}
	}
	return call
}

// refused calls until culvert turns a call away. All calls before must succeed.
func refused(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		if err := roundTrip(ctx, wire.WebSocket, address); err != nil {
			if s, is := errors.AsType[*statusError](err); is && s.status.Reason() == "DRAINING" {
				return nil
			}
			return fmt.Errorf("want DRAINING: %w", err)
		}
		select {
		case <-ctx.Done():
			return errors.New("culvert still takes calls")
		case <-again.C:
		}
	}
}

// podsLeft waits until a namespace has no more pods than so many.
func podsLeft(ctx context.Context, namespace string, most int) error {
	pods := kube.CoreV1().Pods(namespace)
	list, err := pods.List(ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) <= most {
		return err
	}
	w, err := pods.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return err
	}
	defer w.Stop()
	left := len(list.Items)
	for event := range w.ResultChan() {
		switch event.Type {
		case watch.Added:
			left++
		case watch.Deleted:
			left--
		}
		if left <= most {
			return nil
		}
	}
	return errors.Join(ctx.Err(), errors.New("the watch has ended"))
}
