package kubelet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A cgroup is the parent of those of all pods: a folder in each hierarchy. A machine
// may have those of version 1 and, without controllers, that of version 2.
type cgroup struct {
	name string
	dirs []string
}

// makeCgroup makes a cgroup below the root.
func makeCgroup() (_ *cgroup, err error) {
	parents, err := hierarchies()
	if err != nil {
		return nil, err
	}
	g := &cgroup{name: fmt.Sprintf("culvert-e2e-%d", os.Getpid())}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.remove())
		}
	}()
	for _, parent := range parents {
		dir := filepath.Join(parent, g.name)
		if err := passControllers(parent); err != nil {
			return nil, err
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
		g.dirs = append(g.dirs, dir)
		if err := copyProcessors(parent, dir); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// copyProcessors gives a cgroup the processors of its parent. In version 1 a new one has
// none, and so can have no process.
func copyProcessors(parent, dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		text, err := os.ReadFile(filepath.Join(parent, file))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), text, 0)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // another controller's, or version 2
			return err
		}
	}
	return nil
}

// passControllers gives the controllers that a kubelet uses to the cgroups below, as
// version 2 asks.
func passControllers(dir string) error {
	there, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // version 1
		return err
	}
	for _, c := range strings.Fields(string(there)) {
		if slices.Contains([]string{"cpu", "cpuset", "memory", "pids", "io", "hugetlb"}, c) {
			if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// hierarchies returns where hierarchies are mounted.
func hierarchies() (dirs []string, err error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line) // device, directory, type, options: fstab(5)
		if fields[2] == "cgroup" || fields[2] == "cgroup2" {
			dirs = append(dirs, fields[1])
		}
	}
	if len(dirs) == 0 {
		return nil, errors.New("a node needs a mounted cgroup file system, of version 1 or 2")
	}
	return dirs, nil
}

// remove removes the cgroup and all below it, whose processes must have ended.
func (g *cgroup) remove() error {
	var errs []error
	for _, top := range g.dirs {
		var dirs []string
		err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		errs = append(errs, err)
		for _, dir := range slices.Backward(dirs) {
			errs = append(errs, removeCgroup(dir))
		}
	}
	return errors.Join(errs...)
}

// removeCgroup tries again for some time: the kernel may not be through with the last
// process.
func removeCgroup(dir string) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	end := time.After(10 * time.Second)
	for {
		err := os.Remove(dir)
		if err == nil {
			return nil
		}
		select {
		case <-end:
			return err
		case <-again.C:
		}
	}
}
