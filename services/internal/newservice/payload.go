package main

import "github.com/milepost/milepost/pkg/event"

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

// payloadOf is the payload of a channel: of one of Milepost, else JSON of any shape.
func payloadOf(channel string) payload {
	if p, ok := channels[channel]; ok {
		return p
	}
	return payload{Type: "json.RawMessage", Import: `"encoding/json"`, Sample: `{}`}
}
