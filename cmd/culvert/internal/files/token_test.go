package files

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
)

const (
	firstToken  = "f3b1c2d4e5a697887766554433221100"
	secondToken = "00112233445566778899aabbccddeeff"
)

func tokenOf(t *testing.T, text string) admin.Token {
	t.Helper()
	token, err := admin.NewToken(text)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestTokenFilesThatAreWrong: an error has the key and the remedy, and neither the content nor
// the path, which may be the token itself.
func TestTokenFilesThatAreWrong(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for path, says := range map[string]string{
		filepath.Join(dir, "a-missing-file"): "no such file",
		dir:                                  "isn't a regular file",
		file("no-content", ""):               "is empty",
		file("of-15", "0123456789abcde"):     "only 15 characters",
		file("of-many", strings.Repeat(firstToken, 10000)): "more than 512 characters",
		file("of-2-lines", firstToken+"\n"+secondToken):    "one token alone",
		file("of-abab", strings.Repeat("ab", 20)+"\n\n"):   "only 2 different",
	} {
		c := cmdtest.Load(t, "\nadmin: {token: "+path+"}")
		_, err := OpenToken(c, slog.New(slog.DiscardHandler), func(admin.Token) { t.Errorf("%s: a token is used", path) })
		if err == nil || !strings.Contains(err.Error(), "proxy.yaml:2: admin.token: ") || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "openssl rand") && says != "one token alone" {
			t.Errorf("%s: %v, want %q", path, err, says)
		} else if _, about, _ := strings.Cut(err.Error(), "admin.token: "); strings.Contains(about, filepath.Base(path)) || strings.Contains(about, firstToken[:8]) {
			t.Errorf("%s: the error shows what may be a secret: %v", path, err)
		}
	}
	// An address that is off, and a file that isn't named, need none.
	for _, content := range []string{"admin: {listen: 'off', token: /none/./token}", ""} {
		used := 0
		token, err := OpenToken(cmdtest.Load(t, content), slog.New(slog.DiscardHandler), func(got admin.Token) {
			if used++; got != (admin.Token{}) {
				t.Errorf("%q: a token is used", content)
			}
		})
		if err != nil || used != 1 || token.Problems() != nil {
			t.Errorf("%q: %v", content, err)
		}
	}
}

// TestTokenFileThatGoesBad: the token before stays, the log says each problem once unless
// somebody asks, and /readyz has it until it is solved.
func TestTokenFileThatGoesBad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	write := func(content string) {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(firstToken)
	var out bytes.Buffer
	var used []admin.Token
	c := cmdtest.Load(t, "admin: {token: "+path+"}")
	token, err := OpenToken(c, slog.New(slog.NewTextHandler(&out, nil)), func(now admin.Token) { used = append(used, now) })
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		what, content string
		asked         bool
		says, problem string
		used          int // so far
	}{
		{"the same", firstToken + "\n", true, "", "", 1},
		{"too short", "short", false, "level=WARN", "only 5 characters", 1},
		{"as before", "short", false, "", "only 5 characters", 1},
		{"as before, asked", "short", true, "level=WARN", "only 5 characters", 1},
		{"solved", firstToken, false, "msg=\"solved", "", 1},
		{"another one", secondToken, false, "", "", 2},
	} {
		out.Reset()
		write(step.content)
		token.update(step.asked)
		if lines := strings.Count(out.String(), "\n"); (step.says != "") != (lines == 1) || lines > 1 || !strings.Contains(out.String(), step.says) {
			t.Errorf("%s: the log has %q, want %q", step.what, &out, step.says)
		}
		if problems := strings.Join(token.Problems(), "\n"); (problems != "") != (step.problem != "") || !strings.Contains(problems, step.problem) {
			t.Errorf("%s: the problems are %q, want %q", step.what, problems, step.problem)
		}
		if len(used) != step.used {
			t.Errorf("%s: used %d tokens, want %d", step.what, len(used), step.used)
		}
	}
	if used[1] != tokenOf(t, secondToken) || !token.Reload() {
		t.Error("the second token isn't in use")
	}

	// A reload that names no file, or a wrong one.
	if _, _, err := token.Change(c, cmdtest.Load(t, "admin: {token: /none/./token}")); err == nil || len(used) != 2 {
		t.Errorf("a missing file: %v", err)
	}
	commit, _, err := token.Change(c, cmdtest.Load(t, ""))
	if err != nil || len(used) != 2 {
		t.Fatal(err)
	}
	commit()
	if len(used) != 3 || used[2] != (admin.Token{}) || token.Reload() {
		t.Errorf("without a file: %d tokens", len(used))
	}
}

// TestTokenFileIsWatched: a new token is in use once its file is there, as Kubernetes and
// editors put it there.
func TestTokenFileIsWatched(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "token")
	if err := os.WriteFile(path, []byte(firstToken), 0o600); err != nil {
		t.Fatal(err)
	}
	used := make(chan admin.Token, 10)
	token, err := OpenToken(cmdtest.Load(t, "admin: {token: "+path+"}"), slog.New(slog.DiscardHandler), func(now admin.Token) { used <- now })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	token.Start(ctx)
	defer token.Wait()
	defer cancel()
	wait := func(want string) {
		t.Helper()
		select {
		case got := <-used:
			if got != tokenOf(t, want) {
				t.Errorf("another token than %s is in use", want)
			}
		case <-time.After(cmdtest.Patience):
			t.Fatalf("%s isn't in use", want)
		}
	}
	wait(firstToken)
	for i, next := range []string{secondToken, firstToken} {
		temporary := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(temporary, []byte(next), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temporary, path); err != nil {
			t.Fatal(err)
		}
		wait(next)
	}
}

// TestTokenFileOfAReload: nothing runs without a file, and one that a reload names is watched.
func TestTokenFileOfAReload(t *testing.T) {
	used := make(chan admin.Token, 10)
	token, err := OpenToken(cmdtest.Load(t, ""), slog.New(slog.DiscardHandler), func(now admin.Token) { used <- now })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	token.Start(ctx)
	token.Wait() // for nothing
	defer token.Wait()
	defer cancel()
	path := filepath.Join(t.TempDir(), "token")
	wait := func(want admin.Token) {
		t.Helper()
		select {
		case got := <-used:
			if got != want {
				t.Error("another token is in use")
			}
		case <-time.After(cmdtest.Patience):
			t.Fatal("the token isn't in use")
		}
	}
	wait(admin.Token{})
	if err := os.WriteFile(path, []byte(firstToken), 0o600); err != nil {
		t.Fatal(err)
	}
	commit, _, err := token.Change(nil, cmdtest.Load(t, "admin: {token: "+path+"}"))
	if err != nil {
		t.Fatal(err)
	}
	commit()
	wait(tokenOf(t, firstToken))
	if err := os.WriteFile(path+"-next", []byte(secondToken), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+"-next", path); err != nil {
		t.Fatal(err)
	}
	wait(tokenOf(t, secondToken))
}
