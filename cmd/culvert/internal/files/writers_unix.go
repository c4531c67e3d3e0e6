//go:build unix

package files

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// writers finds the users and groups that can write to files and to the
// directories on their paths. A user who can write to a directory can replace
// a file in it. Root, culvert's own user and groups, and the owner of a file
// don't count. It reports each directory once.
type writers struct {
	user   uint32
	groups []uint32
	pod    bool
	told   map[string]bool
}

// firstUserGroup is the first group ID that distributions don't use for the
// system. /usr/local often belongs to a group of the system (staff).
const firstUserGroup = 1000

func newWriters() *writers {
	w := &writers{user: uint32(os.Geteuid()), groups: []uint32{0, uint32(os.Getegid())}, told: map[string]bool{}}
	more, _ := os.Getgroups() // unknown groups count as others'
	for _, g := range more {
		w.groups = append(w.groups, uint32(g))
	}
	_, w.pod = os.LookupEnv("KUBERNETES_SERVICE_HOST")
	return w
}

// A place is the target of a path.
type place struct {
	path          string
	mode          fs.FileMode
	user, group   uint32
	device        uint64
	folder, mount bool
}

func placeAt(path string) (p place, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return p, err
	}
	p = place{path: path, mode: info.Mode(), folder: info.IsDir()}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		p.user, p.group, p.device = s.Uid, s.Gid, uint64(s.Dev) //nolint:unconvert // its type is the system's
	}
	return p, nil
}

// exposures follows path as the kernel does, and checks each directory on the
// way, also the directories of symbolic links. It stops at a file that doesn't
// exist, because opening the file reports that.
func (w *writers) exposures(path string) []exposure {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil
	}
	var found []exposure
	for range maxFollowed {
		next := ""
		if found, next = w.walk(found, path); next == "" {
			break
		}
		path = next
	}
	return found
}

// walk follows path to its end or to the first symbolic link, and returns the
// target of the link.
func (w *writers) walk(found []exposure, path string) (_ []exposure, next string) {
	at, err := placeAt("/")
	if err != nil {
		return found, ""
	}
	reach := reach{everybody: true}
	rest := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, name := range rest {
		found = w.look(found, at, reach)
		reach.through(at)
		inside, err := placeAt(filepath.Join(at.path, name))
		if err != nil {
			return found, ""
		}
		if at.mode&fs.ModeSticky != 0 && at.mode&everybodyWrites != 0 && reach.everybody && !readOnly(at.path) && inside.user != 0 && inside.user != w.user && w.news(inside.path) {
			found = append(found, exposure{
				path: at.path, folder: true, who: "the user " + userName(inside.user),
				why: "is writable for everybody, and " + inside.path + " in it belongs to that user", remedy: "use a directory that only root and culvert's user can write to",
			})
		}
		if inside.mode&fs.ModeSymlink != 0 {
			return found, followLink(inside.path, rest[i+1:])
		}
		inside.mount = inside.device != at.device
		at = inside
	}
	return w.look(found, at, reach), ""
}

// look adds an exposure to found if others can write to the place.
func (w *writers) look(found []exposure, at place, r reach) []exposure {
	who := ""
	switch {
	case at.folder && at.mode&fs.ModeSticky != 0: // only the owner of a file can replace it
	case at.folder && at.mount && w.pod: // a volume that the pod's containers share on purpose
	case readOnly(at.path): // as Kubernetes mounts secrets, with any mode
	case at.mode&everybodyWrites != 0 && r.everybody:
		who = "everybody on this host"
	case at.mode&groupWrites != 0 && r.group(at.group) && !w.ownGroup(at):
		who = "the group " + groupName(at.group)
	}
	if who == "" || !w.news(at.path) {
		return found
	}
	e := exposure{path: at.path, folder: at.folder, who: who}
	if at.folder {
		e.why, e.remedy = "is writable for them", "use chmod go-w for the directory"
	}
	return append(found, e)
}

// ownGroup reports whether the group of the place doesn't count: root's,
// culvert's, or the owner's own group (many systems give each user a group
// with the same number). For directories, groups of the system don't count
// either.
func (w *writers) ownGroup(at place) bool {
	return slices.Contains(w.groups, at.group) || at.group == at.user || at.folder && at.group < firstUserGroup
}

func (w *writers) news(path string) bool {
	was := w.told[path]
	w.told[path] = true
	return !was
}

// A reach has the users and groups that can enter all directories on the way.
type reach struct {
	everybody bool
	closed    bool     // to all groups
	groups    []uint32 // that can enter, if not everybody can
}

func (r *reach) through(folder place) {
	if folder.mode&everybodyEnters != 0 {
		return
	}
	r.everybody = false
	if folder.mode&groupEnters == 0 {
		r.closed = true
	}
	r.groups = append(r.groups, folder.group)
}

func (r *reach) group(group uint32) bool {
	return !r.closed && !slices.ContainsFunc(r.groups, func(g uint32) bool { return g != group })
}

func groupName(id uint32) string {
	if g, err := user.LookupGroupId(strconv.FormatUint(uint64(id), 10)); err == nil {
		return g.Name
	}
	return fmt.Sprint(id)
}

func userName(id uint32) string {
	if u, err := user.LookupId(strconv.FormatUint(uint64(id), 10)); err == nil {
		return u.Username
	}
	return fmt.Sprint(id)
}
