// Package process is what all programs of the pipeline have in common: reading the environment, logs, the admin port,
// signals and the body of main.
//
// A main is a [Program] with its configuration type and a function:
//
//	process.Program[config]{
//		Name:  "distance",
//		Does:  "works out how far each submitted place is from the office",
//		Admin: "127.0.0.1:9101",
//		Run: func(ctx context.Context, cfg config, p *process.Process) error {
//			broker, err := p.Open(cfg.Broker)
//			if err != nil {
//				return err
//			}
//			defer broker.Close()
//			return distance.Run(ctx, distance.Deps{Broker: broker, Tuning: cfg.Tuning, Admin: p.Admin})
//		},
//	}.Main()
//
// A configuration type embeds what it needs, [Broker], [Mongo] or [Office], and adds fields of its own; see [Load] for their
// tags.
package process
