package main

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/milepost/milepost/pkg/event"
)

type payload struct {
	Type   string // in Go
	Import string // the import line of its package
	Sample string // an example, for the test

	publisher string // the service of Milepost that publishes it
}

const (
	module   = "github.com/milepost/milepost/"
	eventPkg = `"` + module + `pkg/event"`
	sampleID = `"id":"018f0000-0000-7000-8000-000000000001"`
	place    = `"lat":"40.7128","long":"-74.0060"`
)

var channels = map[string]payload{
	event.RawInput:           {"event.Submission", eventPkg, `{"email":"ada@example.com",` + place + `}`, "web-api"},
	event.CalculatedDistance: {"event.Result", eventPkg, `{"email":"ada@example.com","distance_from_velocity":5679.94,` + place + `}`, "distance"},
	event.UserEmail:          {"event.Address", eventPkg, `ada@example.com`, "db"},
	event.EmailSent:          {"event.Sent", eventPkg, `{` + sampleID + `,"email":"ada@example.com","distance_from_velocity":5679.94,"sent_at":"2026-01-02T03:04:05Z"}`, "email"},
	event.WeatherReport:      {"weather.Report", `"` + module + `services/weather"`, `{` + sampleID + `,` + place + `,"temperature":21.5,"source":"cache"}`, "weather"},
}

// payloadOf is the payload of the channel that s reads: that of a channel of Milepost, the Output
// of the service that was written for this channel, else JSON of any shape.
func payloadOf(s spec) (payload, error) {
	if p, ok := channels[s.From]; ok {
		return p, nil
	}
	sources, err := filepath.Glob(filepath.Join(s.Root, "services", "*", "*.go"))
	if err != nil {
		return payload{}, err
	}
	publishes := regexp.MustCompile(`(?m)^\s*Out\s+= "` + regexp.QuoteMeta(s.From) + `"$`)
	for _, file := range sources {
		b, err := os.ReadFile(file)
		if err != nil {
			return payload{}, err
		}
		if publishes.Match(b) && strings.Contains(string(b), "\ntype Output struct {") {
			other := spec{Name: filepath.Base(filepath.Dir(file))}
			return payload{Type: other.pkg() + ".Output", Import: importLine(other), Sample: `{` + sampleID + `}`}, nil
		}
	}
	return payload{Type: "json.RawMessage", Import: `"encoding/json"`, Sample: `{}`}, nil
}

// importLine imports the package of a service, by its own name.
func importLine(s spec) string {
	line := `"` + path.Join(module, "services", s.Name) + `"`
	if s.pkg() != s.Name {
		line = s.pkg() + " " + line
	}
	return line
}
