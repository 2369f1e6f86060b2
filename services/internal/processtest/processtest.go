// Package processtest is for tests of programs.
package processtest

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Until asks address until the answer has the text, 30 s at most. It fails the test at once if the program ends.
func Until(t testing.TB, address, text string, ended <-chan error) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var body []byte
		resp, err := http.Get(address)
		if err == nil {
			body, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if err == nil && strings.Contains(string(body), text) {
			return
		}
		select {
		case err := <-ended:
			t.Fatalf("the program ended with %v", err)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("GET %s: %q, %v; want %q", address, body, err, text)
		}
	}
}
