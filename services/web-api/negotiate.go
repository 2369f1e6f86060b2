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

// accepted returns the offer with the highest weight in the request's Accept header (RFC 9110,
// 12.5.1). If weights are equal, or no offer is acceptable, it returns the first: an answer of
// another type is more useful than a 406.
func accepted(r *http.Request, offers ...string) string {
	best, bestQ := offers[0], 0.0
	for _, offer := range offers {
		if q := quality(r.Header.Values("Accept"), offer); q > bestQ {
			best, bestQ = offer, q
		}
	}
	return best
}

// quality returns the weight of the most specific range that matches the media type offer. Without
// any range it is 1.
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

// prefersJSON reports whether to answer with JSON. A client that sends JSON gets it by default,
// any other client gets a page by default.
func prefersJSON(r *http.Request) bool {
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.EqualFold(strings.TrimSpace(kind), typeJSON) {
		return accepted(r, typeJSON, typeHTML) == typeJSON
	}
	return accepted(r, typeHTML, typeJSON) == typeJSON
}

func takesGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		name, params, _ := strings.Cut(strings.ReplaceAll(coding, " ", ""), ";")
		if strings.EqualFold(name, "gzip") {
			return !strings.HasPrefix(params, "q=0") || strings.Trim(params, "q=0.") != ""
		}
	}
	return false
}
