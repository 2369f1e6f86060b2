// Package inspect is what tools ask of a pipeline: how its channels and groups are doing, where an event is, what was set
// aside, and what an operator does about it.
package inspect

import (
	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/internal/link"
)

// Pipeline is a pipeline as tools see it. Its methods are safe for concurrent use. An error wraps [stage.ErrUnavailable] if
// Redis is away.
type Pipeline struct{ link *link.Link }

// New looks at the pipeline of b, which the caller goes on to own.
func New(b *stage.Broker) *Pipeline { return &Pipeline{b.Link()} }
