//go:build unix

package config

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestPipesAreReadWithPatience: a writer may come late, but not never.
func TestPipesAreReadWithPatience(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(flags int) *os.File {
		t.Helper()
		f, err := os.OpenFile(pipe, flags|syscall.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	wantLate := func(name string, f *os.File) {
		t.Helper()
		if data, err := readPipe(pipe, f, 100*time.Millisecond); err == nil || !strings.Contains(err.Error(), pipe+": is a pipe, and no program has written it to its end within 100ms") {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	f := open(os.O_RDONLY)
	wantLate("without a writer", f)
	writer := open(os.O_WRONLY)
	wantLate("with a writer that says nothing", f)
	if _, err := writer.WriteString("half"); err != nil {
		t.Fatal(err)
	}
	wantLate("with a writer that doesn't end", f)
	_ = writer.Close()

	wrote := make(chan error, 1)
	go func() { wrote <- os.WriteFile(pipe, []byte("errors: detailed\n"), 0o600) }() // it waits for the reader
	l, err := Load(Options{}, pipe, nil)
	if err != nil || l.Errors != "detailed" {
		t.Errorf("with a writer: %v", err)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	f = open(os.O_RDONLY)
	late := time.AfterFunc(200*time.Millisecond, func() { wrote <- os.WriteFile(pipe, []byte("errors: detailed\n"), 0o600) })
	defer late.Stop()
	if data, err := readPipe(pipe, f, time.Minute); err != nil || string(data) != "errors: detailed\n" {
		t.Errorf("with a late writer: %q, %v", data, err)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
}

// TestDevicesAreReadWithPatience: nobody may type on a terminal.
func TestDevicesAreReadWithPatience(t *testing.T) {
	const terminal = "/dev/ptmx"
	f, err := os.OpenFile(terminal, os.O_RDWR|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if data, err := readDevice(terminal, f, 100*time.Millisecond); err == nil || !strings.Contains(err.Error(), terminal+": is a device, and its end hasn't come within 100ms") {
		t.Errorf("%q, %v", data, err)
	}
	if data, err := readBounded(os.DevNull); err != nil || len(data) > 0 {
		t.Errorf("%s: %q, %v", os.DevNull, data, err)
	}
}
