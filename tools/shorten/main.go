// Command shorten runs a program that runs tests, and leaves most of the stacks out of its
// output that a test binary prints after its time-out. It keeps the names of the running
// tests and the stacks of those that wait for something themselves.
//
//	shorten PROGRAM ARGUMENT...
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: shorten PROGRAM ARGUMENT...")
		os.Exit(2)
	}
	// The program gets the interrupt, too, and then prints its summary.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	err := run(os.Stdout, exec.CommandContext(context.Background(), os.Args[1], os.Args[2:]...)) //nolint:gosec // the Makefile names it
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(max(1, exit.ExitCode())) // -1 after a signal
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "shorten:", err)
		os.Exit(1)
	}
}

// run runs the program, and copies its output.
func run(to io.Writer, program *exec.Cmd) error {
	program.Stdin, program.Stderr = os.Stdin, os.Stderr
	out, err := program.StdoutPipe()
	if err != nil {
		return err
	}
	if err := program.Start(); err != nil {
		return err
	}
	copied := shorten(to, out)
	if copied != nil {
		_, _ = io.Copy(io.Discard, out) // the program must not wait for a reader
	}
	return errors.Join(program.Wait(), copied)
}

// shorten copies until the input ends.
func shorten(to io.Writer, from io.Reader) error {
	in := bufio.NewReader(from)
	var after *stacks // a time-out
	for {
		line, err := in.ReadString('\n')
		if after != nil && !after.take(line) {
			if _, err := io.WriteString(to, after.end()); err != nil {
				return err
			}
			after = nil
		}
		if after == nil {
			if _, err := io.WriteString(to, line); err != nil {
				return err
			}
			if strings.HasPrefix(strings.TrimLeft(line, " "), "panic: test timed out after ") {
				after = new(stacks)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// maxLines bounds one stack.
const maxLines = 40

// stacks are what follows the message of a time-out.
type stacks struct {
	text    strings.Builder
	stack   []string // of the current goroutine, with the line of its state
	begun   bool     // the first goroutine was seen
	blank   bool     // the last line was blank
	leftOut int
}

// take takes one line, and returns false if it is the first behind the stacks.
func (s *stacks) take(line string) bool {
	blank := strings.TrimSpace(line) == ""
	goroutine := strings.HasPrefix(strings.TrimLeft(line, " "), "goroutine ")
	switch {
	case goroutine:
		s.close()
		s.begun, s.stack = true, []string{line}
	case !s.begun:
		if strings.HasPrefix(strings.TrimSpace(line), "=== ") || line == "" {
			return false
		}
		s.text.WriteString(line) // the names of the tests
	case blank && line != "":
	case s.blank || line == "" || isResult(line):
		return false
	default:
		s.stack = append(s.stack, line)
	}
	s.blank = blank
	return true
}

// isResult reports whether go test says how the package ended.
func isResult(line string) bool {
	return slices.ContainsFunc([]string{"FAIL", "exit status ", "=== "}, func(begin string) bool { return strings.HasPrefix(line, begin) })
}

// close writes the current stack, if it is a test's own. A test that waits for its
// subtests or for its turn stands inside package testing.
func (s *stacks) close() {
	if len(s.stack) == 0 {
		return
	}
	test := strings.Contains(strings.Join(s.stack, ""), "testing.tRunner(")
	if !test || strings.HasPrefix(strings.TrimSpace(s.stack[min(1, len(s.stack)-1)]), "testing.(") {
		s.leftOut++
		s.stack = nil
		return
	}
	for i, line := range s.stack {
		if i == maxLines {
			fmt.Fprintf(&s.text, "\t... %d lines more\n", len(s.stack)-maxLines)
			break
		}
		s.text.WriteString(line)
	}
	s.text.WriteString("\n")
	s.stack = nil
}

// end returns what is left of the stacks.
func (s *stacks) end() string {
	s.close()
	if s.leftOut > 0 {
		fmt.Fprintf(&s.text, "(the stacks of %d other goroutines are left out: \"go test\" with that test prints them)\n", s.leftOut)
	}
	return s.text.String()
}
