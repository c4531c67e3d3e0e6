package tasks

import (
	"testing"
	"testing/synctest"
)

// TestTasksAreWaitedFor, and none begins after the stop.
func TestTasksAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ts Group
		finish, stopped := make(chan struct{}), make(chan struct{})
		ran := 0
		if !ts.Start(func() { <-finish; ran++ }) || !ts.Start(ts.Stay) {
			t.Fatal("a task doesn't start")
		}
		go func() {
			ts.Stop()
			close(stopped)
		}()
		synctest.Wait()
		select {
		case <-stopped:
			t.Error("Stop returned with a task under way")
		default:
		}
		if ts.Start(func() { t.Error("a task ran after the stop") }) {
			t.Error("a task starts after the stop")
		}
		close(finish)
		synctest.Wait()
		select {
		case <-stopped:
			t.Error("Stop returned with a task that has no goroutine")
		default:
		}
		ts.Leave()
		<-stopped
		if ran != 1 {
			t.Errorf("the task ran %d times", ran)
		}
		ts.Stop() // again is fine
	})
}
