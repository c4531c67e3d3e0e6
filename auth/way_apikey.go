package auth

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/apikey"
	"github.com/culvert-grpc/culvert/auth/internal/identity"
	"github.com/culvert-grpc/culvert/auth/internal/rules"
	"github.com/culvert-grpc/culvert/bridge"
)

// apiKeys are the way of API keys.
type apiKeys struct {
	*keyFile
	way int
}

func (w *apiKeys) judge(_ context.Context, _ *bridge.Peer, c *credential, f *findings) (finding, bool) {
	if c.text == "" || c.place == inCookie || c.place == inCertificate {
		return finding{}, false
	}
	mine := c.place == inKeyHeader || apikey.Made(c.text)
	switch {
	case !mine && strings.Count(c.text, ".") == 2: // a JWT
		return finding{}, false
	case f.has(w.way) && mine:
		return finding{}, true
	}
	id, err := w.store.Look(c.text, time.Now())
	if err == nil {
		return finding{Said: rules.Said{Finding: rules.Valid, Identity: id}, way: w.way}, true
	}
	refused, is := errors.AsType[*identity.Refusal](err)
	if !is || !mine && refused.Reason == identity.BadCredential {
		return finding{}, false // it may be an opaque token
	}
	return refusedFinding(w.way, refused), true
}

// A keyFile is a file of API keys, with the last good keys of it. It doesn't watch the file.
type keyFile struct {
	file  string
	store apikey.Store

	mu    sync.Mutex
	state APIKeysState
}

// read reads the file again. The last good keys stay in force if there is an error.
func (f *keyFile) read() error {
	keys, err := readKeys(f.file)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.state.Problem = err.Error()
		return err
	}
	f.store.Replace(keys)
	f.state = APIKeysState{File: f.file, Keys: keys.Len(), Read: time.Now()}
	return nil
}

func (f *keyFile) stateNow() APIKeysState {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

// readKeys reads a regular file: a pipe could block for ever, and is empty when it is read again.
// The null device has no keys each time.
func readKeys(name string) (*apikey.Keys, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() && name != os.DevNull {
		return nil, ofFile(name, errors.New("it isn't a regular file, so culvert can't read it again"))
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, apikey.MaxBytes+1))
	if err != nil {
		return nil, err
	}
	keys, err := apikey.Parse(data)
	if err != nil {
		return nil, ofFile(name, err)
	}
	return keys, nil
}

// header returns the metadata that has the key.
func (cfg *APIKeys) header() string { return cmp.Or(cfg.Header, "x-api-key") }

// keyNames returns the names of metadata with API keys, of which an operator may choose any.
func (cfg *Config) keyNames() []string {
	if cfg.APIKeys == nil {
		return nil
	}
	return []string{cfg.APIKeys.header()}
}

// openAPIKeys reads the file, or takes over the last good keys that before has of it.
func openAPIKeys(cfg *APIKeys, before *Authenticator) (*keyFile, *Mistake) {
	switch header := cfg.Header; {
	case cfg.File == "":
		return nil, mistake("api_keys.file", "is empty: name the file that has the keys")
	case header != "" && header != "authorization" && reserved(header), header == "cookie", strings.HasSuffix(header, "-bin"), header != strings.ToLower(header):
		return nil, mistake("api_keys.header", "is %q, which can't have a key: write another name, in lower case", header)
	}
	if before != nil && before.keyFile != nil && before.keyFile.file == cfg.File {
		_ = before.keyFile.read() // the last good keys stay, and the state has the error
		return before.keyFile, nil
	}
	f := &keyFile{file: cfg.File}
	if err := f.read(); err != nil {
		return nil, mistake("api_keys.file", "can't be read: %v", err)
	}
	return f, nil
}
