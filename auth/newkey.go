package auth

import (
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/apikey"
)

// NewAPIKey returns a new API key, and its line for the file of APIKeys, which has its hash
// alone. A zero expires means that the key doesn't expire. The error says what is wrong with the
// name or the scopes.
func NewAPIKey(name string, scopes []string, expires time.Time) (key, line string, err error) {
	return apikey.Generate(name, scopes, expires)
}

// CheckAPIKeys reads the content of a file of APIKeys, and returns how many keys it has, or
// which line is wrong. The error has none of the line's words.
func CheckAPIKeys(data []byte) (keys int, err error) {
	k, err := apikey.Parse(data)
	if err != nil {
		return 0, err
	}
	return k.Len(), nil
}
