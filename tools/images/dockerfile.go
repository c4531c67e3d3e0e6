package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// A recipe is a stage of the Dockerfile that is an image.
type recipe struct {
	name   string
	copies []copied
	config v1.Config
}

// A copied is a file that the image takes from another stage.
type copied struct {
	source string // in the other stage
	path   string
	build  string // the command of the other stage that makes the file; empty for a file of its base image
}

// readDockerfile returns the stages that are made from scratch. An instruction that an
// image can't be assembled from without an engine is an error.
func readDockerfile(dockerfile io.Reader, args map[string]string) (images []recipe, err error) {
	parsed, err := parser.Parse(dockerfile)
	if err != nil {
		return nil, err
	}
	stages, global, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return nil, err
	}
	defaults := arguments(args)
	for i := range global {
		defaults.declare(&global[i])
	}
	for _, stage := range stages {
		if stage.BaseName != "scratch" {
			continue
		}
		image := recipe{name: stage.Name, config: v1.Config{
			// What BuildKit gives to images from scratch.
			Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			WorkingDir: "/",
		}}
		lex, known := shell.NewLex(parsed.EscapeToken), environment{}
		for _, command := range stage.Commands {
			if arg, isArg := command.(*instructions.ArgCommand); isArg {
				known.take(arg, defaults)
				continue
			}
			if words, has := command.(instructions.SupportsSingleWordExpansion); has {
				expand := func(word string) (string, error) {
					expanded, _, err := lex.ProcessWord(word, known)
					return expanded, err
				}
				if err := words.Expand(expand); err != nil {
					return nil, fmt.Errorf("%s: %w", command, err)
				}
			}
			if err := image.follow(command, stages); err != nil {
				return nil, fmt.Errorf("the image %s: %w", image.name, err)
			}
		}
		images = append(images, image)
	}
	return images, nil
}

// follow changes the image as the instruction says.
func (r *recipe) follow(command instructions.Command, stages []instructions.Stage) error {
	switch c := command.(type) {
	case *instructions.CopyCommand:
		if len(c.SourcePaths) != 1 || c.From == "" {
			return fmt.Errorf("%s: want one file of another stage", c)
		}
		build, err := buildOf(c.SourcePaths[0], c.From, stages)
		if err != nil {
			return err
		}
		r.copies = append(r.copies, copied{source: c.SourcePaths[0], path: c.DestPath, build: build})
	case *instructions.LabelCommand:
		if r.config.Labels == nil {
			r.config.Labels = map[string]string{}
		}
		for _, label := range c.Labels {
			r.config.Labels[label.Key] = label.Value
		}
	case *instructions.UserCommand:
		r.config.User = c.User
	case *instructions.ExposeCommand:
		r.config.ExposedPorts = map[string]struct{}{}
		for _, port := range c.Ports {
			if !strings.Contains(port, "/") {
				port += "/tcp"
			}
			r.config.ExposedPorts[port] = struct{}{}
		}
	case *instructions.HealthCheckCommand:
		h := c.Health
		r.config.Healthcheck = &v1.HealthConfig{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, Retries: h.Retries}
	case *instructions.EntrypointCommand:
		r.config.Entrypoint = c.CmdLine
		return wantList(c.PrependShell, c)
	case *instructions.CmdCommand:
		r.config.Cmd = c.CmdLine
		return wantList(c.PrependShell, c)
	default:
		return fmt.Errorf("%s: tools/images can't do that without an engine", command)
	}
	return nil
}

// wantList refuses the form of a command that needs a shell.
func wantList(needsShell bool, command fmt.Stringer) error {
	if needsShell {
		return fmt.Errorf("%s: want the strings in a list, since the image has no shell", command)
	}
	return nil
}

// buildOf returns the command of a stage that writes the file. A stage that writes none
// of its files has them from its base image.
func buildOf(file, stage string, stages []instructions.Stage) (string, error) {
	i, found := instructions.HasStage(stages, stage)
	if !found {
		return "", fmt.Errorf("no stage is named %s", stage)
	}
	for _, command := range stages[i].Commands {
		run, isRun := command.(*instructions.RunCommand)
		if isRun && strings.Contains(strings.Join(run.CmdLine, " "), " -o "+file+" ") {
			return strings.Join(run.CmdLine, " "), nil
		}
	}
	return "", nil
}

// arguments are the values of build arguments.
type arguments map[string]string

// declare adds the default of an argument that has no value.
func (a arguments) declare(arg *instructions.ArgCommand) {
	for _, pair := range arg.Args {
		if _, given := a[pair.Key]; !given && pair.Value != nil {
			a[pair.Key] = *pair.Value
		}
	}
}

// An environment has the arguments that a stage has declared: no other argument exists
// in that stage.
type environment map[string]string

func (e environment) take(arg *instructions.ArgCommand, values arguments) {
	for _, pair := range arg.Args {
		e[pair.Key] = pair.ValueString()
		if value, given := values[pair.Key]; given {
			e[pair.Key] = value
		}
	}
}

// Get implements shell.EnvGetter.
func (e environment) Get(key string) (string, bool) {
	value, found := e[key]
	return value, found
}

// Keys implements shell.EnvGetter.
func (e environment) Keys() []string { return slices.Collect(maps.Keys(e)) }
