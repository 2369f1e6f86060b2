// Package inspect is for tools: it reads the state of a pipeline, finds events, and does what an
// operator decides about dead letters and groups.
package inspect

import (
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/internal/link"
)

// Pipeline is a pipeline as tools see it. Its methods are safe for concurrent use. Their errors
// wrap [stage.ErrUnavailable] if Redis is away.
type Pipeline struct{ link *link.Link }

// New uses the connection of b, which must stay open.
func New(b *stage.Broker) *Pipeline { return &Pipeline{b.Link()} }
