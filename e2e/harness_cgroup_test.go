package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// A memoryGroup is a memory cgroup, as a container is in: of version 2 where the
// memory controller is there, else of version 1.
type memoryGroup struct {
	dir string
	v2  bool
}

var lastGroup atomic.Int64

// newMemoryGroup makes a group with a limit of memory and no swap, which is gone
// after the test. What a container does can't be tested without one, so where none
// can be made the test fails.
func newMemoryGroup(t testing.TB, limit int64) *memoryGroup {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("a memory cgroup needs root (CAP_SYS_ADMIN)")
	}
	root, v2 := memoryHierarchy(t)
	g := &memoryGroup{filepath.Join(root, fmt.Sprintf("e2e-%d-%d", os.Getpid(), lastGroup.Add(1))), v2}
	if err := os.Mkdir(g.dir, 0o700); err != nil {
		t.Fatalf("a memory cgroup needs a writable %s: %v", root, err)
	}
	t.Cleanup(func() {
		// Its last process may have ended just now, and the kernel may not be through.
		if err := eventually(patience, func() error { return os.Remove(g.dir) }); err != nil {
			t.Error(err)
		}
	})
	for _, file := range map[bool][]string{
		true: {"memory.swap.max=0", fmt.Sprintf("memory.max=%d", limit)},
		// Version 1 counts what sockets hold only if that has a limit, and apart.
		false: {"memory.swappiness=0", "memory.kmem.tcp.limit_in_bytes=1T", fmt.Sprintf("memory.limit_in_bytes=%d", limit)},
	}[v2] {
		name, value, _ := strings.Cut(file, "=")
		err := os.WriteFile(filepath.Join(g.dir, name), []byte(value), 0)
		if err != nil && (!errors.Is(err, fs.ErrNotExist) || name == "memory.max" || name == "memory.limit_in_bytes") { // a kernel may be built without swap
			t.Fatalf("a memory cgroup needs the memory controller in %s: %v", root, err)
		}
	}
	return g
}

// memoryHierarchy returns where memory cgroups are made, and whether they are of
// version 2.
func memoryHierarchy(t testing.TB) (root string, v2 bool) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line) // device, directory, type, options: fstab(5)
		switch {
		case fields[2] == "cgroup2":
			there, err := os.ReadFile(filepath.Join(fields[1], "cgroup.controllers"))
			if err != nil || !slices.Contains(strings.Fields(string(there)), "memory") {
				continue
			}
			// Groups below have the controller only if this one says so.
			if err := os.WriteFile(filepath.Join(fields[1], "cgroup.subtree_control"), []byte("+memory"), 0); err != nil {
				t.Fatalf("a memory cgroup needs the memory controller for groups in %s: %v", fields[1], err)
			}
			return fields[1], true
		case fields[2] == "cgroup" && slices.Contains(strings.Split(fields[3], ","), "memory"):
			root = fields[1]
		}
	}
	if root == "" {
		t.Fatal("a memory cgroup needs a mounted cgroup file system with the memory controller, of version 1 or 2")
	}
	return root, false
}

// killed returns how many processes of the group the kernel has ended for lack of
// memory.
func (g *memoryGroup) killed(t testing.TB) int64 {
	t.Helper()
	if g.v2 {
		return g.count(t, "memory.events", "oom_kill")
	}
	return g.count(t, "memory.oom_control", "oom_kill")
}

// sockets returns what the kernel holds for the group's sockets, in bytes.
func (g *memoryGroup) sockets(t testing.TB) int64 {
	t.Helper()
	if g.v2 {
		return g.count(t, "memory.stat", "sock")
	}
	return g.count(t, "memory.kmem.tcp.usage_in_bytes", "")
}

// count reads a number behind a word, or the whole of a file.
func (g *memoryGroup) count(t testing.TB, file, word string) int64 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if word != "" {
			if fields[0] != word {
				continue
			}
			fields = fields[1:]
		}
		n, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Fatalf("%s/%s has no %q", g.dir, file, word)
	return 0
}
