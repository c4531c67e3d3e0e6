// Command images assembles the container images of the Dockerfile without a container
// engine. Each image becomes an OCI layout in a folder, and the same layout in one
// file for "ctr images import".
//
// Two builds of one commit by one version of Go are the same bytes, on any machine.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	out := flag.String("out", "../../dist/images", "the folder for the images")
	source := flag.String("source", "../..", "the root of the source tree")
	version := flag.String("version", "dev", "the version that the programs print")
	commit := flag.String("commit", "", "the commit that the programs print")
	platforms := flag.String("platforms", "linux/amd64,linux/arm64", "the platforms of the images")
	flag.Parse()

	created, err := creationTime(ctx, *source)
	if err != nil {
		return err
	}
	b := builder{source: *source, version: *version, commit: *commit, platforms: strings.Split(*platforms, ","), created: created}
	images, err := b.recipes()
	if err != nil {
		return err
	}
	for _, image := range images {
		dir := filepath.Join(*out, image.name)
		if err := b.write(ctx, image, dir); err != nil {
			return fmt.Errorf("%s: %w", image.name, err)
		}
		if err := check(dir, image, b); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		if err := archive(dir, dir+".tar", created); err != nil {
			return err
		}
		fmt.Printf("%s: %s, and the same in %s.tar\n", dir, *platforms, dir)
	}
	return nil
}

// creationTime returns the time in SOURCE_DATE_EPOCH, or else the commit's. It becomes
// the time of everything in the images: with the clock's, no two builds would be equal.
func creationTime(ctx context.Context, source string) (time.Time, error) {
	seconds := os.Getenv("SOURCE_DATE_EPOCH")
	if seconds == "" {
		git := exec.CommandContext(ctx, "git", "log", "-1", "--format=%ct")
		git.Dir = source
		git.Stderr = os.Stderr
		out, err := git.Output()
		if err != nil {
			return time.Time{}, fmt.Errorf("git doesn't know when the commit was made: set SOURCE_DATE_EPOCH to the seconds since 1970: %w", err)
		}
		seconds = strings.TrimSpace(string(out))
	}
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH=%s: want the seconds since 1970", seconds)
	}
	return time.Unix(n, 0).UTC(), nil
}
