package journal

import (
	"crypto/sha256"
	"strings"

	"github.com/google/uuid"
)

// key is an event ID in 16 bytes: a UUID itself, else the first 16 bytes of its SHA-256.
type key [16]byte

func keyOf(id string) key {
	// Only the canonical form: uuid.Parse also takes others, which are other event IDs.
	if len(id) == 36 && strings.ToLower(id) == id {
		if u, err := uuid.Parse(id); err == nil {
			return key(u)
		}
	}
	sum := sha256.Sum256([]byte(id))
	return key(sum[:16])
}
