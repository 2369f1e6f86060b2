// Package program is the body of main of all programs of the pipeline: the command line, signals and the drain.
//
// A main is a [Program] with its configuration type and a function:
//
//	program.Program[settings]{
//		Name:  "distance",
//		Does:  "works out how far each submitted place is from the office",
//		Admin: "127.0.0.1:9101",
//		Run: func(ctx context.Context, cfg settings, p *program.Process) error {
//			broker, err := p.Open(cfg.Broker)
//			if err != nil {
//				return err
//			}
//			defer broker.Close()
//			return distance.Run(ctx, distance.Deps{Broker: broker, Tuning: cfg.Tuning, Admin: p.Admin})
//		},
//	}.Main()
//
// A configuration type embeds what it needs, [config.Broker], [config.Mongo] or [config.Office], and adds fields of its own; see [config.Load] for their
// tags.
package program
