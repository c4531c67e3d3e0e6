package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/culvert-grpc/culvert/auth"
)

func newKeysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "keys",
		Short:   "Make API keys for clients",
		Example: `  culvert keys new ci-deploy --file /etc/culvert/api-keys`,
		Args:    knownCommand,
		RunE:    showHelp,
	}
	cmd.AddCommand(newKeysNewCommand())
	return cmd
}

// A newKey has the flags of keys new.
type newKey struct {
	scopes  []string
	expires string
	file    string
}

func newKeysNewCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Make an API key, and its line for the file of API keys",
		Long: `new makes a random API key, and prints it on standard output. Nobody can see it
again: the file in auth.api_keys.file has its hash alone. The name identifies its
owner in rules, in the log and to the backend.

With --file, new appends the key's line to this file, and makes the file if there
is none. Without --file, it prints the line on standard error. A running culvert
reads the file again at once. To revoke a key, remove its line.`,
		Example: `  culvert keys new ci-deploy --file /etc/culvert/api-keys
  culvert keys new ci-deploy --scopes orders.read,orders.write --expires 2027-06-30
  culvert keys new ci-deploy --expires 90d --file api-keys > ci-deploy.key`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("new takes one name, but got %d arguments", len(args))
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	n := &newKey{}
	flags := cmd.Flags()
	flags.StringSliceVar(&n.scopes, "scopes", nil, "`scopes` of the key, separated by commas")
	flags.StringVar(&n.expires, "expires", "", "last day of the key (2027-06-30), `time` of its end (2027-06-30T12:00:00Z), or how long it lasts (90d, 12h); default: it doesn't expire")
	flags.StringVar(&n.file, "file", "", "`file` of API keys to which the key's line is appended")
	mustComplete(cmd.RegisterFlagCompletionFunc("scopes", cobra.NoFileCompletions))
	mustComplete(cmd.RegisterFlagCompletionFunc("expires", cobra.NoFileCompletions))
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return n.run(cmd, args[0], time.Now()) }
	return cmd
}

func (n *newKey) run(cmd *cobra.Command, name string, now time.Time) error {
	expires, err := expiry(n.expires, now)
	if err != nil {
		return &misuse{fmt.Errorf("--expires: %w", err)}
	}
	key, line, err := auth.NewAPIKey(name, n.scopes, expires)
	if err != nil {
		return &misuse{err}
	}
	if n.file == "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "# append this line to the file in auth.api_keys.file\n%s\n", line)
	} else if err := appendKey(n.file, line); err != nil { // before the key: nobody needs one that doesn't count
		return fmt.Errorf("--file: %w", err)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), key)
	return err
}

// expiry returns when a key ends: "" is never.
func expiry(text string, now time.Time) (end time.Time, err error) {
	if text == "" {
		return end, nil
	}
	if end, err = time.Parse(time.DateOnly, text); err == nil {
		end = end.AddDate(0, 0, 1) // it is the last day
	} else if end, err = time.Parse(time.RFC3339, text); err != nil {
		lasts, err := lasting(text)
		if err != nil {
			return end, fmt.Errorf("%q is neither a date nor a duration: write 2027-06-30, 2027-06-30T12:00:00Z, 90d or 12h", text)
		}
		end = now.Add(lasts)
	}
	if !end.After(now) {
		return end, fmt.Errorf("%q is over: write a later one", text)
	}
	return end.UTC(), nil
}

// maxDays keeps a duration in the range of its type.
const maxDays = 100_000

// lasting is time.ParseDuration, and takes days.
func lasting(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n > maxDays {
			return 0, errors.New("not a number of days")
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	return time.ParseDuration(text)
}

// appendKey appends a line to a file of API keys, unless the file would be wrong then. It writes
// once, so that a culvert that reads the file sees all of the line or none.
func appendKey(name, line string) error {
	before, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(before) > 0 && !bytes.HasSuffix(before, []byte("\n")) {
		line = "\n" + line
	}
	line += "\n"
	if _, err := auth.CheckAPIKeys(append(before, line...)); err != nil {
		return fmt.Errorf("with the new key, %s would be wrong, so it stays as it is: %w", name, err)
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640) //nolint:gosec // the operator's; it has no secret
	if err != nil {
		return err
	}
	_, err = io.WriteString(file, line)
	return errors.Join(err, file.Close())
}
