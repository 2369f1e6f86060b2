// Package inspect is for tools: it reads the state of a pipeline, finds events, and does what an
// operator decides about dead letters and groups.
package inspect

import (
	"context"
	"fmt"

	"github.com/milepost/milepost/pkg/stage"
	"github.com/milepost/milepost/pkg/stage/internal/link"
)

// Pipeline is a pipeline as tools see it. Its methods are safe for concurrent use. Their errors
// wrap [stage.ErrUnavailable] if Redis is away.
type Pipeline struct {
	b    *stage.Broker
	link *link.Link
}

// New uses the connection of b, which must stay open.
func New(b *stage.Broker) *Pipeline { return &Pipeline{b, b.Link()} }

// whole is an error if the pipeline has several shards, which this package does not read yet.
func (p *Pipeline) whole(ctx context.Context) error {
	links, err := p.b.Shards(ctx)
	if err == nil && len(links) > 1 {
		err = fmt.Errorf("%w: status, find, dead letters and groups of a Redis Cluster cannot be shown yet", stage.ErrCluster)
	}
	return err
}
