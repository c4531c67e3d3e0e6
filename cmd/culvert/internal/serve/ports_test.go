package serve

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/sockets"
)

// TestListenersAreBoundAllOrNone: one that can't be had gives the others back,
// and says where it stands.
func TestListenersAreBoundAllOrNone(t *testing.T) {
	taken, err := sockets.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }() // the test is over
	socket := filepath.Join(t.TempDir(), "s")
	loaded := cmdtest.Load(t, "listen:\n- unix:"+socket+"\n- address: "+taken.Addr().String()+"\n- 127.0.0.1:0\n")
	err = newTestProgram(t, loaded).open(t.Context())
	if want := "proxy.yaml:3: listen[1].address: " + taken.Addr().String() + ": address already in use"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	} else if _, remedy, _ := strings.Cut(err.Error(), want); !strings.Contains(remedy, " listen") {
		t.Errorf("%q names no key to change the address with", err)
	}
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the first listener's socket is still there: %v", err)
	}
}
