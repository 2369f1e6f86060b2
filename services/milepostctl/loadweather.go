package milepostctl

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

func (t *tool) loadWeather() *cobra.Command {
	l := load{}
	var base string
	var cities []string
	cmd := &cobra.Command{
		Use:   "weather",
		Short: "Ask the weather service for cities in turn",
		Long:  `weather asks the weather service for each of the cities in turn, and prints the total time and the mean time for 1 request.`,
		Example: `  milepostctl load weather --cities moskva,tokyo,london --requests 18
  milepostctl load weather --requests 10000 --concurrency 50`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := l.check(); err != nil {
				return err
			}
			if err := checkURL(base); err != nil {
				return err
			}
			if len(cities) == 0 {
				return usage("--cities: name at least one")
			}
			client := newClient(l.concurrency, t.timeout)
			defer client.CloseIdleConnections()
			bar := t.bar(l.requests, "requests")
			m := l.run(cmd.Context(), func(ctx context.Context, n int) string {
				city := url.PathEscape(cities[n%len(cities)])
				_, status := send(ctx, client, http.MethodGet, strings.TrimRight(base, "/")+"/api/weather/"+city, nil, "")
				return status
			}, func() { _ = bar.Add(1) })
			_ = bar.Finish()
			if t.output == "json" {
				return t.measured(m)
			}
			s := m.summary()
			_, err := fmt.Fprintf(t.Out, "Total time: %.3f s\nMean time for 1 request: %.4f s\nlatency  %s\nstatus   %s\n",
				s.Total, s.Mean, s.Latency, counted(s.Status))
			return err
		},
	}
	l.flags(cmd, 18, 1)
	cmd.Flags().StringVar(&base, "url", "http://127.0.0.1:8002", "where the weather service is")
	cmd.Flags().StringSliceVar(&cities, "cities", []string{"moskva", "tokyo", "london"}, "the cities, separated by commas")
	return cmd
}
