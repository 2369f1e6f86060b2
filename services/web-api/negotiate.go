package webapi

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

const (
	typeHTML   = "text/html"
	typeJSON   = "application/json"
	typeStream = "text/event-stream"
)

// accepted returns the offer that the request's Accept header likes best, the first one if it likes several as much or
// none at all (RFC 9110, 12.5.1; answering something beats answering 406).
func accepted(r *http.Request, offers ...string) string {
	best, bestQ := offers[0], 0.0
	for _, offer := range offers {
		if q := quality(r.Header.Values("Accept"), offer); q > bestQ {
			best, bestQ = offer, q
		}
	}
	return best
}

// quality is the weight of the most specific range that covers the media type; 1 if there is no range at all.
func quality(headers []string, offer string) float64 {
	q, specific, any := 0.0, 0, false
	for part := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		name, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		any = true
		rank := 0
		switch kind, _, _ := strings.Cut(offer, "/"); name {
		case offer:
			rank = 3
		case kind + "/*":
			rank = 2
		case "*/*":
			rank = 1
		}
		if rank <= specific {
			continue
		}
		specific, q = rank, 1
		if v, err := strconv.ParseFloat(params["q"], 64); err == nil {
			q = v
		}
	}
	if !any {
		return 1
	}
	return q
}
