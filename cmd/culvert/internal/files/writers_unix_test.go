//go:build unix

package files

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// exposedTo says what a walk to a file finds, in one line.
func exposedTo(w *writers, path string) string {
	var lines []string
	for _, e := range w.exposures(path) {
		kind := "file "
		if e.folder {
			kind = "folder "
		}
		lines = append(lines, kind+e.path+" by "+e.who)
	}
	return strings.Join(lines, "; ")
}

func wantExposedTo(t *testing.T, path, want string) {
	t.Helper()
	if got := exposedTo(newWriters(), path); strings.Contains(got, "; ") || !says(got, want) {
		t.Errorf("%s is exposed as %q, want %q", path, got, want)
	}
}

const byEverybody = " … everybody"

// Whoever can write to a folder on the way can put another file in the place of
// the one that decides.
func TestFoldersOnTheWay(t *testing.T) {
	dir := openFolder(t)
	open := makeFolder(t, filepath.Join(dir, "open"), 0o777)
	safe := makeFolder(t, filepath.Join(open, "safe"), 0o755)
	file := makeFile(t, filepath.Join(safe, "ca.pem"), 0o644)
	wantExposedTo(t, file, "folder "+open+byEverybody)

	// One that only its user can enter is written to by nobody else.
	chmod(t, dir, 0o700)
	wantExposedTo(t, file, "")
	chmod(t, dir, 0o755)

	// In a sticky folder others' files stay.
	chmod(t, open, 0o777|fs.ModeSticky)
	wantExposedTo(t, file, "")

	// What isn't there is told by whoever opens it.
	wantExposedTo(t, filepath.Join(open, "none", "ca.pem"), "")
	chmod(t, open, 0o777)
	wantExposedTo(t, filepath.Join(open, "none", "ca.pem"), "folder "+open+byEverybody)

	chmod(t, open, 0o755)
	chmod(t, file, 0o666)
	wantExposedTo(t, file, "file "+file+byEverybody)
}

// A link is as safe as the folder that it is in, and what it leads to as that.
func TestLinksOnTheWay(t *testing.T) {
	dir := openFolder(t)
	open := makeFolder(t, filepath.Join(dir, "open"), 0o777)
	safe := makeFolder(t, filepath.Join(dir, "safe"), 0o755)
	file := makeFile(t, filepath.Join(safe, "ca.pem"), 0o644)
	inOpen := makeFile(t, filepath.Join(open, "ca.pem"), 0o644)
	for link, to := range map[string]string{
		filepath.Join(open, "link.pem"):     file,
		filepath.Join(safe, "link.pem"):     "../open/ca.pem",
		filepath.Join(safe, "folder"):       open,
		filepath.Join(safe, "loop"):         "loop",
		filepath.Join(safe, "same.pem"):     "ca.pem",
		filepath.Join(open, "through"):      "../safe",
		filepath.Join(safe, "absolute.pem"): inOpen,
	} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	exposed := "folder " + open + byEverybody
	wantExposedTo(t, filepath.Join(open, "link.pem"), exposed)
	wantExposedTo(t, filepath.Join(open, "through", "ca.pem"), exposed)
	wantExposedTo(t, filepath.Join(safe, "link.pem"), exposed)
	wantExposedTo(t, filepath.Join(safe, "absolute.pem"), exposed)
	wantExposedTo(t, filepath.Join(safe, "folder", "ca.pem"), exposed)
	wantExposedTo(t, filepath.Join(safe, "same.pem"), "")
	wantExposedTo(t, filepath.Join(safe, "loop"), "")
}

// Everybody can make a file in a folder like /tmp: one there of another user is
// that user's.
func TestStrangersFileInAStickyFolder(t *testing.T) {
	const stranger = 54321
	dir := openFolder(t)
	open := makeFolder(t, filepath.Join(dir, "tmp"), 0o777|fs.ModeSticky)
	file := makeFile(t, filepath.Join(open, "ca.pem"), 0o644)
	w := newWriters()
	who := "54321"
	if os.Geteuid() == 0 {
		if err := os.Chown(file, stranger, stranger); err != nil {
			t.Fatal(err)
		}
	} else { // culvert is the stranger
		who = userName(w.user)
		w.user = stranger
	}
	if got, want := exposedTo(w, file), "folder "+open+" … "+who; strings.Contains(got, "; ") || !says(got, want) {
		t.Errorf("exposed as %q, want %q", got, want)
	}
}

func TestGroupsThatCanWrite(t *testing.T) {
	const own, team, staff, alice = 2000, 3000, 50, 1001
	for _, c := range []struct {
		what    string
		place   place
		on      []place // the way
		exposed bool
	}{
		{"a team's file", place{mode: 0o664, user: alice, group: team}, nil, true},
		{"root's group", place{mode: 0o664, group: 0}, nil, false},
		{"culvert's group, as fsGroup is", place{mode: 0o660, group: own}, nil, false},
		{"the owner's own group", place{mode: 0o664, user: alice, group: alice}, nil, false},
		{"a system's group, a file", place{mode: 0o664, group: staff}, nil, true},
		{"a system's group, a folder", place{mode: 0o775, group: staff, folder: true}, nil, false},
		{"a team's folder", place{mode: 0o775, group: team, folder: true}, nil, true},
		{"a team that only reads", place{mode: 0o644, group: team}, nil, false},
		{"behind a closed folder", place{mode: 0o664, group: team}, []place{{mode: 0o700}}, false},
		{"behind a folder of the team", place{mode: 0o664, group: team}, []place{{mode: 0o755}, {mode: 0o750, group: team}}, true},
		{"behind a folder of others", place{mode: 0o664, group: team}, []place{{mode: 0o750, group: own}}, false},
		{"everybody, behind a folder of a group", place{mode: 0o666, group: own}, []place{{mode: 0o750, group: own}}, false},
	} {
		w := &writers{user: 65532, groups: []uint32{0, own}, told: map[string]bool{}}
		r := reach{everybody: true}
		for _, folder := range c.on {
			r.through(folder)
		}
		if found := w.look(nil, c.place, r); len(found) > 0 != c.exposed {
			t.Errorf("%s: %+v, want exposed %v", c.what, found, c.exposed)
		}
	}
}

// The containers of a pod share its volumes by intent, whatever their modes.
func TestVolumesOfAPod(t *testing.T) {
	emptyDir := place{mode: 0o777, folder: true, mount: true}
	inside := place{path: "certs", mode: 0o777, folder: true}
	for _, pod := range []bool{true, false} {
		w := &writers{pod: pod, told: map[string]bool{}}
		if found := w.look(nil, emptyDir, reach{everybody: true}); len(found) > 0 == pod {
			t.Errorf("in a pod %v: an emptyDir is %+v", pod, found)
		}
		if found := w.look(nil, inside, reach{everybody: true}); len(found) != 1 {
			t.Errorf("in a pod %v: a folder within is %+v", pod, found)
		}
	}
}
