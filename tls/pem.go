package proxytls

import (
	"bytes"
	"encoding/pem"
	"fmt"
)

// pemBlocks returns the PEM blocks in data. pem.Decode skips a block that is
// damaged or truncated, and the rest would then pass for everything: a chain
// without its intermediates, a list without a revoked certificate. Here that is an
// error.
func pemBlocks(data []byte) ([]*pem.Block, error) {
	var blocks []*pem.Block
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		blocks = append(blocks, block)
	}
	begun := 0
	for line := range bytes.Lines(data) {
		line = bytes.TrimPrefix(bytes.TrimSpace(line), byteOrderMark) // of a file that was appended to another
		if bytes.HasPrefix(line, []byte("-----BEGIN")) {
			begun++
		}
	}
	if begun != len(blocks) {
		return nil, fmt.Errorf("of its %d PEM blocks only %d can be read: one is truncated, damaged or indented", begun, len(blocks))
	}
	return blocks, nil
}
