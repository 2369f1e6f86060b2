// Package program is the main of all programs of the pipeline: the command line, the environment,
// logs, the admin port, signals and the drain.
//
// A main is a [Program] with a configuration type and a function:
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
// The configuration type embeds what the program needs, such as [config.Broker], [config.Mongo] or
// [config.Office], and adds fields of its own, with the tags of [config.Load].
//
// After the first SIGINT or SIGTERM /readyz says stopping, the context of Run ends (after
// STOP_DELAY), and Run finishes what it holds and returns. [Serve] does so for an HTTP server.
package program
