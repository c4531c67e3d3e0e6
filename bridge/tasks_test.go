package bridge

import (
	"testing"
	"testing/synctest"
)

// TestTasksAreWaitedFor, and none begins after the stop.
func TestTasksAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ts tasks
		finish, stopped := make(chan struct{}), make(chan struct{})
		ran := 0
		if !ts.start(func() { <-finish; ran++ }) {
			t.Fatal("a task doesn't start")
		}
		go func() {
			ts.stop()
			close(stopped)
		}()
		synctest.Wait()
		select {
		case <-stopped:
			t.Error("stop returned with a task under way")
		default:
		}
		if ts.start(func() { t.Error("a task ran after the stop") }) {
			t.Error("a task starts after the stop")
		}
		close(finish)
		<-stopped
		if ran != 1 {
			t.Errorf("the task ran %d times", ran)
		}
		ts.stop() // again is fine
	})
}
